"""``ddqjobs show`` and ``site show``: what is shown is what counts, and says where it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ddqjobs.planning import matrix, sections
from ddqjobs.planning.catalog import Catalog
from ddqjobs.spec.nodes import read
from tests.support.cli import Place, opened

HEIR = r"""
base: tiny
name: heir
description: "on: off # \u0007 {x}"
tasks:
  first: null
  second:
    seeds: [0, 1000]
    grid: {lr: [1e-4, 2e-4]}
    inputs: {source: "path:~/a b.txt"}
    command: [bash, -c, 'cp "$1" x', bash, "{input.source}", "{options}"]
    variables: {A: '1e-4', B: 'yes', C: "it's \"so\"", D: "two\n lines\n", E: '- x', TOKEN: ab12cd34ef56ab78}
    options: {a.b: 1e-5, c: '1e-4', d: 'yes', e: null, f: ''}
  wait:
    command: [bash, -c, "echo '1'\necho \"2\"\n", '#', '', '1', '- x', 'null']
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        project.text("experiments/heir.yaml", HEIR)
        yield project


def test_an_experiment_without_its_bases_makes_the_same_runs(place: Place) -> None:
    catalog = Catalog(place.root)
    for name in ("heir", "dino-mini", "faster-rcnn"):
        document, runs = catalog.expand(name)
        output = place.invoke("show", name).out
        assert "base:" not in output
        alone = place.text(f"elsewhere/experiments/{name}.yaml", output.replace("***", "ab12cd34ef56ab78"))
        assert catalog.expand(str(alone))[1] == runs == matrix.expand(document.value)


def test_a_value_names_the_line_that_set_it_and_a_task_its_runs(place: Place) -> None:
    output = place.invoke("show", "heir").out
    lines = {line.split(":")[0].strip(): line for line in reversed(output.splitlines())}
    assert lines["title"].endswith("# tiny.yaml:3")
    assert lines["name"].endswith("# heir.yaml:3")
    assert lines["launcher"].endswith("# default")
    named = ("lr-0.0001", "lr-0.0002")
    runs = [f"second.m1.{variant}.s{seed}" for variant in named for seed in (0, 1000)]
    assert lines["second"].endswith(f"# 8 runs: {', '.join(runs[:3])}, 5 more")
    document = place.invoke("show", "heir", "--json").json
    assert document["origins"]["tasks.second.seeds"] == {"file": document["files"][1], "line": 8}
    assert document["runs"]["second"][:4] == runs
    assert document["content"]["tasks"]["second"]["optional"] is False


def test_a_run_is_shown_with_what_decides_it(place: Place) -> None:
    run = "second.m1.lr-0.0002.s1000"
    description = place.invoke("show", "heir", run, "--json").json["run"]
    options = "a.b=1e-05 c=1e-4 d=yes e=None f= lr=0.0002"
    assert (
        description["command"]
        == f"""bash -c 'cp "$1" x' bash "$DDQJOBS_INPUT_SOURCE" --cfg-options {options}"""
    )
    assert description["inputs"] == {"source": {"path": "~/a b.txt"}}
    assert (description["seed"], description["grid"]) == (1000, {"lr": 0.0002})
    assert description["digest"] == next(
        r["digest"] for r in place.invoke("plan", "heir", run, "--json").json["runs"]
    )
    tree, problems = read(place.invoke("show", "heir", run).out, "shown")
    assert (problems, tree.below(("resources", "time_s"))) != ([], None)


def test_more_than_one_run_and_none_are_refused(place: Place) -> None:
    several = place.invoke("show", "heir", "second.*")
    assert (several.code, "one run at a time" in several.err) == (2, True)
    unknown = place.invoke("show", "heir", "2nd.m1")
    assert (unknown.code, "no run matches '2nd.m1'" in unknown.err) == (2, True)


def test_a_secret_is_shown_in_no_form(place: Place) -> None:
    secrets = {"a_api_key": "abc def12", "b_api_key": "ab12cd34" * 20, "c_api_key": "hunter2"}
    options = "".join(f"      {key}: '{value}'\n" for key, value in secrets.items())
    task = f"  second:\n    command: [run, '{{options}}']\n    options:\n{options}"
    place.text("experiments/keys.yaml", f"base: tiny\nname: keys\ntasks:\n{task}")
    output = place.invoke("show", "keys").out
    assert [part for value in secrets.values() for part in value.split() if part in output] == []
    options_shown = [line.split("#")[0].strip() for line in output.splitlines() if "_api_key:" in line]
    assert options_shown == [f'{key}: "***"' for key in secrets]


MINE = """\
base: slurm
name: mine
slurm: {account: "{user}", extra: [--nice=1]}
cpus_per_gpu: 8
variables: {WANDB_API_KEY: ab12cd34ef56ab78, MARK: {value: hush-hush, secret: true}}
limits: {calls_per_minute: null, time: 7d}
"""


def test_a_value_of_a_site_names_the_file_and_line_that_set_it(place: Place) -> None:
    place.text("templates/mine/site.yaml", MINE)
    output = place.invoke("site", "show", "mine").out
    lines = {line.split(":")[0].strip(): line for line in output.splitlines()}
    origins = {
        "cpus_per_gpu": "mine/site.yaml:4",
        "memory_mb_per_gpu": "slurm/site.yaml:8",
        "partition": "slurm/site.yaml:6",
        "account": "mine/site.yaml:3",
        "time": "mine/site.yaml:6",
        "hang": "default",
        "calls_per_minute": "default",
    }
    assert {key: lines[key].rpartition("  # ")[2] for key in origins} == origins
    assert not {"base", "qos", "mail"} & set(lines)
    document = place.invoke("site", "show", "mine", "--json").json
    assert (document["name"], document["content"]["hang"]) == ("mine", "30m")
    assert document["origins"]["limits.time"] == {"file": document["files"][1], "line": 6}
    for secret in ("ab12cd34ef56ab78", "hush-hush"):
        assert secret not in output + str(document)


@pytest.mark.parametrize("name", ["bscc", "curc-alpine", "donau", "local", "ncsa-delta", "slurm"])
def test_a_site_without_its_bases_is_the_same_site(place: Place, name: str) -> None:
    place.text("templates/heir/site.yaml", f"{{base: {name}, name: heir}}")
    output = place.invoke("site", "show", "heir").out
    assert "base:" not in output
    alone = Catalog(place.root).site(str(place.text("elsewhere/site.yaml", output)))
    whole = sections.with_defaults(Catalog(place.root).site("heir"))
    assert sections.with_defaults(alone) == msgspec.structs.replace(whole, base=None)


def test_an_unknown_site_is_refused_with_the_nearest(place: Place) -> None:
    refused = place.invoke("site", "show", "slrum")
    assert (refused.code, "unknown site 'slrum'; did you mean 'slurm'?" in refused.err) == (2, True)
