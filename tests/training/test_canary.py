"""`submit --canary`: nothing starts before a short training with each code has ended well."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.planning import canary
from ddqjobs.planning.catalog import Catalog
from ddqjobs.spec.model import Resources, TaskKind
from tests.support.cli import Place, opened
from tests.support.paths import ROOT

# Two code trees with a training program of their own, which knows an option that ends it early. `good` or
# not decides whether the second one's trainings work.
TREES = r"""
name: tiny
implementations: {only: one}
codes:
  a: &code
    path: .
    commands: {train: [bash, train.sh, a, "{gpus}", "{input.data}", "{options}"]}
    canary: {options: {max_iters: 20}, products: {proof: "iter_20*"}}
  b: {<<: *code, commands: {train: [bash, train.sh, b, "{gpus}", "{input.data}", "{options}"]}}
models:
  m1: {implementations: {only: {code: a}}}
  m2: {implementations: {only: {code: b}}}
tasks:
  data:
    {kind: prepare, once: true, code: a, products: {d: d},
     command: [sh, -c, 'echo x > "$DDQJOBS_WORK_DIR/d"']}
  train: {kind: train, implementation: only, inputs: {data: data.d}}
  other: {kind: smoke, once: true, code: a, command: [sh, -c, 'echo ran > other']}
"""
SCRIPT = """
echo "$1 gpus=$2 $(cat "$3") ${*:4}" >> trace
case "$*" in *max_iters=20*) ;; *) exit 0 ;; esac
[ "$1" = a ] || [ -e good ] || { echo "ImportError: no module named ops"; exit 1; }
echo done > "$DDQJOBS_WORK_DIR/iter_20.pth.txt"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", TREES) as project:
        project.text("train.sh", SCRIPT)
        project.text(".gitignore", "*")
        yield project


def trace(place: Place) -> list[str]:
    return (place.root / "trace").read_text().splitlines()


def test_if_it_fails_nothing_else_starts_and_the_command_says_why(place: Place) -> None:
    ran = place.invoke("submit", "--canary", "--wait")
    assert ran.code == 1
    assert "error: canary.b: environment: exit 1, ImportError: no module named ops" in ran.err
    assert "nothing else was started. `ddqjobs logs tiny canary.b` shows why" in ran.err
    assert sorted(trace(place)) == [
        "a gpus=0 x --cfg-options max_iters=20",
        "b gpus=0 x --cfg-options max_iters=20",
    ]
    states = place.states()
    assert (states["canary.a"], states["canary.b"]) == ("done", "failed")
    assert (states["data"], states["train.m1"], states["other"]) == ("done", "eligible", "eligible")
    assert "no module named ops" in place.invoke("logs", "canary.b").out
    again = place.invoke("submit", "--canary", "--json")
    assert again.code == 1
    assert again.json["kind"] == "canary"
    assert list(again.json["failed"]) == ["canary.b"]
    assert len(trace(place)) == 2  # a failure stands until `retry`
    preview = place.invoke("submit", "--canary", "--dry-run")
    assert (preview.code, "ImportError" in preview.out) == (2, True), preview


def test_a_dry_run_shows_the_scripts_of_the_canaries_until_they_are_done(place: Place) -> None:
    (place.root / "good").touch()

    def shown() -> list[str]:
        ran = place.invoke("submit", "--canary", "--model", "m1", "--dry-run", "--json")
        assert ran.code == 0, ran
        return [run for one in ran.json["submissions"] for run in one["runs"]]

    assert shown() == ["data", "canary.a"]
    text = place.invoke("submit", "--canary", "--dry-run").out
    assert "max_iters=20" in text
    assert "the other runs follow once the canaries are done; without --canary this shows them" in text
    assert not (place.root / "results").exists()
    place.invoke("submit", "--canary", "--model", "m1", "--wait")
    assert place.invoke("remove", "train.m1", "--yes").code == 0
    assert shown() == ["train.m1"]


def test_when_all_are_well_the_rest_starts_and_they_are_not_repeated(place: Place) -> None:
    (place.root / "good").touch()
    ran = place.invoke("submit", "--canary", "--model", "m2")
    assert ran.code == 0, ran
    assert "canaries: canary.b: done" in ran.out  # only the code whose training is to start
    assert "submitted 1 run as tiny.train.m2" in ran.out
    place.invoke("submit", "--wait", "--canary")
    assert sorted(trace(place)) == [
        "a gpus=0 x ",
        "a gpus=0 x --cfg-options max_iters=20",
        "b gpus=0 x ",
        "b gpus=0 x --cfg-options max_iters=20",
    ]
    assert (place.root / "other").exists()
    product = json.loads((place.root / "results/tiny/runs/canary.b/product.json").read_text())
    assert product["artifacts"] == {"proof": "attempts/1/work_dir/iter_20.pth.txt"}


