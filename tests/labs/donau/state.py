"""The jobs of a lab: one file, read and written whole under a lock; and which of them may start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Job = dict[str, Any]
ENDED = ("SUCCEEDED", "FAILED")
CANCELLED = 10003


class State:
    """The content of the file while the lock is held."""

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data

    @property
    def jobs(self) -> dict[str, Job]:
        """Job id -> job, oldest first."""
        jobs: dict[str, Job] = self.data["jobs"]
        return jobs

    def fault(self, command: str) -> str:
        """The next fault of a command; empty if it works."""
        for fault in self.data["faults"]:
            if fault["command"] == command and fault["times"] > 0:
                fault["times"] -= 1
                return str(fault["kind"])
        return ""

    def add(self, job: Job) -> str:
        """Takes a job in; its id."""
        number = str(self.data["next"])
        self.data["next"] += 1
        fresh = {"id": number, "state": "PENDING", "exit": None, "runner": 0, "starts": 0, "cancelled": False}
        self.jobs[number] = {**fresh, **job}
        return number

    def start(self) -> None:
        """Starts every job that may: a slot is free, and whatever it waits for has happened."""
        for job in self.jobs.values():
            running = sum(j["state"] in ("RUNNING", "SSTOPPED", "STOPPED") for j in self.jobs.values())
            if job["state"] in ("PENDING", "WAITING") and not self.data["closed"]:
                waits = not all(self._happened(*wait) for wait in job["after"])
                job["state"] = "WAITING" if waits else "PENDING"
                if not waits and running < self.data["slots"]:
                    job["state"], job["starts"] = "RUNNING", job["starts"] + 1
                    job["runner"] = self._spawn(job["id"])

    def _happened(self, before: str, word: str) -> bool:
        other = self.jobs.get(before)
        if other is None:
            return False
        return bool(other["state"] == word or (word == "ENDED" and other["state"] in ENDED))

    def _spawn(self, job: str) -> int:
        argv = [sys.executable, "-S", str(Path(__file__).with_name("runner.py")), str(self.folder), job]
        null = subprocess.DEVNULL
        log = (self.folder / "runner.log").open("ab")
        # A cancellation may come before the runner can hear it: it waits until the runner listens.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            with log:
                child = subprocess.Popen(argv, stdin=null, stdout=log, stderr=log, start_new_session=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        child.returncode = 0  # not ours to wait for
        return child.pid


def hosts_of(job: Job, data: dict[str, Any]) -> list[str]:
    """Hosts that a job may start on: all but those of ``-pn '!HOST ...'``."""
    avoided = {word[1:] for word in job["on"].split() if word.startswith("!")}
    return [host for host in data["hosts"] or ["labhost"] if host not in avoided]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[State]:
    """The state, which is written back at the end."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "state.json"
        state = State(folder, json.loads(path.read_text()))
        try:
            yield state
        finally:
            new = folder / "state.new"
            new.write_text(json.dumps(state.data))
            new.replace(path)


def create(folder: Path, generation: str, *, slots: int = 4, first: int = 1645534805) -> None:
    """An empty lab."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "generation": generation, "next": first, "jobs": {}, "faults": [], "calls": {}, "slots": slots,
        "closed": False, "last_signal": "KILL", "hosts": [], "missing": 0,
        "allocation": "CCS_ALLOC_FILE", "stale": [],
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(data))
