"""The miniature of the miniature through the lab's Donau, really trained, disturbed on its way: the AP is
that of the local site. And a training of four replicas that find each other.

``DDQJOBS_TRAIN=mini pytest -s -o timeout=0 tests/training/test_donau_nano.py`` does the same with the
miniature itself (docs/reference/donau.md: how long, and what came out).
"""

from __future__ import annotations

import json
import os
import signal

import pytest

from ddqjobs.project import Project, open_project
from tests.support.donau import LAB, DonauProject
from tests.support.nano import BASE, LIMIT_S, figures
from tests.support.paths import ROOT
from tests.support.trivial import until

EPOCH = 1 if BASE == "nano" else 5  # after which the training is disturbed
TRAIN = "p3-train.ddq-detr-r18"
BOTH = pytest.mark.parametrize(
    "donau", ["new", pytest.param("old", marks=pytest.mark.long)], indirect=True
)  # a training takes a minute


def started(project: DonauProject, run: str, then: str) -> int:
    """Waits until a file is in a run's first attempt; the pid of its script."""
    attempt = project.root / "results" / "mine" / "runs" / run / "attempts" / "1"
    until(lambda: (attempt / then).exists() or (attempt / "exit.json").exists(), LIMIT_S / 2)
    assert not (attempt / "exit.json").exists(), "it was over before it could be disturbed"
    return int(json.loads((attempt / "started.json").read_text())["pid"])


@BOTH
def test_nano_has_the_same_ap_as_on_the_local_site(undisturbed: Project, on_donau: DonauProject) -> None:
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
    there = figures(open_project(on_donau.root), on_donau.name)
    print(f"{on_donau.lab.generation}: {there}; the disturbed training: "
          f"{report['attempts']} attempts, {report['repeated_iterations']} iterations twice")  # fmt: skip
    assert there == figures(undisturbed)
    attempts = on_donau.root / "results" / "mine" / "runs" / TRAIN / "attempts"
    assert sorted(path.name for path in attempts.iterdir()) == ["1", "2"]
    starts = [job["starts"] for job in on_donau.lab.jobs().values() if TRAIN in job["name"]]
    assert starts == {"old": [1, 1], "new": [2]}[on_donau.lab.generation]


@BOTH
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
