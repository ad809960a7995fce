#!/usr/bin/env python3
"""Pack a project's results as tests/recorded/results-<format>.tar.xz, for the tests of the upgrade contract.

    tools/record_results.py PROJECT TARGET [OLD=NEW ...]

PROJECT has its own experiments ``mine`` (base: nano) and ``steps`` (three runs of a shell), partly run. Files
above 64 KiB, which are checkpoints, become empty files of the same name: their products stay recorded, and no
run that is left reads them. The names of the host and of the project's folder are replaced, and OLD by NEW
(where the environments lie, for example). Run it once for each results format, with the version of ddqjobs
that made the folder.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import tarfile
from pathlib import Path

LARGE = 1 << 16  # bytes
FOLDER = "/srv/reproduction"  # where the recorded project lay, as far as its files say


def main(project: Path, target: Path, *more: str) -> None:
    """Pack experiments and results; environments and the local queue stay out."""
    replacements = {
        **{old.encode(): new.encode() for old, _, new in (pair.partition("=") for pair in more)},
        str(project.resolve()).encode(): FOLDER.encode(),
        socket.gethostname().encode(): b"node1",
    }
    paths = [*(project / "experiments").rglob("*"), *(project / "results").rglob("*")]
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(paths):
            relative = path.relative_to(project)
            if relative.parts[:2] == ("results", ".local") or relative.name == ".fingerprints.json":
                continue
            archive.addfile(*entry(path, str(relative), replacements))


def entry(
    path: Path, name: str, replacements: dict[bytes, bytes]
) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    """Return what stands for one path in the archive."""
    info = tarfile.TarInfo(replaced(name.encode(), replacements).decode())
    info.mode = 0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644
    if path.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        return info, None
    if path.is_dir():
        info.type = tarfile.DIRTYPE
        return info, None
    large = path.stat().st_size > LARGE and path.suffix not in (".jsonl", ".json", ".log", ".py")
    data = b"" if large else replaced(path.read_bytes(), replacements)
    info.size = len(data)
    return info, io.BytesIO(data)


def replaced(data: bytes, replacements: dict[bytes, bytes]) -> bytes:
    """Return data without what names this machine. Binary files of a detector name none."""
    for old, new in replacements.items():
        data = data.replace(old, new) if b"\0" not in data else data
    return data


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
