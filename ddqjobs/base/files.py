"""Files that are whole or absent, whoever is killed and whatever the disk does.

The one writer of ddqjobs is :mod:`ddqjobs.detect.files`, because jobs write with it where nothing else of
ddqjobs is. These are its forms for content that is in memory, and for links.
"""

from __future__ import annotations

import os
from pathlib import Path

from ddqjobs.detect import files


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