def test_a_canary_that_was_well_before_and_fails_now_keeps_the_rest_back(place: Place) -> None:
    (place.root / "good").touch()
    assert "canaries: canary.b: done" in place.invoke("submit", "--canary", "--model", "m2", "--wait").out
    (place.root / "good").unlink()
    place.text("experiments/tiny.yaml", TREES.replace("max_iters: 20}", "max_iters: 20, lr: 1}"))
    assert place.invoke("retry", "train.m2").code == 0
    assert place.invoke("submit", "data", "--stale", "--wait").code == 0
    before = len(trace(place))
    ran = place.invoke("submit", "--canary", "--model", "m2", "--wait")
    assert ran.code == 1, ran
    assert "a later repeat failed: exit 1, ImportError: no module named ops" in ran.err
    assert "nothing else was started" in ran.err
    assert trace(place)[before:] == ["b gpus=0 x --cfg-options max_iters=20 lr=1"]


def test_after_a_change_a_canary_is_tried_again(place: Place) -> None:
    (place.root / "good").touch()
    assert place.invoke("submit", "--canary", "--model", "m1").code == 0
    place.text("experiments/tiny.yaml", TREES.replace("max_iters: 20}", "max_iters: 20, lr: 1}"))
    place.invoke("retry", "train.m1")
    # The experiment lies in the tree of its code, which makes the data stale.
    refused = place.invoke("submit", "--canary", "--model", "m2")
    assert refused.code == 1
    assert "canary.b: needs data, which is stale" in refused.err
    place.invoke("accept", "tiny", "data", "--because", "only the canaries changed")
    place.invoke("submit", "--canary", "--model", "m2")
    assert next(line for line in trace(place) if line.startswith("b")).endswith("max_iters=20 lr=1")
    place.invoke("submit", "--canary", "--model", "m1")
    assert sum("max_iters=20 lr=1" in line for line in trace(place) if line.startswith("a")) == 1


def test_a_code_that_cannot_be_tried_is_refused_before_anything_starts(place: Place) -> None:
    text = TREES.replace('    canary: {options: {max_iters: 20}, products: {proof: "iter_20*"}}\n', "")
    place.text("experiments/tiny.yaml", text)
    ran = place.invoke("submit", "--canary")
    assert (ran.code, ran.out) == (2, "")
    assert "code a declares no canary; add codes.a.canary" in ran.err
    assert place.invoke("submit", "other", "--canary").code == 0  # no training: nothing to try
    ran = place.invoke("submit", "--canary", "--dry-run")
    assert (ran.code, ran.out) == (2, "")


def test_the_paper_s_canaries() -> None:
    loaded = Catalog(ROOT).load("ddq")
    canaries = {run.name: run for run in loaded.canaries}
    assert set(canaries) == {"canary.L", "canary.M", "canary.N", "canary.ours"}
    run = canaries["canary.N"]
    assert run.kind is TaskKind.SMOKE
    assert (run.resources.gpus, run.resources.nodes, run.resources.time_s) == (1, 1, 1800)
    assert "train_dataloader.dataset.indices=40" in run.options
    assert run.command == (
        "bash",
        "tools/dist_train.sh",
        "{code}/configs/ddq/resume.py",  # around the run's own configuration
        "{gpus}",
        "--work-dir",
        "{work_dir}",
        "{options}",
    )
    ours = canaries["canary.ours"].command
    assert ours[ours.index("ddqjobs.detect.train") :][:3] == ("ddqjobs.detect.train", "--iterations", "20")
    assert not {run.name for run in loaded.runs} & set(canaries)


def test_it_asks_for_one_gpu_s_share() -> None:
    whole = Resources(nodes=2, gpus=8, cpus=48, memory_mb=300_000, time_s=600)
    assert canary._on_one_gpu(whole) == Resources(nodes=1, gpus=1, cpus=6, memory_mb=37_500, time_s=600)
    assert canary._on_one_gpu(Resources(gpus=0, cpus=3)) == Resources(gpus=0, cpus=3, time_s=1800)


def test_twenty_iterations_of_a_real_training(tmp_path: Path) -> None:
    place = tmp_path / "project"
    site = {"name": "local", "scheduler": "local", "grace": "2s", "environments": str(ROOT / ".environments")}
    (place / "templates" / "local").mkdir(parents=True)
    (place / "templates" / "local" / "site.yaml").write_text(json.dumps(site))
    (place / "experiments").mkdir()
    (place / "experiments" / "mine.yaml").write_text("base: mini\nname: mine\n")
    argv = [sys.executable, "-m", "ddqjobs", "submit", "mine", "p4-train.ddq-detr-r18", "--canary"]
    done = process.run(argv, timeout=900, cwd=place)
    try:
        assert done.code == 0, done
        assert "canaries: canary.mmdet-3.3: done" in done.stdout
        run = place / "results" / "mine" / "runs" / "canary.mmdet-3.3"
        report = json.loads((run / "artifacts" / "canary").read_text())
        assert report["iterations"] == 20
        assert 0 < report["loss"][1] < report["loss"][0]
        assert not list(run.glob("attempts/1/work_dir/epoch_2.pth"))
    finally:
        process.run([*argv[:3], "cancel", "mine", "--yes"], timeout=120, cwd=place)
