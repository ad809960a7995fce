"""The local queue on disk: who wrote what is in one place, and every question is a few system calls.

::

    settings.json              slots of the machine
    environments/<token>.json  variables of whoever submitted, until its jobs have ended
    submissions/<token>.json   one file per submission; exists means: is in the queue
    assigned/<job>.<n>.json    slots of start n; written before anything is started
    started/<job>.<n>.json     made exclusively by the launcher that may run start n; kept for ever
    scripts/<job>.<n>.json     who the script's process is
    cancel/<job>               the job is to end
    hold/<job>                 the job is not to start
    requeue/<job>.<n>          start n is to end and the job to wait for the next
    ended.jsonl                append-only: how each start ended
    launch/                    submitit's own files
    lock, supervisor.json, supervisor.log
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from ddqjobs.base import files
from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.base.shell_variables import inherited
from ddqjobs.schedulers.local import disk
from ddqjobs.schedulers.local.records import Claim, End, Filed, Reason, Settings, Slots, split_job

Record = TypeVar("Record", bound=Frozen)

_FOLDERS = (
    "environments", "submissions", "assigned", "started", "scripts", "cancel", "hold", "requeue", "launch",
)  # fmt: skip
_SUFFIX = ".json"
_OURS = 0o600  # a submission's environment may hold secrets
# A job's own, and submitit's, must not leak from a job that submits into the jobs it submits.
_PRIVATE = ("SUBMITIT_", "DDQJOBS_INDEX", "DDQJOBS_JOB_ID", "DDQJOBS_RESTART", "DDQJOBS_TREE")


class TornError(Exception):
    """A file of the queue cannot be read as what it must be. Cannot come from us: all are whole or absent."""


class Queue:
    """The files below one folder. Raises OSError as it comes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.submissions = root / "submissions"
        self._submissions = str(self.submissions)
        self.started = root / "started"
        self.assigned = root / "assigned"
        self.cancel = root / "cancel"
        self.hold = root / "hold"
        self.launch = root / "launch"
        self.ended = root / "ended.jsonl"
        self.lock = root / "lock"
        self.log = root / "supervisor.log"
        self._runs: dict[str, dict[int, str]] = {}  # token -> runs by index

    def create(self) -> None:
        """Makes the folders; nobody else may look into them."""
        for name in _FOLDERS:
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def exists(self) -> bool:
        """Return whether anything was ever submitted here."""
        return self.launch.is_dir()  # made last

    # --- submissions

    def file(self, filed: Filed) -> bool:
        """Puts a submission into the queue; False if its token is there already."""
        path = self.submissions / f"{filed.submission.token}{_SUFFIX}"
        return files.create(path, msgspec.json.encode(filed), _OURS)

    def load(self, token: str) -> Filed | None:
        """The submission with that token. Raises TornError."""
        return _read_text(f"{self._submissions}/{token}{_SUFFIX}", Filed)

    def run_of(self, job: str) -> str:
        """Return the name of a job's run, for messages; the job's own where nobody knows."""
        token, index = split_job(job) or ("", 0)
        if token not in self._runs:
            with contextlib.suppress(OSError, TornError):
                filed = self.load(token) if token else None
                self._runs[token] = {e.index: e.run for e in filed.submission.elements} if filed else {}
        return self._runs.get(token, {}).get(index, f"job {job}")

    def tokens(self) -> set[str]:
        """Tokens of all submissions."""
        return {name.removesuffix(_SUFFIX) for name in disk.names(self.submissions)}

    def keep_environment(self, token: str) -> str:
        """Record our environment for a submission, as Slurm does: a job must not depend on who woke the
        supervisor. It is forgotten when the submission's last job has ended."""
        variables = sorted(
            (os.fsencode(name).decode("latin-1"), os.fsencode(value).decode("latin-1"))
            for name, value in inherited(os.environ).items()
            if not name.startswith(_PRIVATE)
        )
        path = self.root / "environments" / f"{token}{_SUFFIX}"
        files.create(path, msgspec.json.encode(variables), _OURS)
        return token

    def forget_environments(self, tokens: set[str]) -> None:
        """Remove the environments of these submissions: their jobs have ended."""
        for name in disk.names(self.root / "environments"):
            if name.removesuffix(_SUFFIX) in tokens:
                (self.root / "environments" / name).unlink(missing_ok=True)

    def environment(self, name: str) -> dict[bytes, bytes]:
        """A recorded environment."""
        data = (self.root / "environments" / f"{name}{_SUFFIX}").read_bytes()
        variables = msgspec.json.decode(data, type=list[tuple[str, str]])
        return {key.encode("latin-1"): value.encode("latin-1") for key, value in variables}

    # --- settings

    @property
    def settings_path(self) -> Path:
        """Return the path of the settings."""
        return self.root / "settings.json"

    def settings(self) -> Settings | None:
        """Return the settings that the last submission found. Raise TornError with what to do."""
        try:
            return _read(self.settings_path, Settings)
        except TornError as error:
            raise TornError(f"{error}; remove it, the next submission writes it anew") from error

    def put_settings(self, settings: Settings) -> None:
        """Replaces the settings."""
        files.replace(self.settings_path, msgspec.json.encode(settings), _OURS)

    def supervisor(self) -> Owner | None:
        """Return the process that supervises, or did."""
        return _read(self.root / "supervisor.json", Owner)

    def set_supervisor(self, owner: Owner) -> None:
        """Says who supervises."""
        files.replace(self.root / "supervisor.json", msgspec.json.encode(owner), _OURS)

    # --- starts

    def assign(self, start: str, slots: Slots) -> None:
        """Gives slots to a start, before its launcher exists: after a crash it gets the same again."""
        files.create(self.assigned / f"{start}{_SUFFIX}", msgspec.json.encode(slots), _OURS)

    def slots(self, start: str) -> Slots | None:
        """The slots of a start."""
        return _read(self.assigned / f"{start}{_SUFFIX}", Slots)

    def starts(self) -> set[str]:
        """Starts that somebody has claimed."""
        return {name.removesuffix(_SUFFIX) for name in disk.names(self.started)}

    def take(self, start: str, claim: Claim) -> bool:
        """Claims a start; only one claim ever succeeds."""
        return files.create(self.started / f"{start}{_SUFFIX}", msgspec.json.encode(claim), _OURS)

    def claim(self, start: str) -> Claim | None:
        """Return the claim on the start."""
        return _read(self.started / f"{start}{_SUFFIX}", Claim)

    def note_script(self, start: str, owner: Owner) -> None:
        """Says which process is the script."""
        files.replace(self.root / "scripts" / f"{start}{_SUFFIX}", msgspec.json.encode(owner), _OURS)

    def script(self, start: str) -> Owner | None:
        """Return the process that is the script."""
        return _read(self.root / "scripts" / f"{start}{_SUFFIX}", Owner)

    def record(self, ends: Iterable[End]) -> None:
        """Records ends, all at once."""
        now = time.time()
        lines = [msgspec.json.encode(msgspec.structs.replace(end, at=now)) for end in ends]
        if lines:
            disk.append(self.ended, lines)

    def forget(self, start: str, job: str, *, final: bool) -> None:
        """Removes what only a start under way needs."""
        for folder in ("assigned", "scripts"):
            (self.root / folder / f"{start}{_SUFFIX}").unlink(missing_ok=True)
        (self.root / "requeue" / start).unlink(missing_ok=True)
        if final:
            (self.cancel / job).unlink(missing_ok=True)
            (self.hold / job).unlink(missing_ok=True)

    def sweep(self, starts: set[str], jobs: set[str]) -> None:
        """Removes what is left of starts and jobs that are over."""
        needs = {"assigned": starts, "scripts": starts, "requeue": starts, "cancel": jobs, "hold": jobs}
        for folder, needed in needs.items():
            for name in disk.names(self.root / folder):
                if name.removesuffix(_SUFFIX) not in needed:
                    (self.root / folder / name).unlink(missing_ok=True)

    # --- wishes

    def ask_cancel(self, jobs: list[str]) -> None:
        """Asks for the end of jobs."""
        disk.mark(self.cancel, jobs)

    def ask_hold(self, jobs: list[str]) -> None:
        """Asks that jobs do not start."""
        disk.mark(self.hold, jobs)

    def ask_release(self, jobs: list[str]) -> None:
        """Takes that back."""
        disk.unmark(self.hold, jobs)

    def holds(self) -> set[str]:
        """Jobs that are not to start."""
        try:
            return disk.names(self.hold)
        except FileNotFoundError:  # nothing was ever held here
            return set()

    def held(self, job: str) -> bool:
        """Return whether a job is not to start."""
        return (self.hold / job).exists()

    def ask_requeue(self, start: str) -> None:
        """Asks for the end of a start and for another."""
        disk.mark(self.root / "requeue", [start])

    def wish(self, job: str, start: str) -> Reason | None:
        """Return the request to a start under way; a cancel goes before a requeue."""
        if (self.cancel / job).exists():
            return Reason.CANCELLED
        if (self.root / "requeue" / start).exists():
            return Reason.REQUEUE
        return None


