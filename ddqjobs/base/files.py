"""Files that are whole or absent, whoever is killed and whatever the disk does.

The one writer of ddqjobs is :mod:`ddqjobs.detect.files`, because jobs write with it where nothing else of
ddqjobs is. These are its forms for content that is in memory, and for links.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ddqjobs.detect import files

# Where files are not what their size says: reading them may block, never end, or change something.
_SYSTEM = ("/dev", "/proc", "/sys")
_MEMORY = "/dev/shm/"  # files as any others


class NotReadError(OSError):
    """A file was not read, and not opened, for what it is; ``strerror`` says why."""


def read(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes. Raise OSError; NotReadError for a
    pipe, a device, a file of the system's and one that is larger."""
    _require_ordinary(path)
    # Not blocking: it may have become a pipe since.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        # The size first: a file much too large costs neither time nor memory.
        content = b"" if (size := os.fstat(descriptor).st_size) > limit else file.read(limit + 1)
    if max(size, len(content)) > limit:
        raise NotReadError(0, f"larger than {limit >> 20} MiB", str(path))
    return content


def ordinary(path: Path) -> bool:
    """Return whether a path is a regular file whose content is no device's and not the system's."""
    try:
        _require_ordinary(path)
    except OSError:
        return False
    return True


def _require_ordinary(path: Path) -> None:
    real = os.path.realpath(path)
    if real.startswith(tuple(f"{folder}/" for folder in _SYSTEM)) and not real.startswith(_MEMORY):
        raise NotReadError(0, "a file of the system, not of a project", str(path))
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise NotReadError(0, "not a regular file", str(path))


def why_not(folder: Path) -> OSError | None:
    """Return why files cannot be made, written and linked in a folder, as jobs do it; None if they can."""
    probe = folder / f".{os.getpid()}-{os.urandom(4).hex()}.tmp"
    other = probe.with_name(f"{probe.name}2")
    try:
        _write(probe, bytes(4096), 0o600)
        files.flush(probe)
        os.link(probe, other)
    except OSError as error:
        return error
    finally:
        for path in (probe, other):
            with contextlib.suppress(OSError):
                path.unlink()
    return None


def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file or replace it in one step. Raises OSError, or files.Unsettled after the replacement."""
    files.replace(path, lambda temporary: _write(temporary, data, mode))


def create(path: Path, data: bytes, mode: int = 0o666) -> bool:
    """Write a file, and return True, unless it exists. Raises OSError, or files.Unsettled if it was created
    but may not survive a power failure."""
    return files.create(path, lambda temporary: _write(temporary, data, mode))


def link(path: Path, target: Path | str) -> None:
    """Make ``path`` a symbolic link in one step, in place of a file or link. Raises OSError."""
    files.replace(path, lambda temporary: temporary.symlink_to(target))


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
