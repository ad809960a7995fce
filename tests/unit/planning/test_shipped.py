"""The experiments that ship: other papers than DDQ at full size, and copies of all by ``init --from``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.planning import scaffold
from ddqjobs.planning.matrix import expand
from ddqjobs.project import open_project
from tests.support.paths import ROOT
from tests.unit.planning.test_ddq_mask import ddqjobs

SHIPPED = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
SEEDS = ("s0", "s1000", "s2000")
TRAININGS = ("p3-train", "p3-test", "p4-train", "p4-test", "p4-align")
DINO, RCNN = "dino-4scale", "faster-rcnn-r50"
RUNS = {
    "dino": {f"{task}.{DINO}" for task in ("p1-test", "p2-convert", "p2-test", "p2-align", *TRAININGS)},
    "faster-rcnn": {
        *(f"{task}.{RCNN}" for task in ("p1-test", "p2-convert", "p2-test", "p2-align")),
        *(f"{task}.{RCNN}.{seed}" for task in TRAININGS for seed in SEEDS),
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_another_paper_goes_through_four_phases_at_full_size(name: str, tmp_path: Path) -> None:
    runs = json.loads(ddqjobs(tmp_path, "plan", name, "--json").stdout)["runs"]
    assert {run["run"] for run in runs} == RUNS[name]
    ddqjobs(tmp_path, "submit", name, "--dry-run", "--site", "slurm", "--out", "scripts")
    scripts = [str(path) for path in (tmp_path / "scripts").rglob("*.sh") if path.is_file()]
    assert process.run(["bash", "-n", *scripts], timeout=60).code == 0


@pytest.mark.parametrize(("name", "model", "ap"), [("dino", DINO, 49.0), ("faster-rcnn", RCNN, 37.4)])
def test_the_published_figure_and_the_weights_of_the_zoo_are_declared(
    name: str, model: str, ap: float, tmp_path: Path
) -> None:
    experiment = open_project(tmp_path).load(name).experiment
    reference = experiment.models[model].reference
    assert reference is not None
    assert reference.ap == ap
    released = next(weights for weights in experiment.weights.values() if weights.path)
    assert released.url.startswith("https://download.openmmlab.com/")
    assert released.url.endswith(f"-{released.sha256}.pth")
    for implementation in experiment.models[model].implementations.values():
        assert implementation.checkpoint == released.path


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_copy_of_each_is_a_whole_experiment(name: str, tmp_path: Path) -> None:
    scaffold.init(tmp_path / "mine", source=name)
    copied = open_project(tmp_path / "mine").load(f"my-{name}").experiment
    shipped = open_project(tmp_path).load(name).experiment
    assert copied.tasks == shipped.tasks


def test_a_plan_without_gpus_asks_for_no_more_than_a_partition_of_a_day_gives(tmp_path: Path) -> None:
    runs = expand(open_project(tmp_path).load("ddq-cpu").experiment)
    assert [run.name for run in runs if run.resources.gpus or run.resources.time_s > 86400] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_no_experiment_that_ships_gets_a_hint(name: str, tmp_path: Path) -> None:
    assert open_project(tmp_path).load(name).hints == ()