class History:
    """The ends of starts, read as it grows."""

    def __init__(self, queue: Queue, complain: Callable[[str], None]) -> None:
        self._tail = disk.Tail(queue.ended)
        self._complain = complain
        self._decode = msgspec.json.Decoder(End).decode
        self.ends: dict[str, End] = {}  # of jobs that are over
        self._restarts: dict[str, int] = {}

    def restart(self, job: str) -> int:
        """The number of the job's present or next start."""
        return self._restarts.get(job, 0)

    def refresh(self) -> list[End]:
        """Takes in what was recorded since the last call, and returns it."""
        if not self._tail.grown:
            return []
        return [end for line in self._tail.lines() if (end := self._read(line)) and self._take(end)]

    def _read(self, line: bytes) -> End | None:
        try:
            return self._decode(line)
        except msgspec.MsgspecError as error:
            self._complain(f"ended.jsonl: skipped a line that cannot be read ({error}): {line[:80]!r}")
            return None

    def _take(self, end: End) -> bool:
        if end.job in self.ends or end.restart != self.restart(end.job):
            return False  # recorded twice: whoever died between recording and saying so
        if end.reason is Reason.REQUEUE:
            self._restarts[end.job] = end.restart + 1
        else:
            self.ends[end.job] = end
        return True


def _read(path: Path, kind: type[Record]) -> Record | None:
    return _read_text(str(path), kind)


def _read_text(path: str, kind: type[Record]) -> Record | None:
    # Bare system calls and a kept decoder: a query may read ten thousand of these.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    try:
        record: Record = _decoder(kind).decode(data)
    except msgspec.MsgspecError as error:
        raise TornError(f"{path} cannot be read: {error}") from error
    return record


@functools.cache
def _decoder(kind: type[Record]) -> msgspec.json.Decoder[Record]:
    return msgspec.json.Decoder(kind)
