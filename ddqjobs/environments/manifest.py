"""List the files of an environment as text: a digest and a path per line.

Two builds from one lock give the same text. So left out is what differs between them and decides nothing
(bytecode, what tools note about when and where they installed), and the environment's own folder counts as
the same text wherever it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddqjobs.detect.job import installed


def manifest(folder: Path) -> str:
    """Lines of ``<sha256>  <path>``, sorted by path. Raises OSError."""
    paths = sorted(_files(folder))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda path: installed.digest(folder, path), paths)
        return "".join(f"{digest}  {path}\n" for digest, path in zip(digests, paths, strict=True))


def digest(text: str) -> str:
    """The digest of a manifest."""
    return hashlib.sha256(text.encode()).hexdigest()


def differences(before: str, after: str) -> list[str]:
    """Return what changed between two manifests, in words."""
    old, new = _parse(before), _parse(after)
    changes = {
        **dict.fromkeys(old.keys() - new.keys(), "gone"),
        **dict.fromkeys(new.keys() - old.keys(), "new"),
    }
    changes |= {path: "changed" for path in old.keys() & new.keys() if old[path] != new[path]}
    return [f"{path} {change}" for path, change in sorted(changes.items())]


def _parse(text: str) -> dict[str, str]:
    pairs = (line.partition("  ") for line in text.splitlines())
    return {path: digest for digest, _, path in pairs}


def _files(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            for path in entry.rglob("*"):
                relative = path.relative_to(folder)
                if not installed.LEFT_OUT_FOLDERS & set(relative.parts) and _counts(path):
                    yield relative.as_posix()


def _counts(path: Path) -> bool:
    return (
        path.name not in installed.LEFT_OUT_FILES
        and path.suffix != ".pyc"
        and (path.is_file() or path.is_symlink())
    )
