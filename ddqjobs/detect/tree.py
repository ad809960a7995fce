"""Digest what a code tree holds: asked at submission, and asked again by the job before it starts.

    python -m ddqjobs.detect.tree FOLDER DIGEST     exit code 78 if the tree is another one now

A tree is not copied beside the job: extensions are built in place in it, and data is linked into it.
So a job that waited in the queue makes sure that it runs what was submitted. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import Iterator

from .job import exit_codes
from .job.work_tree import GitError, WorkTree

_WHOLE = 4 << 20  # larger files count by their size: extensions built in place, checkpoints
_SOURCES = (".py", ".sh", ".yaml", ".yml", ".json", ".cfg", ".toml")
# What runs write, here and by the detectors' own defaults. A tree may be the project's folder itself.
_OUTPUTS = frozenset({"results", "work_dirs", "__pycache__"})


class UntoldError(Exception):
    """The state of a code tree cannot be told; the message is one line."""


def digest(folder: Path) -> str:
    """SHA-256 (hexadecimal) of a tree's commit, uncommitted changes and untracked files that git does not
    ignore; without git, of its source files. Nothing of the tree is executed. Folders of
    results and work_dirs that git does not track do not count. Empty if there is no such folder. Raises
    UntoldError."""
    if not folder.is_dir():
        return ""
    total = hashlib.sha256()
    for part in _git(folder) if (folder / ".git").exists() else _sources(folder):
        total.update(b"%d\0" % len(part))
        total.update(part)
    return total.hexdigest()


def _git(folder: Path) -> Iterator[bytes]:
    try:
        here = WorkTree(folder)
        yield here.head()
        yield b"".join(b"%d\0%s" % (len(change), change) for change in here.changes())
        for name in here.untracked():
            if not _OUTPUTS.intersection(name.split("/")):
                yield os.fsencode(name) + b"\0" + _content(folder / name)
    except GitError as error:
        raise UntoldError(f"{folder}: {error}") from error


def _sources(folder: Path) -> Iterator[bytes]:
    for above, below, names in os.walk(str(folder)):
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in _OUTPUTS)
        for name in sorted(names):
            if name.endswith(_SOURCES):
                path = Path(above) / name
                yield os.fsencode(str(path.relative_to(folder))) + b"\0" + _content(path)


def _content(path: Path) -> bytes:
    try:
        if path.is_symlink():
            return os.fsencode(os.readlink(str(path)))
        at = path.stat()
        if stat.S_ISDIR(at.st_mode):  # a repository inside of this one: git names it and no more
            return b"folder"
        if not stat.S_ISREG(at.st_mode):  # a pipe, a device: never opened
            return b"no file"
        size = at.st_size
        return path.read_bytes() if size <= _WHOLE else b"%d bytes" % size
    except OSError as error:
        return (error.strerror or "unreadable").encode()


def main(argv: list[str]) -> int:
    """0 if the tree is as it was; 78 with one line if not. A tree that cannot be told is let pass, loudly."""
    folder, expected = Path(argv[0]), argv[1]
    try:
        now = digest(folder)
    except UntoldError as error:
        print(
            f"ddqjobs: warning: whether the code is what was submitted is not known: {error}", file=sys.stderr
        )
        return 0
    if now != expected:
        print(f"ddqjobs: {folder} has changed since this run was submitted", file=sys.stderr)
    return exit_codes.CHANGED if now != expected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
