"""The miniature of the miniature on the local site, undisturbed: what other ways of running it must equal."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.project import Project, open_project
from ddqjobs.spec.model import Status
from tests.support.paths import ROOT

BASE = os.environ.get("DDQJOBS_TRAIN") or "nano"  # mini: the miniature with its own images
LIMIT_S = 1200.0 if BASE == "nano" else 4800.0
EXPERIMENT = "mine"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole matrix, done on the local site; once for all workers of pytest-xdist."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "undisturbed"
    with (shared / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "undisturbed.done").exists():
            _train(root)
            (shared / "undisturbed.done").touch()
    return open_project(root)


def _train(root: Path) -> None:
    site = {"name": "local", "scheduler": "local", "grace": "2s", "environments": str(ROOT / ".environments")}
    for name, text in (
        ("templates/local/site.yaml", json.dumps(site)),
        (f"experiments/{EXPERIMENT}.yaml", f"base: {BASE}\nname: {EXPERIMENT}\n"),
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    command = [sys.executable, "-m", "ddqjobs", "submit", EXPERIMENT, "--wait"]
    done = process.run(command, timeout=LIMIT_S, cwd=root, env={**os.environ, "DDQJOBS_SITE": "local"})
    assert done.code == 0, done


def figures(project: Project, site: str = "local") -> dict[str, float]:
    """Return run -> AP of every run that has one; all runs are done."""
    plan = project.plan(EXPERIMENT, site=site)
    assert {
        planned.run.name: planned.reason for planned in plan.runs if planned.status is not Status.DONE
    } == {}
    aps = {name: product.metrics.get("bbox_mAP") for name, product in project.products(EXPERIMENT).items()}
    return {name: value for name, value in aps.items() if value is not None}


def losses(project: Project, run: str, experiment: str = EXPERIMENT) -> list[tuple[int, int, float]]:
    """Return (epoch, iteration, loss) of a training's whole curve, as its last attempt tells it."""
    folder = project.workspace(experiment).store.run_dir(run) / "attempts"
    last = max(folder.iterdir(), key=lambda path: int(path.name))
    curve: dict[tuple[int, int], float] = {}
    for log in sorted(last.glob("work_dir/*/vis_data/scalars.json")):
        for row in map(json.loads, log.read_text().splitlines()):
            if "loss" in row:
                curve[row["epoch"], row["iter"]] = row["loss"]
    return [(*key, loss) for key, loss in sorted(curve.items())]
