"""Checkpoints to go on from: their names, the newest whole one, those of earlier attempts. Standard library
only.

``work_dir/resume_epoch_E_iter_B.pth`` was taken when E epochs and B batches of the next one were done; a
training by iterations is in its first epoch until it ends. The ``epoch_N.pth`` or ``iter_N.pth`` of a
detector's own hook is a result, not a place to go on from: it does not hold all that decides the rest, and is
written before the validation that follows.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Callable, NamedTuple

from .. import files
from . import claim

SEED = "seed.json"
_NAME = re.compile(r"^resume_epoch_(\d+)_iter_(\d+)\.pth$")
_RESULT = re.compile(r"^(epoch|iter)_(\d+)\.pth$")
_STAMP = re.compile(r"^\d{8}_\d{6}")
_STAMP_FORMAT = "%Y%m%d_%H%M%S"
Say = Callable[[str], object]


class Place(NamedTuple):
    """A place in a training, between two iterations."""

    epochs: int  # that are done
    batches: int  # of the next epoch that are done

    @property
    def name(self) -> str:
        """Name of the checkpoint that was taken here."""
        return f"resume_epoch_{self.epochs}_iter_{self.batches}.pth"


def places(work_dir: Path) -> list[tuple[Place, Path]]:
    """The checkpoints of a work_dir, newest first."""
    try:
        names = [entry.name for entry in work_dir.iterdir()]
    except OSError:
        return []
    matches = [(_NAME.match(name), name) for name in names]
    return sorted(((Place(int(m[1]), int(m[2])), work_dir / n) for m, n in matches if m), reverse=True)


def newest(work_dir: Path) -> Path | None:
    """The newest whole checkpoint of a work_dir."""
    return next((path for _, path in places(work_dir) if files.torn(path) is None), None)


def earlier(job: claim.Job, say: Say = print) -> list[Path]:
    """Work_dirs of the run's earlier attempts, newest first.

    Only of the same digest: what another configuration, code or seed has trained would make this run
    something else.
    """
    if job.run_dir is None:
        return []
    work_dirs = []
    for number in reversed([n for n in claim.attempts(job.run_dir) if n < job.attempt]):
        if digest(job.run_dir, number) == digest(job.run_dir, job.attempt):
            work_dirs.append(job.run_dir / "attempts" / str(number) / "work_dir")
        else:
            say(f"attempt {number} had another digest: its checkpoints are not used")
    return work_dirs


def take_over(job: claim.Job, work_dir: Path, stamp: str, say: Say = print) -> Path | None:
    """The checkpoint to go on from in ``work_dir``, brought there from an earlier attempt if need be.

    ``stamp`` is the time stamp (YYYYmmdd_HHMMSS) in the names of this attempt's own logs. The earlier
    attempt's logs and results come along, so that the work_dir tells of the whole training. The checkpoint
    comes last: an attempt that dies on the way leaves nothing that looks like more than it is.
    """
    own = newest(work_dir)
    if own is not None:
        return own
    for source in earlier(job, say):
        checkpoint = newest(source)
        if checkpoint is None:
            continue
        _copy_logs(source, work_dir, stamp)
        match = _NAME.match(checkpoint.name)
        place = Place(int(match[1]), int(match[2])) if match else Place(0, 0)
        for path in source.glob("*.pth"):
            if _is_result(path.name, place) and files.torn(path) is None:
                link_or_copy(path, work_dir / path.name)
        link_or_copy(checkpoint, work_dir / checkpoint.name)
        return work_dir / checkpoint.name
    return None


def _is_result(name: str, place: Place) -> bool:
    """Return whether a file is a result of what was trained up to a place."""
    match = _RESULT.match(name)
    if match is None:
        return name.startswith("best_")
    if match[1] == "epoch":
        return int(match[2]) <= place.epochs
    return not place.epochs and int(match[2]) <= place.batches


def prune(job: claim.Job, work_dir: Path, keep: int) -> None:
    """Leave the last ``keep`` checkpoints of the run; those of earlier attempts count as older."""
    known = [path for folder in [work_dir, *earlier(job, lambda _: None)] for _, path in places(folder)]
    seen: list[str] = []
    for path in known:
        if path.name not in seen:
            seen.append(path.name)
        if seen.index(path.name) >= keep:
            try:
                path.unlink()
            except OSError:
                pass  # it only takes space


def seed(job: claim.Job, work_dir: Path) -> int:
    """The seed of a run that declares none: drawn by the first process of the first attempt, then
    recorded."""
    for folder in reversed([work_dir, *earlier(job, lambda _: None)]):
        recorded = _recorded(folder)
        if recorded is not None:
            _record(work_dir, recorded)
            return recorded
    _record(work_dir, random.SystemRandom().randrange(1 << 31))
    recorded = _recorded(work_dir)
    if recorded is None:
        raise OSError(f"{work_dir / SEED} cannot be read")
    return recorded


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link, or a copy where the file system has none. Atomic either way."""

    def write(temporary: Path) -> None:
        try:
            os.link(str(source), str(temporary))
        except OSError:
            shutil.copyfile(str(source), str(temporary))

    files.replace(target, write)


def digest(run_dir: Path, attempt: int) -> str:
    """Return what decides an attempt's result, as its run.json says; empty where there is none (outside of
    jobs)."""
    try:
        run = json.loads((run_dir / "attempts" / str(attempt) / "run.json").read_text(encoding="utf-8"))
        return str(run.get("digest", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _copy_logs(source: Path, target: Path, stamp: str) -> None:
    """Time-stamped logs, copied: the earlier attempt may still be writing.

    Their order is the order of their names, so all stamps are made earlier than ``stamp``: attempts may
    begin in the same second, and nodes have clocks of their own.
    """
    names = sorted(entry.name for entry in source.iterdir() if _STAMP.match(entry.name))
    for old in sorted({name[:15] for name in names}, reverse=True):
        stamp = min(old, _second_before(stamp))
        for name in [name for name in names if name.startswith(old)]:
            path, copy = source / name, target / (stamp + name[15:])
            if path.is_dir():
                shutil.copytree(str(path), str(copy), symlinks=True)
            else:
                shutil.copyfile(str(path), str(copy))


def _second_before(stamp: str) -> str:
    return (datetime.strptime(stamp[:15], _STAMP_FORMAT) - timedelta(seconds=1)).strftime(_STAMP_FORMAT)


def _recorded(folder: Path) -> int | None:
    try:
        value = json.loads((folder / SEED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _record(work_dir: Path, value: int) -> None:
    """Several processes of an attempt do this at once: the first one's number is everyone's."""
    files.create(work_dir / SEED, lambda temporary: temporary.write_text(f"{value}\n", encoding="utf-8"))
