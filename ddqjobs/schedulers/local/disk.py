"""Logs that several processes append to, marks, locks, and folders that are watched.

For a local file system of one machine; nothing here knows what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ddqjobs.detect.files import Unsettled, flush

Result = TypeVar("Result")

# What passes when somebody makes room; everything else is for a person to look at.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# Clocks of file systems tick slowly: a folder changed twice within a tick shows one time for both.
_TICK_S = 2.0


def append(path: Path, lines: list[bytes]) -> None:
    """Appends lines for good. Whoever else appends at the same time does not tear them.

    The newline in front ends what a writer that died or ran out of disk may have left.
    """
    data = b"".join(b"\n" + line + b"\n" for line in lines)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark(folder: Path, names: list[str]) -> None:
    """Makes empty files, whether or not they exist."""
    for name in names:
        (folder / name).touch(mode=0o600)
    flush(folder)


def unmark(folder: Path, names: list[str]) -> None:
    """Removes such files, whether or not they exist."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    flush(folder)


def names(folder: Path) -> set[str]:
    """Return the names in a folder, temporary ones left out."""
    return {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}


def acquire(lock: int) -> bool:
    """Takes the lock on an open file if it is free; held until every copy of the descriptor is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def patiently(action: Callable[[], Result]) -> Result:
    """Does what must not be lost, again and again while the disk is full."""
    while True:
        try:
            return action()
        except Unsettled:
            raise
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            time.sleep(1)


class Tail:
    """The lines of a growing file, each once. A last line without its newline waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[bytes]:
        """Lines that came since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [line for line in whole.split(b"\n") if line]

    @property
    def grown(self) -> bool:
        """Return whether there is more than was read; costs one stat."""
        with contextlib.suppress(FileNotFoundError):
            return self._path.stat().st_size != self._offset
        return False


class Watched:
    """A folder that is listed only when it may have changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = -1
        self._names: set[str] = set()

    def fresh(self) -> set[str]:
        """Return the names in the folder, listed now in any case."""
        return names(self._folder)

    def names(self) -> set[str]:
        """Return the names in the folder."""
        changed = self._folder.stat().st_mtime_ns
        if changed != self._seen or time.time() - changed / 1e9 < _TICK_S:
            self._names = names(self._folder)
            self._seen = changed
        return self._names
