"""Grids: their keys, values and names, and the baseline. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ddqjobs.spec import grid
from ddqjobs.spec.check.reference import Found, Path, reference
from ddqjobs.spec.experiment import Experiment, Task, models_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def names(e: Experiment) -> list[str]:
    """Return the names of all variants: `default`, those declared, and the points of grids that are not too
    large."""
    small = (task for task in e.tasks.values() if grid.size(task) <= grid.MOST)
    return ["default", *e.variants, *(point.name for task in small for point in grid.points(task))]


def baseline(e: Experiment) -> Found:
    """Yield the problem of a baseline that is no variant."""
    if e.baseline is not None:
        yield from reference(("baseline",), "variant", e.baseline, dict.fromkeys(names(e)))


def grids(e: Experiment, at: Path, task: Task) -> Found:
    """Yield the problems of a task's grid."""
    here: Path = (*at, "grid")
    seeds = {e.codes[code].seed_option for code in _codes(task, e) if code in e.codes}
    short = [key.removeprefix("+") for key in task.grid]
    for key, values in task.grid.items():
        if short.count(key.removeprefix("+")) > 1 and key.startswith("+"):
            yield (*here, key), f"'{key.removeprefix('+')}' has values in this grid already; name it once"
        if not values:
            yield (*here, key), "a grid needs at least one value for each key"
        if key.removeprefix("+") in {"seed", "seeds", *seeds} - {""}:
            yield (*here, key), "list seeds under `seeds`, not in a grid"
    if grid.size(task) > grid.MOST:
        yield here, f"{grid.size(task):,} combinations; a grid has at most {grid.MOST:,}"
        return
    yield from ((here, message) for message in dict.fromkeys(_names(e, task)))


def _names(e: Experiment, task: Task) -> Iterator[str]:
    """Yield what is wrong with the names of a grid's points."""
    seen: set[str] = set()
    for point in grid.points(task):
        if point.name in seen:
            yield f"two combinations would have the name '{point.name}'; remove one, or rename a variant"
        elif point.name in e.variants or point.name == "default":
            yield f"a combination would have the name of variant '{point.name}'; rename the variant"
        elif not _NAME.fullmatch(point.name):
            yield (
                f"a combination would have the name '{point.name[:40]}' of {len(point.name)} characters; a "
                "name begins with a letter or digit, and has at most 80"
            )
        seen.add(point.name)


def _codes(task: Task, e: Experiment) -> list[str]:
    return [task.code or ""] if task.once else [entry.code for _, entry in models_of(e, task)]
