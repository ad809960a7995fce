"""A training's curve, thin enough for a page: few points, and no extreme lost. Standard library only.

The job leaves it as ``curve.json`` beside its log (:mod:`ddqjobs.detect.product`), so that a report of
hundreds of trainings need not read their logs; the project makes it from the log where there is none.
"""

from __future__ import annotations

import math
import re
from typing import Any, Iterable

from . import logs

NAME = "curve.json"
BUCKETS = 100  # of each of them the smallest and the largest value are kept
PARTS = 40  # of the training, whose mean losses are compared between trainings
_LAYER = re.compile(r"^(?:d\d+\.|\d+_)")  # d0.loss_cls, 0_aux_aux_loss_cls: one of several decoder layers


def thin(log: logs.Log) -> dict[str, Any]:
    """``rows`` logged iterations from ``first`` to ``last``; ``terms``: name -> [[iteration, value], ...];
    ``means``: name -> one mean per part; ``val``: metric -> [[epoch, fraction], ...]; ``lost`` lines.
    Validations that have no epochs, or several in one, are by iterations, and ``val_by`` says so.

    Terms are the losses, the learning rate and the gradient norm; a loss that each decoder layer has is
    there once, as the sum over layers. A value is null where it is not finite.
    """
    length = max([row.iteration for row in log.train], default=0)
    steps = [row.step or (row.epoch - 1) * length + row.iteration for row in log.train]
    series = _series(log.train)
    last = steps[-1] if steps else 0
    epochs = [row.epoch for row in log.val]
    by_iterations = 0 in epochs or len(set(epochs)) < len(epochs)
    thinned = {
        "rows": len(steps),
        "first": steps[0] if steps else 0,
        "last": last,
        "terms": {name: _thinned(steps, values) for name, values in series.items()},
        "means": {"loss": _means(steps, series["loss"], last)} if "loss" in series else {},
        "val": _validations(log.val, by_iterations),
        "lost": log.skipped,
    }
    return {**thinned, "val_by": "iteration"} if by_iterations else thinned


def _series(rows: list[logs.Train]) -> dict[str, list[float]]:
    """Name -> a value per row (NaN where a row has none), ``loss`` first."""
    names = {name: None for row in rows for name in row.values}
    groups: dict[str, list[str]] = {}
    for name in names:
        if "loss" in name or name in ("lr", "grad_norm"):
            groups.setdefault(_LAYER.sub("", name), []).append(name)
    order = sorted(groups, key=lambda name: name != "loss")
    return {group: [_sum(row.values, groups[group]) for row in rows] for group in order}


def _sum(values: dict[str, float], names: list[str]) -> float:
    if len(names) == 1:
        return values.get(names[0], math.nan)
    there = [values[name] for name in names if name in values]
    return math.fsum(there) if there and all(map(math.isfinite, there)) else math.nan


def _thinned(steps: list[int], values: list[float]) -> list[list[float | None]]:
    """The first and the last point, of each bucket the smallest and the largest, and a null where one or
    more are not finite."""
    size = max(1, math.ceil(len(values) / BUCKETS))
    kept: set[int] = {0, len(values) - 1} if values else set()
    for start in range(0, len(values), size):
        places = range(start, min(start + size, len(values)))
        finite = [i for i in places if math.isfinite(values[i])]
        if finite:
            kept.update((min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)))
        if len(finite) < len(places):
            kept.add(next(i for i in places if not math.isfinite(values[i])))
    return [[steps[i], _short(values[i])] for i in sorted(kept)]


def _means(steps: list[int], values: list[float], last: int) -> list[float | None]:
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for step, value in zip(steps, values):
        parts[min(PARTS - 1, max(0, (step - 1) * PARTS // last))].append(value)
    return [
        _short(math.fsum(part) / len(part), 9) if part and all(map(math.isfinite, part)) else None
        for part in parts
    ]


def _validations(rows: Iterable[logs.Val], by_iterations: bool) -> dict[str, list[list[float | None]]]:
    series: dict[str, list[list[float | None]]] = {}
    for row in rows:
        place = row.step if by_iterations else row.epoch
        for name, value in logs.metrics_of(row.values).items():
            series.setdefault(name, []).append([place, _short(value)])
    return series


def _short(value: float, digits: int = 5) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
