"""Records that the local queue writes, and the names of jobs and starts."""

from __future__ import annotations

import re
import signal
from enum import Enum

from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.schedulers.base import Element, Submission

TOKEN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MOST_RESTARTS = 20  # by exit code; whoever calls requeue() may do so for ever


class Reason(str, Enum):
    """Reasons for the end of a start."""

    EXIT = "exit"  # by itself, or by a signal that we did not send
    LIMIT = "time limit"
    CANCELLED = "cancelled"
    REQUEUE = "requeue"  # not the job's end: it waits for its next start
    DEPENDENCY = "dependency"  # never started, because a job before it did not end well
    DIED = "launcher died"
    NOT_STARTED = "not started"


class Filed(Frozen, frozen=True, kw_only=True):
    """A submission as it lies in the queue."""

    submission: Submission
    at: int  # nanoseconds since the epoch: the order of the queue
    environment: str  # name of the recorded environment
    warning_s: float
    grace_s: float

    def jobs(self) -> dict[int, str]:
        """index -> job id."""
        return {e.index: job_id(self.submission.token, e.index) for e in self.submission.elements}

    def element(self, index: int) -> Element | None:
        """The element with that array index."""
        return next((e for e in self.submission.elements if e.index == index), None)


class Settings(Frozen, frozen=True, kw_only=True):
    """Resources that the machine gives to jobs, as the last submission found it."""

    host: str
    cpus: int
    root: str = ""  # where the queue lies: a copy of it elsewhere has the same jobs, which are not its own
    gpus: tuple[int, ...] = ()
    linger_s: float = 3.0  # the supervisor ends after so long without work
    patience_s: float = 600.0  # a job that waits for slots is overtaken for so long


class Slots(Frozen, frozen=True, kw_only=True):
    """Resources that one start occupies."""

    cpus: int = 1
    gpus: tuple[int, ...] = ()


class End(Frozen, frozen=True, kw_only=True):
    """The end of one start."""

    job: str
    restart: int
    reason: Reason
    code: int | None = None
    signal: int | None = None
    note: str = ""
    at: float = 0.0

    @property
    def well(self) -> bool:
        """Return whether jobs that come after this one may start."""
        return self.reason is Reason.EXIT and self.code == 0

    @property
    def detail(self) -> str:
        """In words."""
        how = self.reason.value if self.reason is not Reason.EXIT else self._how()
        return f"{how}: {self.note}" if self.note else how

    def _how(self) -> str:
        if self.signal is None:
            return f"exit {self.code}"
        try:
            return f"signal {self.signal} ({signal.Signals(self.signal).name})"
        except ValueError:
            return f"signal {self.signal}"


class Claim(Frozen, frozen=True, kw_only=True):
    """The holder of a start: the launcher that runs it, or an end that forbids it."""

    owner: Owner | None = None
    void: End | None = None


def job_id(token: str, index: int) -> str:
    """The id of one element of a submission."""
    return f"{token}.{index}"


def split_job(job: str) -> tuple[str, int] | None:
    """Token and index of a job id, or None if it cannot be one."""
    token, _, index = job.rpartition(".")
    if not TOKEN.fullmatch(token) or not re.fullmatch(r"0|[1-9][0-9]{0,8}", index):
        return None
    return token, int(index)


def start_id(job: str, restart: int) -> str:
    """The name of one start of a job."""
    return f"{job}.{restart}"
