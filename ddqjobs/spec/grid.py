"""Grids: the values of some options, each with each, become variants with readable, stable names. Pure.

A name is made of a value's key and of the value itself, never of its place in a list, so that a value may be
added to a grid and the runs of the others keep their names: ``lr-0.0001``, ``lr-0.0001_decay-0.05``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping

from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.experiment import Experiment, Task
from ddqjobs.spec.table import Scalar

MOST = 10_000  # points of one task
_LONGEST = 24  # characters of a value in a name
Parameters = tuple[tuple[str, Scalar], ...]  # short key -> value


class Point(Frozen, frozen=True, kw_only=True):
    """One point of a task's grid: a variant of the task's runs."""

    name: str
    base: str  # the variant that it is made from
    options: dict[str, Scalar]
    parameters: Parameters


def size(task: Task) -> int:
    """Return the number of points of a task's grid; 0 where it has none."""
    lengths = (len(values) for values in task.grid.values())
    return math.prod(lengths, start=len(task.variants or ("default",))) if task.grid else 0


def points(task: Task) -> Iterator[Point]:
    """Yield the points of a task's grid, the last key first; nothing where it has none."""
    if not task.grid:
        return
    short = short_keys(task.grid)
    for base in task.variants or ("default",):
        for values in itertools.product(*task.grid.values()):
            options = dict(zip(task.grid, values, strict=True))
            parameters = tuple((short[key], value) for key, value in options.items())
            own = "_".join(f"{_safe(key)}-{text_of(value)}" for key, value in parameters)
            name = own if base == "default" else f"{base}_{own}"
            yield Point(name=name, base=base, options=options, parameters=parameters)


def short_keys(keys: Mapping[str, object]) -> dict[str, str]:
    """Return key -> its last parts, as many as tell it from the other keys: ``lr`` of
    ``optim_wrapper.optimizer.lr``."""
    parts = {key: key.removeprefix("+").split(".") for key in keys}
    short = {}
    for key, own in parts.items():
        others = [other for name, other in parts.items() if name != key]
        count = next((n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others)), len(own))
        short[key] = ".".join(own[-count:])
    return short


def text_of(value: Scalar) -> str:
    """Return a value as part of a name. One that is changed or cut for that ends with digits of its hash."""
    text = shown(value)
    if not isinstance(value, str):
        return text.replace("+", "")
    safe = _safe(text)[:_LONGEST].strip("-")
    if safe == text:
        return text
    import hashlib  # needed by a rare name only, and slow to come

    digits = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{safe}-{digits}" if safe else digits


def shown(value: Scalar) -> str:
    """Return a value as tables show it: ``0.0001``, ``1e-5``, ``true``."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return re.sub(r"e([+-])0*", r"e\1", repr(value)) if isinstance(value, float) else str(value)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")


def names(e: Experiment) -> dict[str, Point]:
    """Return the points of all tasks by name. Tasks whose grids have the same short keys share names: each
    is asked for in the options of its own code."""
    by_name: dict[str, Point] = {}
    for task in e.tasks.values():
        for point in points(task):
            by_name.setdefault(point.name, point)
    return by_name
