"""The miniature of the miniature, really trained and tested through the command line on the local site."""

from __future__ import annotations

import fnmatch
import json
import shlex
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.detect.job import progress
from ddqjobs.planning.catalog import Catalog, find_module
from ddqjobs.planning.digest import Digester
from ddqjobs.planning.filters import one_run
from ddqjobs.project import Project, open_project
from ddqjobs.spec.model import Status
from tests.support.paths import ROOT
from tests.support.trivial import until

TRAIN = "p3-train.ddq-detr-r18"
TWIN = "p4-train.ddq-detr-r18"


# A path of the shell or of the site's setup lines would not reach the job, another folder on its path would
# end it, and so would an edited snapshot: the site's own script puts the watch into a copy of the snapshot.
SCRIPT = """{{% extends "local.sh.j2" %}}
{{% block start %}}
watched={watch}/"${{DDQJOBS_CODE##*/}}-watched"
if [ ! -d "$watched" ]; then
  cp -r -- "$DDQJOBS_CODE" "$watched.$$" && cp -- {watch}/sitecustomize.py "$watched.$$"
  mv -T -- "$watched.$$" "$watched" || rm -rf -- "$watched.$$"
fi
export DDQJOBS_CODE="$watched" PYTHONPATH="$watched"
{{{{ super() }}}}
{{% endblock %}}
"""
# Every Python of the task begins with this: it notes the task code that is imported, by run and program.
SITECUSTOMIZE = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("ddqjobs.detect"):
            words = [word for word in sys.orig_argv if word.startswith("ddqjobs.detect.")]
            with open(os.path.join(os.environ["DDQJOBS_RUN_DIR"], "loaded.txt"), "a") as stream:
                stream.write(f"{words[0] if words else '-'} {name}\\n")

if "DDQJOBS_RUN_DIR" in os.environ:
    sys.meta_path.insert(0, Watch())
"""
# What an archive must hold to be read without the project.
ARCHIVED = (
    "specification/mine.yaml", "specification/nano.yaml", "locks/mini-new/lock.txt",
    "locks/mini-legacy/lock.txt", "plan.json", "annotations/*.json", "report/report.html",
    "report/report.json", "report/judged.json", "manifest-sha256.txt", "results/.resolved/*.json",
    "results/mine/ledger/*.jsonl", "results/mine/submissions/*/job.sh",
    "results/mine/submissions/*/locks.json", "results/mine/code/*/ddqjobs/detect/product.py",
    *(f"results/mine/runs/{TRAIN}/attempts/[12]/{name}"
      for name in ("stdout.log", "proof.json", "resolved.json", "run.json")),
    f"results/mine/runs/{TRAIN}/product.json", "results/mine/runs/*/predictions.npz",
)  # fmt: skip
# The launch script's own programs; what they do is in no digest.
AROUND = {f"ddqjobs.detect.{name}" for name in ("launch", "product", "proof", "watchdog")}


def ddqjobs(project: Path, *arguments: str) -> process.Completed:
    """A command line in the project, to its end."""
    return process.run([sys.executable, "-m", "ddqjobs", *arguments], timeout=1200, cwd=project)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project outside of the checkout that uses the checkout's built environments."""
    folder = tmp_path_factory.mktemp("nano project")
    site = folder / "templates" / "local"
    site.mkdir(parents=True)
    declared = {
        "name": "local",
        "scheduler": "local",
        "grace": "2s",
        "environments": str(ROOT / ".environments"),
    }
    (site / "site.yaml").write_text(json.dumps(declared))
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mine.yaml").write_text("base: nano\nname: mine\n")
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (site / "job.sh.j2").write_text(SCRIPT.format(watch=shlex.quote(str(folder / "watch"))))
    yield folder
    ddqjobs(folder, "cancel", "mine", "--yes")


def iterations(work_dir: Path) -> int:
    """Return the number of iterations done."""
    stretch = progress.read(work_dir)
    return stretch.end if stretch else 0


