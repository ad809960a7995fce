"""A name that refers to something the experiment declares, and what every check yields. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ddqjobs.base.errors import listed, nearest

Path = tuple[str | int, ...]  # keys down to the place
Found = Iterator[tuple[Path, str]]  # place, problem


def reference(path: Path, what: str, name: str, valid: Collection[str], remedy: str = "") -> Found:
    """Yield a problem unless ``name`` is one of the ``valid``; ``remedy`` is what adds one."""
    if name not in valid:
        names = list(dict.fromkeys(valid))
        declared = f"declared: {listed(names) or 'none'}{remedy and f'; {remedy}'}"
        yield path, f"unknown {what} '{name}'{nearest(name, names)}; {declared}"
