"""Room for results: disk space against the checkpoints to come, inodes, quotas where the system tells."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.base.units import size
from ddqjobs.doctor.judgements import quotas, space
from ddqjobs.doctor.subject import Subject
from ddqjobs.spec.model import TaskKind
from ddqjobs.store import retention
from ddqjobs.store.layout import Layout

_KEPT = 4  # checkpoints of a training on disk at a time: the detector's last ones and those to go on from
_STATES = 3  # a checkpoint to go on from has the weights and two moments of the optimizer
_FEW_INODES = 100_000
_MAKE_ROOM = "make room: `ddqjobs clean --dry-run` shows what may go"


def check_storage(subject: Subject) -> Iterator[Line]:
    """Yield whether the runs have room for what they leave."""
    folder = subject.workspace.results
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    trainings = sum(run.kind is TaskKind.TRAIN and not run.optional for run in subject.runs)
    yield space(status.f_bavail * status.f_frsize, _checkpoint_size(subject), trainings, _KEPT)
    if status.f_files and status.f_favail < _FEW_INODES:
        yield warning("inodes", f"{status.f_favail} left for files", "remove what is not needed")
    elif status.f_files:
        yield ok("inodes", f"{status.f_favail} left for files")
    lines = list(_quotas(folder))
    yield from lines or [ok("quota", "this system tells of none")]


def _checkpoint_size(subject: Subject) -> int:
    """Return the bytes of the largest checkpoint so far; else what the released ones let expect; else 0."""
    checkpoints = Layout(subject.workspace.results).checkpoints()
    sizes = [path.stat().st_size for path in checkpoints if retention.place(path.name) and path.is_file()]
    if sizes:
        return max(sizes)
    released = (
        path.stat().st_size for text, path in subject.paths if text.endswith(".pth") and path.is_file()
    )
    return _STATES * max(released, default=0)


def _quotas(folder: Path) -> Iterator[Line]:
    commands = [["lfs", "quota", "-q", "-u", str(os.getuid()), str(folder)], ["quota", "-w"]]
    for argv in commands:
        done = process.run(argv, timeout=30) if shutil.which(argv[0]) else None
        for what, used, limit in quotas(done.stdout) if done is not None else ():
            yield _quota(what, used, limit)


def _quota(what: str, used: int, limit: int) -> Line:
    if what == "inodes":
        message = f"{used} of {limit} used inodes"
    else:
        message = f"{size(used * 1024)} of {size(limit * 1024)} used"
    if used >= limit:
        return error("quota", message, _MAKE_ROOM)
    return warning("quota", message, _MAKE_ROOM) if used > 0.9 * limit else ok("quota", message)