@pytest.fixture(scope="module")
def disturbed(project: Path) -> Project:
    """The whole matrix, done, although one training was requeued in the middle of its first epoch."""
    opened = open_project(project)
    submitted = ddqjobs(project, "submit", "mine")
    assert submitted.code == 0, submitted.stderr
    work = project / "results" / "mine" / "runs" / TRAIN / "attempts" / "1" / "work_dir"
    job = one_run(opened.plan("mine"), TRAIN).job  # now: its eight iterations are soon over
    scheduler = opened.workspace("mine").scheduler("local")
    until(lambda: iterations(work) > 0 or (work.parent / "exit.json").exists(), 600)
    scheduler.requeue(job)  # type: ignore[attr-defined]  # the local site's own
    waited = ddqjobs(project, "submit", "mine", "--wait")
    assert waited.code == 0, waited.stdout + waited.stderr
    return open_project(project)


def test_every_run_of_the_four_phases_is_done(disturbed: Project) -> None:
    plan = disturbed.plan("mine")
    assert {planned.status for planned in plan.runs} == {Status.DONE}
    assert {planned.run.phase for planned in plan.runs} == {"", "1", "2", "3", "4"}


def test_what_a_run_loads_is_in_its_digest(disturbed: Project) -> None:
    read = Catalog(disturbed.root)
    digester = Digester(lambda name: read.files.find(f"experiments/{name}"), find_module, {})
    names: set[str] = set()
    for planned in disturbed.plan("mine").runs:
        lines = (disturbed.root / "results/mine/runs" / planned.run.name / "loaded.txt").read_text()
        loaded = {tuple(line.split()) for line in lines.splitlines()}
        names |= {name for _, name in loaded}
        task = {name for program, name in loaded if program not in AROUND}
        around = {(program, name) for program, name in loaded if program in AROUND}
        assert task & set(planned.run.command)  # the watch was there
        assert task <= modules(digester.modules(planned.run)), planned.run.name
        assert {name for program, name in around if program.endswith(".product")}
        for program in AROUND:
            assert {name for loader, name in around if loader == program} <= modules(
                digester.closure([program])
            )
    assert names >= {f"ddqjobs.detect.{name}" for name in ("compare.capture_mmdet3", "hooks.resume", "speed")}


def modules(closure: Iterable[str]) -> set[str]:
    return {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in closure}


@pytest.mark.bits
def test_a_requeued_training_goes_on_and_ends_as_if_nothing_had_happened(disturbed: Project) -> None:
    runs = disturbed.root / "results" / "mine" / "runs"
    assert len(disturbed.attempts(disturbed.plan("mine"), TRAIN)) == 2
    stretches = [progress.read(runs / TRAIN / "attempts" / n / "work_dir") for n in "12"]
    assert stretches[0] is not None
    assert stretches[1] is not None
    # On a busy machine the request may arrive at the epoch's end; test_resume.py stops after each iteration.
    assert 0 < stretches[0].end == stretches[1].start <= 8
    report = disturbed.products("mine")[TRAIN].report
    assert (report["attempts"], report["repeated_iterations"]) == (2, 0)
    assert disturbed.products("mine")[TWIN].report["attempts"] == 1
    assert not list(runs.glob("*/attempts/*/work_dir/resume_*.pth"))  # of use no more
    align = json.loads((runs / "p4-align.ddq-detr-r18" / "product.json").read_text())
    assert align["metrics"]["first_difference"] is None
    assert align["metrics"]["iterations"] == 8
    assert align["report"]["bit_equal"] is True


@pytest.mark.bits
def test_the_same_weights_predict_the_same_in_both_codes(disturbed: Project) -> None:
    product = disturbed.products("mine")["p2-align.ddq-detr-r18"]
    assert product.metrics["box"] == 0
    assert product.metrics["score"] == 0
    assert product.metrics["unmatched"] == 0
    assert product.metrics["ap"] == 0


@pytest.mark.bits
def test_every_module_of_both_codes_says_the_same(disturbed: Project) -> None:
    product = disturbed.products("mine")["p2-modules.ddq-detr-r18"]
    assert product.metrics["module"] == 0
    assert product.metrics["left_over"] == 0
    assert (product.metrics["modules"] or 0) > 150
    assert product.report["bit_equal"] is True
    dump = disturbed.root / "results/mine/runs/p2-capture-new.ddq-detr-r18/artifacts/dump"
    assert dump.stat().st_size < 50e6


