"""Digests of the files that an environment consists of, by a rule that two builds from one lock share.

Left out is what differs between builds and decides nothing: bytecode, and what tools note about when and
where they installed. The environment's own folder counts as the same text wherever it is. Standard library
only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Iterable

from .. import files

LEFT_OUT_FOLDERS = frozenset({"__pycache__", ".git", ".steps"})
LEFT_OUT_FILES = frozenset({"pyvenv.cfg", "uv_cache.json", "uv_build.json", "direct_url.json", ".lock"})
_LARGE = 64 << 20  # beyond this a file is read in parts and taken as it is
_SCRIPTS = b"../../../bin/"  # in a RECORD: scripts hold the environment's path, so their digests differ
_NOTES = {name.encode() for name in LEFT_OUT_FILES}


def digest(folder: Path, relative: str) -> str:
    """Return the digest of a file of the environment in ``folder``. Raises OSError."""
    path = folder / relative
    if path.is_symlink():
        return hashlib.sha256(_neutral(folder, os.readlink(str(path)).encode())).hexdigest()
    if path.stat().st_size > _LARGE:
        return files.sha256(path)
    data = _neutral(folder, path.read_bytes())
    if path.name == "RECORD":
        lines = sorted(line for line in data.splitlines() if not line.startswith(_SCRIPTS))
        data = b"\n".join(line for line in lines if line.split(b",")[0].rpartition(b"/")[2] not in _NOTES)
    return hashlib.sha256(data).hexdigest()


def made(link: Path) -> Path:
    """Return the folder of an environment by the path by which it was made, which its files hold."""
    return link.parent / os.readlink(str(link)) if link.is_symlink() else Path(os.path.realpath(str(link)))


def listed(folder: Path) -> dict[str, str]:
    """Return what was built: relative path -> digest. Raises OSError."""
    lines = (folder / "files.txt").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def changed(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return those of the paths, below ``lib`` of an environment, that are not what was built in it."""
    try:
        built = listed(folder)
    except OSError:
        return []
    real = Path(os.path.realpath(str(folder)))
    changes = []
    for path in map(Path, paths):
        place = Path(os.path.realpath(str(path.parent)), path.name)
        if real / "lib" in place.parents and "__pycache__" not in place.parts:
            relative = str(place.relative_to(real))
            if not place.exists() or built.get(relative) != digest(folder, relative):
                changes.append(str(path))
    return changes


def _neutral(folder: Path, data: bytes) -> bytes:
    return data.replace(str(folder).encode(), b"{environment}")
