"""Which files an environment consists of, as text: a digest and a path per line.

Two builds from one lock give the same text. So left out is what differs between them and decides nothing
(bytecode, what tools note about when and where they installed), and the environment's own folder counts as
the same text wherever it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddqjobs.detect import files

_LEFT_OUT_FOLDERS = {"__pycache__", ".git", ".steps"}
_LEFT_OUT_FILES = {"pyvenv.cfg", "uv_cache.json", "uv_build.json", "direct_url.json", ".lock"}
_LARGE = 64 << 20  # beyond this a file is read in parts and taken as it is
_SCRIPTS = b"../../../bin/"  # in a RECORD: scripts hold the environment's path, so their digests differ


def manifest(folder: Path) -> str:
    """Lines of ``<sha256>  <path>``, sorted by path. Raises OSError."""
    paths = sorted(_files(folder))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda path: _digest(folder, path), paths)
        return "".join(f"{digest}  {path}\n" for digest, path in zip(digests, paths, strict=True))


def digest(text: str) -> str:
    """The digest of a manifest."""
    return hashlib.sha256(text.encode()).hexdigest()


def differences(before: str, after: str) -> list[str]:
    """What changed between two manifests, as words."""
    old, new = _parse(before), _parse(after)
    words = {
        **dict.fromkeys(old.keys() - new.keys(), "gone"),
        **dict.fromkeys(new.keys() - old.keys(), "new"),
    }
    words |= {path: "changed" for path in old.keys() & new.keys() if old[path] != new[path]}
    return [f"{path} {word}" for path, word in sorted(words.items())]


def _parse(text: str) -> dict[str, str]:
    pairs = (line.partition("  ") for line in text.splitlines())
    return {path: digest for digest, _, path in pairs}


def _files(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            for path in entry.rglob("*"):
                relative = path.relative_to(folder)
                if not _LEFT_OUT_FOLDERS & set(relative.parts) and _counts(path):
                    yield relative.as_posix()


def _counts(path: Path) -> bool:
    return (
        path.name not in _LEFT_OUT_FILES and path.suffix != ".pyc" and (path.is_file() or path.is_symlink())
    )


def _digest(folder: Path, relative: str) -> str:
    path = folder / relative
    if path.is_symlink():
        return hashlib.sha256(_neutral(folder, str(path.readlink()).encode())).hexdigest()
    if path.stat().st_size > _LARGE:
        return files.sha256(path)
    data = _neutral(folder, path.read_bytes())
    if path.name == "RECORD":
        lines = sorted(line for line in data.splitlines() if not line.startswith(_SCRIPTS))
        data = b"\n".join(line for line in lines if line.split(b",")[0].rpartition(b"/")[2] not in _NOTES)
    return hashlib.sha256(data).hexdigest()


def _neutral(folder: Path, data: bytes) -> bytes:
    return data.replace(str(folder).encode(), b"{environment}")


_NOTES = {name.encode() for name in _LEFT_OUT_FILES}