@pytest.mark.bits
def test_all_that_ran_is_of_its_environment_and_code(undisturbed: Project) -> None:
    ran = {name: product.ran for name, product in undisturbed.products("mine").items()}
    assert {name for name, record in ran.items() if record is None} == set()
    assert {name: record.foreign for name, record in ran.items() if record and record.foreign} == {}


def test_the_report_checks_and_says_reproduced(disturbed: Project) -> None:
    done = ddqjobs(disturbed.root, "report", "mine", "--check")
    assert done.code == 0, done.stdout + done.stderr
    assert "15 of 15 required runs done" in done.stdout


def test_the_same_command_twice_submits_nothing_twice(disturbed: Project) -> None:
    again = ddqjobs(disturbed.root, "submit", "mine", "--json")
    assert json.loads(again.stdout)["submitted"] == {}


def test_results_are_a_data_frame_in_three_lines(disturbed: Project) -> None:
    table = disturbed.results("mine")
    assert set(table["status"]) == {"done"}
    assert table.set_index("run").loc[TWIN, "AP"] == table.set_index("run").loc[TRAIN, "AP"]


def test_an_archive_of_the_results_holds_without_project_and_network(
    disturbed: Project, tmp_path: Path
) -> None:
    out = tmp_path / "mine.crate.zip"
    written = ddqjobs(disturbed.root, "archive", "mine", "-o", str(out))
    assert written.code == 0, written.stderr
    alone = ["unshare", "--map-root-user", "--net"]
    if process.run([*alone, "true"], timeout=60).code != 0:  # this user may not make namespaces
        alone = []
    argv = [*alone, sys.executable, "-m", "ddqjobs", "archive", "verify", str(out), "--json"]
    verified = process.run(argv, timeout=600, cwd=tmp_path)
    assert verified.code == 0, verified.stdout + verified.stderr
    checks = json.loads(verified.stdout)["archive"]["checks"]
    assert {check["what"] for check in checks if check["holds"]} == {
        *("files", "crate", "runs", "artifacts", "AP", "verdicts"),
    }
    assert len(checks) == 6
    with zipfile.ZipFile(out) as archive:
        for pattern in ARCHIVED:
            assert fnmatch.filter(archive.namelist(), pattern), pattern
        for name in archive.namelist():
            assert str(disturbed.root).encode() not in archive.read(name), name


def test_a_changed_configuration_makes_what_it_decides_stale(disturbed: Project) -> None:
    configs = disturbed.root / "experiments" / "configs" / "nano"
    configs.mkdir(parents=True)
    shipped = (ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py").read_text()
    config = configs / "ddq-detr_r18_shapes.py"
    config.write_text(f'"""A docstring."""\n{shipped}\n# changed\n')
    try:
        assert {planned.stale for planned in open_project(disturbed.root).plan("mine").runs} == {""}
        config.write_text(shipped + "\nchanged = 1\n")
        plan = open_project(disturbed.root).plan("mine")
        assert one_run(plan, "data").stale == ""
        assert one_run(plan, TRAIN).stale.startswith("stale: config and upstream changed")
        assert one_run(plan, TRAIN).status is Status.DONE
        # Run again on demand, from its beginning: not one checkpoint of the other configuration is used.
        before = disturbed.products("mine")[TRAIN].sha256["checkpoint"]
        slower = "\noptim_wrapper = dict(optimizer=dict(lr=0.0001))\n"
        config.write_text(shipped + slower)
        again = ddqjobs(disturbed.root, "submit", "mine", TRAIN, "--stale", "--upstream", "--wait")
        assert again.code == 0, again.stdout + again.stderr
        assert open_project(disturbed.root).products("mine")[TRAIN].sha256["checkpoint"] != before
    finally:
        (configs / "ddq-detr_r18_shapes.py").unlink()
