"""Starting launchers through submitit, and ending what a dead launcher left."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddqjobs.base import process
from ddqjobs.base.frozen import Owner

_BACKSTOP_S = 600  # submitit's time limit lies so far beyond ours: it kills a second after its warning

_MOST_LOOKS = 100  # a process that the kernel does not let go must not hold up the queue
_TASK = str(Path(__file__).with_name("task.py"))


class Start:
    """A launcher under way, as submitit's LocalExecutor sees it."""

    def __init__(self, root: Path, job: str, restart: int, time_s: int) -> None:
        # Late: a supervisor that has nothing to start does not pay for it.
        from submitit.local.local import LocalExecutor

        from ddqjobs.schedulers.local.launcher import launch

        # A folder per start: submitit names its files by pid, and pids come again.
        self._folder = Path(tempfile.mkdtemp(prefix=f"{job}.{restart}-", dir=root / "launch"))
        executor = LocalExecutor(folder=self._folder, python=shlex.join([sys.executable, _TASK]))
        executor.update_parameters(timeout_min=(time_s + _BACKSTOP_S) / 60, stderr_to_stdout=True)
        self._job: Any = executor.submit(launch, str(root), job, restart)

    def over(self) -> bool:
        """Return whether submitit's process has ended; reaps it."""
        return bool(self._job.done())

    def last_words(self) -> str:
        """The last line of what submitit's process printed."""
        with contextlib.suppress(OSError):
            lines = self._job.paths.stdout.read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def clean(self) -> None:
        """Removes submitit's files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def sweep_folders(launch: Path, needed: set[str]) -> None:
    """Removes submitit's folders and processes of starts that are over, or that were never completed.

    submitit starts its processes first and moves what they are to run into place afterwards; killed in
    between, or robbed of it here, they would wait a minute for nothing.
    """
    for folder in launch.iterdir():
        complete = any(folder.glob("*_submitted.pkl"))
        if not complete or folder.name.rpartition("-")[0] not in needed:
            _kill_all(functools.partial(process.with_last_argument, str(folder)))
            shutil.rmtree(folder, ignore_errors=True)


def kill_orphans(job: str, restart: int, script: Owner | None) -> None:
    """Kills every process of a start whose launcher is dead."""
    if script is not None and process.alive(script):
        process.signal_group(script.pid, signal.SIGKILL)
    marks = {"DDQJOBS_JOB_ID": job, "DDQJOBS_RESTART": str(restart)}
    _kill_all(functools.partial(process.with_environment, marks))


def _kill_all(find: Callable[[], list[int]]) -> None:
    """Kills what is found until nothing is: they may be forking while we look."""
    for _ in range(_MOST_LOOKS):
        pids = find()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
