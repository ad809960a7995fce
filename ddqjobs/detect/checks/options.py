"""Options of a configuration: whether somebody reads them, and whether their values can be meant."""

from __future__ import annotations

import inspect
from collections import abc
from typing import Any, Iterator, Union

from .finding import Finding, children, closest, join, paths
from .places import Places
from .types import Takes

_NUMBERS = (int, float)


class Options:
    """Checks options one by one against a configuration that has none of them."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def check(self, cfg: Any, key: str, value: Any) -> Iterator[Finding]:
        """Yield what is wrong with an option, given as its path and its value."""
        at, rest = cfg, key.split(".")
        path = ""
        for place, part in enumerate(rest):
            below = dict(children(at))
            if part not in below:
                if isinstance(at, dict):
                    yield from self._added(cfg, path, at, rest[place:], value)
                return  # of a list: merging says it
            last_in, at = at, below[part]
            path = join(path, part)
        yield from self._idle(cfg, key)
        known = self._known(path.rpartition(".")[0], last_in)
        yield from _misfit(key, rest[-1], value, known, at, there=True)

    def _known(self, path: str, at: Any) -> Takes | None:
        return self._places.takes(path, at) if isinstance(at, dict) else None

    def _added(
        self, cfg: Any, path: str, at: dict[str, Any], rest: list[str], value: Any
    ) -> Iterator[Finding]:
        """Yield what is wrong with a path of which ``rest`` does not exist below ``path``."""
        known, part = self._known(path, at), rest[0]
        names = {"type", *(known.names if known else ())}
        if part in names or (known is not None and known.others and not closest(part, names)):
            if len(rest) == 1:
                yield from _misfit(join(path, part), part, value, known, None, there=False)
            elif part in names:
                yield from self._below(cfg, join(path, part), rest[1:], value)
            return
        yield _missing(cfg, path, rest, {*names, *at})

    def _below(self, cfg: Any, path: str, rest: list[str], value: Any) -> Iterator[Finding]:
        """Yield what is wrong below a path that does not exist yet, as far as it is known what it takes."""
        known = self._known(path, {})
        if known is None or known.others:
            return
        if rest[0] not in (*known.names, "type"):
            yield _missing(cfg, path, rest, known.names)
        elif len(rest) == 1:
            yield from _misfit(join(path, rest[0]), rest[0], value, known, None, there=False)

    def _idle(self, cfg: Any, key: str) -> Iterator[Finding]:
        """Yield a name at the root that the configuration's own text uses, and nothing else."""
        root = self._places.takes("", {})
        first, _, deeper = key.partition(".")
        if root is None or first in root.names or deeper:
            return
        uses = [
            path
            for path in paths(cfg)
            if path.partition(".")[0] in root.names and path.rpartition(".")[2] == key
        ]
        if uses:
            said = f"option {key} changes a name of the file alone, which was read before the options"
            yield Finding("option", key, said, uses[0])


def _missing(cfg: Any, path: str, rest: list[str], names: Any) -> Finding:
    key = join(path, ".".join(rest))
    said = f"option {key}: {path or 'the configuration'} has no '{rest[0]}' (+{key} adds it)"
    return Finding("option", key, said, _nearest(cfg, path, rest, names))


def _nearest(cfg: Any, path: str, rest: list[str], names: Any) -> str:
    """Return the existing path that somebody may have meant; empty if none is near."""
    existing = list(paths(cfg))
    word = closest(rest[0], (name for name in names if name != rest[0]))
    if word:
        fixed = join(path, ".".join([word, *rest[1:]]))
        if fixed in existing or len(rest) == 1:
            return fixed
    whole = join(path, ".".join(rest))
    ends = [
        candidate
        for candidate in existing
        if candidate.endswith(f".{whole}") or candidate.endswith(f".{'.'.join(rest)}")
    ]
    if ends:
        return min(ends, key=len)
    return closest(whole, existing) or (join(path, word) if word else "")


def _misfit(
    key: str, name: str, value: Any, known: Takes | None, old: Any, *, there: bool
) -> Iterator[Finding]:
    """Yield a value that is of another type than what stands there, or than what is asked for."""
    parameter = known.names.get(name) if known else None
    hint = known.hints.get(name, Any) if known else Any
    if value is None and (parameter is None or parameter.default is None or not there):
        return
    if _says(hint):
        sloppy = there and old is not None and not fits(old, hint) and type(old) is type(value)
        if not fits(value, hint) and not sloppy:
            yield _wrong(key, value, _named(hint))
    elif there and not _like(value, old):
        yield _wrong(key, value, f"{type(old).__name__}, as {old!r:.40}")


def _wrong(key: str, value: Any, wanted: str) -> Finding:
    said = f"option {key}: {value!r:.60} is a {type(value).__name__}; expected {wanted}"
    return Finding("value", key, said)


def _says(hint: Any) -> bool:
    return hint is not Any and hint is not inspect.Parameter.empty


def _named(hint: Any) -> str:
    if isinstance(hint, type):
        return hint.__name__
    text = str(hint).replace("typing.", "").replace("mmengine.config.config.", "")
    return text if len(text) < 80 else text[:77] + "..."


def _like(value: Any, old: Any) -> bool:
    """Tell whether a value may stand where another one did, of which nothing else is known."""
    if old is None or value is None:
        return True
    if isinstance(old, bool):
        return value in (0, 1)
    if isinstance(old, _NUMBERS):
        return not isinstance(value, (str, bool))
    if isinstance(old, str):
        return not isinstance(value, _NUMBERS)
    if isinstance(old, dict):
        return isinstance(value, dict)
    return not isinstance(old, (list, tuple)) or isinstance(value, (list, tuple))


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type; True for annotations that are not understood."""
    origin = getattr(hint, "__origin__", None)
    arguments = getattr(hint, "__args__", ())
    if origin is Union or type(hint).__name__ == "UnionType":
        return any(fits(value, one) for one in arguments)
    if type(hint).__name__ in ("_LiteralGenericAlias",) or str(origin) == "typing.Literal":
        return value in arguments
    kind = origin or hint
    if kind is type(None) or kind is None:
        return value is None
    if not isinstance(kind, type):
        return True
    return _is_a(value, kind)


def _is_a(value: Any, kind: type) -> bool:
    if kind is bool:
        return value in (0, 1) and not isinstance(value, (str, list, tuple))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, _NUMBERS) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, str)
    if kind in (list, tuple, abc.Sequence):
        return isinstance(value, (list, tuple))
    if issubclass(kind, dict):
        return isinstance(value, dict)
    if kind.__module__.partition(".")[0] == "torch":
        return isinstance(value, kind)  # no option is a tensor
    return value is not None or kind is object
