"""Reads what jobs left in a run's folder. A file that is not there or not whole says nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.model import Attempt, FailureClass, Product
from ddqjobs.store.layout import AttemptFolder, RunFolder

if TYPE_CHECKING:
    from ddqjobs.detect.job.training_progress import Progress

_CHECKPOINT = re.compile(r"(?:resume_)?(epoch|iter)_(\d+)(?:_iter_(\d+))?\.pth")
_EPOCH = 1_000_000  # more than the iterations of any epoch
_TAIL_BYTES = 65536
T = TypeVar("T")


class _Started(Frozen, frozen=True, kw_only=True):
    ticket: str = ""
    job: str = ""
    host: str = ""
    pid: int = 0
    at: float = 0.0


class _Exit(Frozen, frozen=True, kw_only=True):
    code: int = 0
    product: int = 0
    stopped: bool = False
    failure: str = ""
    note: str = ""
    again: bool = False  # the scheduler will start this job once more
    at: float = 0.0


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def product(run_dir: Path) -> Product | None:
    """The run's product, if it is there and whole."""
    return _read(RunFolder(run_dir).product, Product)


def attempts(run_dir: Path) -> list[Attempt]:
    """All attempts of a run, oldest first."""
    folder = RunFolder(run_dir)
    return [attempt(folder.attempt(n).path, n) for n in numbers(run_dir)]


def numbers(run_dir: Path) -> list[int]:
    """Return the numbers of a run's attempts, oldest first."""
    try:
        return sorted(
            int(folder.name) for folder in RunFolder(run_dir).attempts.iterdir() if folder.name.isdecimal()
        )
    except (FileNotFoundError, NotADirectoryError):
        return []


def attempt(folder: Path, number: int) -> Attempt:
    """One attempt, from its ``started.json``, ``exit.json`` and ``stop``."""
    files = AttemptFolder(folder)
    started = _read(files.started, _Started) or _Started()
    end = _read(files.exit, _Exit)
    return Attempt(
        number=number,
        ticket=started.ticket,
        host=started.host,
        started_at=started.at or None,
        ended_at=end.at if end and not end.again else None,
        exit_code=end.code if end and not end.again else None,
        stopped=bool(end and end.stopped) or files.stop.exists(),
        failure=_failure(end) if end and not end.again else None,
        marker=_failure(end) if end and end.again else None,
        note=end.note if end else "",
    )


def _failure(end: _Exit) -> FailureClass | None:
    if not end.failure:
        return None
    try:
        return FailureClass(end.failure)
    except ValueError:
        return FailureClass.UNKNOWN


def progress(run_dir: Path) -> int:
    """Return how far the newest checkpoint of any attempt is, as a number that grows; 0 if there is none.

    Epochs count a million, iterations (of the epoch; of the training where it has no epochs) one.
    """
    matches = (_CHECKPOINT.fullmatch(path.name) for path in RunFolder(run_dir).checkpoints())
    return max((_place(match) for match in matches if match), default=0)


def _place(match: re.Match[str]) -> int:
    unit, number, rest = match.groups()
    return int(number) * (_EPOCH if unit == "epoch" else 1) + int(rest or 0)


def training(run_dir: Path) -> Progress | None:
    """Return how far a run's newest attempt is, by its logs; None if there is no attempt."""
    from ddqjobs.detect.job import live

    attempts = numbers(run_dir)
    return live.progress(RunFolder(run_dir).attempt(attempts[-1]).work_dir) if attempts else None


def log_tail(attempt_dir: Path) -> str:
    """The last 64 KiB of an attempt's ``stdout.log``; empty if there is none."""
    return tail(AttemptFolder(attempt_dir).log)


def tail(path: Path) -> str:
    """The last 64 KiB of a file; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
