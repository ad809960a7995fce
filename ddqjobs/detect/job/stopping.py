"""Decide when a training saves and when it ends: what each process sees, and what all of them then do.
Standard library only.

Whatever framework trains, its hook asks here between two iterations. The interval between checkpoints is
``$DDQJOBS_SAVE_EVERY``, a number of iterations (``500``) or a time (``90s``, ``15m``, ``1h``); how many are
kept ``$DDQJOBS_SAVE_KEEP``.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Mapping, NamedTuple

from .. import files
from . import claim, exit_codes

MARKER = "stopped.json"  # in the attempt's folder, for the launch script: launchers swallow exit codes
EVERY, KEEP = "15m", 2
_EVERY = re.compile(r"^(\d{1,9})([smh]?)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Stopped(SystemExit):
    """The training ended before its time: exit code 75. ``why`` says it in one line."""

    def __init__(self, why: str) -> None:
        super().__init__(exit_codes.STOPPED)
        self.why = why

    def __str__(self) -> str:
        return self.why


class Diverged(FloatingPointError):
    """The loss is NaN or infinite: no later iteration can mend that."""


class Interval(NamedTuple):
    """The interval at which a checkpoint is due; 0 for never."""

    iterations: int
    seconds: int


class Settings(NamedTuple):
    """The declaration of checkpoints to go on from."""

    every: Interval
    keep: int


class Seen(NamedTuple):
    """The things that a process sees between two iterations. All processes agree by the maximum of each
    number."""

    stop: float  # 1 if it was asked to stop
    lost: float  # 1 if the attempt may not speak for its run any more
    due: float  # 1 if a checkpoint is due
    bad: float  # 1 if the loss is not finite


def settings(
    every: str | None = None, keep: int | None = None, variables: Mapping[str, str] = os.environ
) -> Settings:
    """As given, else as the environment says, else every 15 minutes, the last two kept. Raises ValueError."""
    text = every if every is not None else variables.get("DDQJOBS_SAVE_EVERY") or EVERY
    match = _EVERY.match(str(text))
    if not match:
        raise ValueError(f"checkpoints every {text!r}: expected iterations (500) or a time (90s, 15m, 1h)")
    number, unit = int(match[1]), match[2]
    count = str(keep if keep is not None else variables.get("DDQJOBS_SAVE_KEEP") or KEEP)
    if not count.isdigit() or int(count) < 1:
        raise ValueError(f"{count!r} checkpoints kept: expected a number from 1")
    interval = Interval(0, number * _SECONDS[unit]) if unit else Interval(number, 0)
    return Settings(interval, int(count))


class Watch:
    """One process's eyes: stop file, claim, attempts, clock."""

    def __init__(self, job: claim.Job, every: Interval) -> None:
        self.job = job
        self.every = every
        self.why = ""
        self._saved_at = time.monotonic()

    def look(self, iterations: int, finite: bool) -> Seen:
        """Return what is to be done after so many ``iterations`` of the whole training."""
        lost = self.job.given_up()
        stop = self.job.stop_asked()
        self.why = lost or ("a stop was asked for" if stop else "")
        due = bool(self.every.iterations) and iterations % self.every.iterations == 0
        late = bool(self.every.seconds) and time.monotonic() - self._saved_at >= self.every.seconds
        return Seen(float(stop), float(bool(lost)), float(due or late), float(not finite))

    def saved(self) -> None:
        """A checkpoint was written: the time to the next one starts."""
        self._saved_at = time.monotonic()

    def reason(self) -> str:
        """Return why the training ends, in one line."""
        return self.why or "another process has to stop"


def leave_marker(where: str, saved: bool, variables: Mapping[str, str] = os.environ) -> None:
    """Tell the launch script that the task stopped by itself; ``where`` is a place in the training."""
    folder = variables.get("DDQJOBS_ATTEMPT_DIR", "")
    if folder:
        text = json.dumps({"where": where, "saved": saved}) + "\n"
        try:
            files.replace_text(Path(folder) / MARKER, text)
        except OSError:
            pass  # the exit code says the same, unless a launcher swallows it
