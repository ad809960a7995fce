"""One line that a check says of a configuration. Standard library only."""

from __future__ import annotations

import difflib
from typing import Any, Iterable, Iterator, NamedTuple

ERROR, WARNING = "error", "warning"


class Finding(NamedTuple):
    """A thing that is wrong, and its place; ``key`` is a dotted path of the configuration, empty for the
    whole of it."""

    kind: str  # load, option, value, type, data, classes, batch, operators, product
    key: str
    text: str
    nearest: str = ""
    level: str = ERROR

    def line(self) -> str:
        """Return the finding as a sentence."""
        return f"{self.text}; the nearest is {self.nearest}" if self.nearest else self.text


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a dictionary, or the positions and items of a list."""
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), item) for place, item in enumerate(value))


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dictionary with its path, the outer ones first."""
    if isinstance(value, dict):
        yield path, value
    for key, item in children(value):
        yield from walk(item, join(path, key))


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all values."""
    for key, item in children(value):
        here = join(path, key)
        yield here
        yield from paths(item, here)


def join(path: str, key: str) -> str:
    """Return the path of a key below a path."""
    return f"{path}.{key}" if path else key


def lookup(value: Any, path: str) -> Any:
    """Return the value at a path; None if it leads nowhere."""
    for key in path.split(".") if path else ():
        value = dict(children(value)).get(key)
    return value


def closest(word: str, candidates: Iterable[str]) -> str:
    """Return the one of the candidates that somebody may have meant; empty if none is near."""
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.7)
    return near[0] if near else ""
