"""The name of a code snapshot by its content, asked at submission and again before the work of an attempt.

Paths in a traceback lead into the snapshot: an editor that follows them changes what other jobs run. Standard
library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Iterator, Mapping

_FOLDERS = ("ddqjobs", "configs")  # of a snapshot; a task may write beside them
_NAME = re.compile(r"[0-9a-f]{16}")
# Names of files and folders that editors, file browsers, network file systems and atomic writers leave.
_LEFTOVER = re.compile(r"\.(?:_.*|#.*|.*(?<!\.py))|#.*#|.*(?:~|\.swp|\.tmp)")


def name(content: Mapping[str, bytes]) -> str:
    """Return the name of a snapshot that has these files: relative path -> content."""
    total = hashlib.sha256()
    for relative, data in sorted(content.items()):
        total.update(f"{relative}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        total.update(data)
    return total.hexdigest()[:16]


def counts(name: str) -> bool:
    """Return whether a file or folder of this name is submitted, and judged: no bytecode, and nothing that an
    editor, a file browser or a file system left."""
    return name != "__pycache__" and not _LEFTOVER.fullmatch(name)


def read(folder: Path) -> dict[str, bytes]:
    """Return the files of a snapshot that count. Raises OSError."""
    content = {}
    for relative in _files(folder):
        with contextlib.suppress(FileNotFoundError):  # a submission that mends takes files away
            content[relative] = Path(folder, relative).read_bytes()
    return content


def _files(folder: Path) -> Iterator[str]:
    yield from (path.name for path in folder.glob("*.py") if counts(path.name))
    for top in _FOLDERS:
        for above, below, names in os.walk(str(folder / top)):
            below[:] = filter(counts, below)
            yield from (Path(above, word).relative_to(folder).as_posix() for word in filter(counts, names))


def problem(folder: Path, run: str = "EXPERIMENT RUN") -> str:
    """Return in one line what is wrong with a snapshot; empty if it is what its name says. ``run`` is what a
    command calls the run that needs it."""
    if not _NAME.fullmatch(folder.name):
        return ""
    try:
        content = read(folder)
        if name(content) == folder.name:
            return ""
        newest = max(content, key=lambda relative: Path(folder, relative).stat().st_ctime, default="")
    except OSError as error:
        return f"{folder} cannot be read ({error.strerror})"
    return f"{folder / newest} is not what was submitted; `ddqjobs retry {run}` copies your own file anew"
