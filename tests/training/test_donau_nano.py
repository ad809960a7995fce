"""The miniature of the miniature through the lab's Donau, really trained, disturbed on its way: the AP is
that of the local site. And a training of four replicas that find each other.

``DDQJOBS_TRAIN=mini pytest -s -o timeout=0 tests/training/test_donau_nano.py`` does the same with the
miniature itself (docs/donau.md: how long, and what came out).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.project import open_project
from ddqjobs.spec.model import Status
from tests.support.donau import LAB, DonauProject
from tests.support.paths import ROOT
from tests.support.trivial import until

BASE = os.environ.get("DDQJOBS_TRAIN") or "nano"
LIMIT_S = 1200.0 if BASE == "nano" else 4800.0
EPOCH = 1 if BASE == "nano" else 5  # after which the training is disturbed
TRAIN = "p3-train.ddq-detr-r18"


def figures(root: Path, site: str) -> dict[str, float]:
    """Run -> AP of every run that has one; all runs are done."""
    project = open_project(root)
    plan = project.plan("mine", site=site)
    assert {p.run.name: p.reason for p in plan.runs if p.status is not Status.DONE} == {}
    found = {name: product.metrics.get("bbox_mAP") for name, product in project.products("mine").items()}
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The figures of the local site."""
    root = tmp_path_factory.mktemp("here")
    site = {"name": "local", "scheduler": "local", "grace": "2s", "environments": str(ROOT / ".environments")}
    for name, text in (("templates/local/site.yaml", json.dumps(site)),
                       ("experiments/mine.yaml", f"base: {BASE}\nname: mine\n")):  # fmt: skip
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
    words = [sys.executable, "-m", "ddqjobs", "submit", "mine", "--wait"]
    done = process.run(words, timeout=LIMIT_S, cwd=root, env={**os.environ, "DDQJOBS_SITE": "local"})
    assert done.code == 0, done
    found = figures(root, "local")
    print(f"local: {found}")
    return found


def started(project: DonauProject, run: str, then: str) -> int:
    """Waits until a file is in a run's first attempt; the pid of its script."""
    attempt = project.root / "results" / "mine" / "runs" / run / "attempts" / "1"
    until(lambda: (attempt / then).exists() or (attempt / "exit.json").exists(), LIMIT_S / 2)
    assert not (attempt / "exit.json").exists(), "it was over before it could be disturbed"
    return int(json.loads((attempt / "started.json").read_text())["pid"])


def test_nano_has_the_same_ap_as_on_the_local_site(here: dict[str, float], on_donau: DonauProject) -> None:
    on_donau.write("experiments/mine.yaml", {"base": BASE, "name": "mine"})
    on_donau.site(environments=str(ROOT / ".environments"), grace="1s", submit_timeout="30s")
    on_donau.lab.set(slots=2)
    with on_donau.started("submit", "mine", "--wait") as command:
        pid = started(on_donau, TRAIN, f"work_dir/epoch_{EPOCH}.pth")
        if on_donau.lab.generation == "old":  # its node is lost: the planner submits it again
            commands = [job for job in on_donau.lab.jobs().values() if TRAIN in job["name"]]
            on_donau.lab.kill(commands[0]["id"])
        else:  # asked to stop: its script has Donau start it once more
            os.kill(pid, signal.SIGUSR1)
        assert command.wait(LIMIT_S) == 0
    report = open_project(on_donau.root).products("mine")[TRAIN].report
    print(f"{on_donau.lab.generation}: {figures(on_donau.root, on_donau.name)}; the disturbed training: "
          f"{report['attempts']} attempts, {report['repeated_iterations']} iterations twice")  # fmt: skip
    assert figures(on_donau.root, on_donau.name) == here
    attempts = on_donau.root / "results" / "mine" / "runs" / TRAIN / "attempts"
    assert sorted(p.name for p in attempts.iterdir()) == ["1", "2"]
    starts = [job["starts"] for job in on_donau.lab.jobs().values() if TRAIN in job["name"]]
    assert starts == {"old": [1, 1], "new": [2]}[on_donau.lab.generation]


def test_four_replicas_train_together(on_donau: DonauProject) -> None:
    """Over gloo, each with its own processes, as on four nodes."""
    four = {"nodes": 4, "cpus": 1, "time": "30m"}
    on_donau.write(
        "experiments/mine.yaml",
        {
            "base": BASE,
            "name": "mine",
            "codes": {"mmdet-3.3": {"launcher": "torchrun"}},
            "tasks": {"p4-train": {"resources": four}},
        },
    )
    launch: dict[str, object] = {"meet": "120s"}
    if on_donau.lab.generation == "old":
        launch["agent"] = str(LAB / "agent")
    on_donau.site({"launch": launch}, environments=str(ROOT / ".environments"), submit_timeout="30s")
    on_donau.lab.set(hosts=["localhost"])
    done = on_donau.cli("submit", "mine", "p4-train.ddq-detr-r18", "--upstream", "--wait", timeout=LIMIT_S)
    attempt = on_donau.root / "results/mine/runs/p4-train.ddq-detr-r18/attempts/1"
    assert done.code == 0, (done, (attempt / "stdout.log").read_text()[-3000:])
    log = (attempt / "stdout.log").read_text()
    assert "Distributed training: True" in log
    assert "GPU number: 4" in log
    assert (attempt / "stdout.rank3.log").exists()
