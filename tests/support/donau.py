"""A project of trivial runs on the lab's Donau (tests/labs/donau), in both generations of its commands."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.planning.catalog import Catalog
from ddqjobs.project import Project
from ddqjobs.schedulers.donau.options import Donau, DonauDialect, of
from ddqjobs.schedulers.donau.scheduler import DonauScheduler
from ddqjobs.spec.model import PlannedRun
from ddqjobs.spec.site import Site
from tests.labs.donau import commands
from tests.labs.donau import state as lab_state
from tests.labs.donau.state import ENDED, Job
from tests.support.paths import LABS
from tests.support.trivial import EXPERIMENT, TrivialProject, until

LAB = LABS / "donau"
SITES = {"old": "bscc", "new": "donau"}  # generation -> the shipped site that speaks it


def shipped(generation: str) -> Site:
    """The shipped site of a generation."""
    return Catalog(Path("/nonexistent")).site(SITES[generation])


def section(generation: str) -> Donau:
    """Its own section, for Donau."""
    return of(shipped(generation))


def dialect(generation: str) -> DonauDialect:
    """The shipped dialect of a generation."""
    donau_dialect = section(generation).dialect
    assert donau_dialect is not None
    return donau_dialect


def _doze(wanted_s: float) -> None:
    time.sleep(min(wanted_s, 0.3))


class Lab:
    """The lab's Donau: its jobs, its faults."""

    def __init__(self, folder: Path, generation: str, *, slots: int = 4) -> None:
        self.folder, self.generation = folder, generation
        lab_state.create(folder, generation, slots=slots)

    def jobs(self) -> dict[str, Job]:
        """Every job that was ever taken."""
        jobs: dict[str, Job] = json.loads((self.folder / "state.json").read_text())["jobs"]
        return jobs

    def set(self, **keys: Any) -> None:
        """Changes settings of the lab; what can start then does."""
        with lab_state.locked(self.folder) as state:
            state.data.update(keys)
            state.start()

    def calls(self, command: str) -> int:
        """Return how often a command was called."""
        data = json.loads((self.folder / "state.json").read_text())
        return int(data["calls"].get(command, 0))

    def kill(self, job: str) -> None:
        """A job's node is lost: all of its processes are gone at once."""
        commands.signal_replicas(self.jobs()[job], signal.SIGKILL)

    def suspend(self, job: str) -> None:
        """The system suspends a running job."""
        with lab_state.locked(self.folder) as state:
            commands.suspend(state, job, "", "SSTOPPED")

    def resume(self, job: str) -> None:
        """And lets it go on."""
        with lab_state.locked(self.folder) as state:
            commands.resume(state, job, "")

    def fault(self, command: str, kind: str, times: int = 1) -> None:
        """The next calls of a command go wrong: dsub, djob, or cancel."""
        with lab_state.locked(self.folder) as state:
            state.data["faults"].append({"command": command, "kind": kind, "times": times})

    def mended(self) -> None:
        """No more faults."""
        self.set(faults=[])

    def until_over(self) -> None:
        """Waits until no job is left that has not ended."""
        until(lambda: all(job["state"] in ENDED for job in self.jobs().values()))

    def close(self) -> None:
        """Kills what runs: the replicas, then those that wait for them."""
        self.set(closed=True)
        for job in self.jobs().values():
            if job["state"] not in ENDED and job["runner"]:
                commands.signal_replicas(job, signal.SIGKILL)
                commands.signal_runner(job, signal.SIGKILL)

    def scheduler(self, donau: Donau | None = None, **keys: Any) -> DonauScheduler:
        """One that does not wait long."""
        quick = {"submit_s": 1.5, "ask_s": 1.5, "confirm_s": 8.0, "sleep": _doze, **keys}
        return DonauScheduler("lab", donau or section(self.generation), **quick)


class DonauProject(TrivialProject):
    """Trivial runs on the lab."""

    def __init__(self, root: Path, lab: Lab) -> None:
        super().__init__(root)
        self.lab = lab
        self.name = SITES[lab.generation]
        self.site()

    def site(self, donau: dict[str, object] | None = None, **keys: object) -> None:
        """Writes the site file: the shipped one, without what only its cluster has."""
        content = {
            "base": self.name,
            "name": self.name,
            "donau": donau or {},
            "modules": [],
            "limits": {"jobs_in_queue": 0, "calls_per_minute": 0},
            "grace": "0s",
            "warning": "1s",
            "submit_timeout": "3s",
            "python": sys.executable,
            **keys,
        }
        self.write(f"templates/{self.name}/site.yaml", content)

    def open(self) -> Project:
        """The project as a command finds it."""
        return Project(self.root)

    def submit_all(self) -> dict[str, PlannedRun]:
        """Submits and waits until nothing is left to do: without dependencies a run follows when what it
        needs is done."""
        self.until_over()
        while self.open().submit(EXPERIMENT).submitted:
            self.until_over()
        return self.until_over()

    def close(self) -> None:
        """Ends whatever still runs."""
        self.lab.close()
        super().close()


@pytest.fixture(params=["old", "new"])
def donau(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab as the environment's Donau."""
    lab = Lab(tmp_path / "donaulab", request.param)
    monkeypatch.setenv("DONAULAB", str(lab.folder))
    monkeypatch.setenv("DONAULAB_PYTHON", sys.executable)
    monkeypatch.setenv("PATH", f"{LAB}:{os.environ['PATH']}")
    monkeypatch.setenv("DDQJOBS_SITE", SITES[lab.generation])
    yield lab
    lab.close()


@pytest.fixture
def on_donau(donau: Lab, tmp_path: Path) -> Iterator[DonauProject]:
    """A project with two runs, ``first`` and ``second``, the second after the first."""
    project = DonauProject(tmp_path / "project", donau)
    yield project
    project.close()
