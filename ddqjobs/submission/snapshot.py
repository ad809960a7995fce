"""The code that a job will run, copied at submission: a job runs what was submitted.

Snapshots are named by their content and shared by all submissions that have the same.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ddqjobs.base.errors import InputError, StateError
from ddqjobs.base.files import NotReadError, read, replace
from ddqjobs.base.paths import PACKAGE
from ddqjobs.detect.job import snapshot as snapshots
from ddqjobs.spec.shipped import Files

_LIMIT = 256 << 20  # bytes of a file beside the configurations
_STUB = '"""The job\'s side of ddqjobs: only the task code."""\n'


def snapshot(folder: Path, files: Files, experiment_file: Path) -> str:
    """Make ``folder/<digest>/`` with ``ddqjobs/detect`` and ``configs`` unless it is there; return its name.
    Mend one that was changed since. Raise OSError; InputError for a file that cannot be a configuration;
    StateError for a snapshot that only its owner can mend."""
    content = _content(files, experiment_file)
    name = snapshots.name(content)
    target = folder / name
    if not target.is_dir():
        _write(target, content)
    elif snapshots.problem(target):
        try:
            _mend(target, content)
        except PermissionError as error:
            raise StateError(_not_ours(target, error)) from error
    return name


def _content(files: Files, experiment_file: Path) -> dict[str, bytes]:
    detect = PACKAGE / "detect"
    # Every Python that finds the snapshot begins with this one, and records at its end what it loaded.
    content = {
        "ddqjobs/__init__.py": _STUB.encode(),
        "sitecustomize.py": (detect / "loaded.py").read_bytes(),
    }
    for path in sorted(detect.rglob("*.py")):
        content[f"ddqjobs/detect/{path.relative_to(detect).as_posix()}"] = path.read_bytes()
    for relative, path in files.tree("experiments/configs"):
        if all(map(snapshots.counts, relative.split("/"))):
            content[f"configs/{relative}"] = _read(path)
    beside = experiment_file.resolve().parent / "configs"
    for path in sorted(beside.rglob("*")) if beside.is_dir() else ():
        below = path.relative_to(beside)
        if path.is_file() and all(map(snapshots.counts, below.parts)):
            content[f"configs/{below.as_posix()}"] = _read(path)
    return content


def _read(path: Path) -> bytes:
    try:
        return read(path, _LIMIT)
    except NotReadError as error:
        raise InputError(f"{path}: {error.strerror}; move it out of configs/") from error


def _mend(target: Path, content: dict[str, bytes]) -> None:
    """Give a snapshot that somebody changed its own files again; jobs may run in it."""
    there = snapshots.read(target)
    for relative in there.keys() - content.keys():
        (target / relative).unlink(missing_ok=True)  # somebody else may mend it, too
    for relative, data in content.items():
        if there.get(relative) != data:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            replace(target / relative, data)


def _not_ours(target: Path, error: PermissionError) -> str:
    """Return the answer to a user who cannot mend a snapshot."""
    try:
        owner = target.owner()
    except (OSError, KeyError):
        owner = "its owner"
    what = f"{target} is not what was submitted, and you may not fix it ({error.strerror})"
    return f"{what}: ask {owner} to submit, or to move that folder away"


def _write(target: Path, content: dict[str, bytes]) -> None:
    temporary = target.parent / f".{target.name}.{os.getpid()}.{os.urandom(3).hex()}"
    try:
        for relative, data in content.items():
            path = temporary / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another terminal was faster: the content is the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
