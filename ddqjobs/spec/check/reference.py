"""A name that refers to something the experiment declares, and what every check yields. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ddqjobs.base.errors import nearest

Path = tuple[str | int, ...]  # keys down to the place
Found = Iterator[tuple[Path, str]]  # place, problem


def reference(path: Path, what: str, name: str, valid: Iterable[str]) -> Found:
    """Yield a problem unless ``name`` is one of the ``valid``."""
    names = list(dict.fromkeys(valid))
    if name not in names:
        listed = ", ".join(names) or "none"
        yield path, f"unknown {what} '{name}'{nearest(name, names)}; declared: {listed}"
