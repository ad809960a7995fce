"""Two logs of trainings, compared iteration by iteration. Standard library only."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from ..job import logs
from . import CannotCompare


def load(path: Path) -> logs.Log:
    """Return the log at ``path``. Raises CannotCompare if there is none in it."""
    log = logs.read(path)
    if not (log.train or log.val or log.test):
        raise CannotCompare(f"{path}: no log in it")
    return log


class _Curve(NamedTuple):
    rows: dict[int, dict[str, float]]  # iteration over all epochs -> values
    terms: list[str]


def compare(a: logs.Log, b: logs.Log) -> dict[str, Any]:
    """Compare two loss curves; :mod:`ddqjobs.detect.align` says what is in the result. Raises CannotCompare
    if no iteration is common."""
    one, two = _curves(a, b)
    common = sorted(set(one.rows) & set(two.rows))
    if not common:
        raise CannotCompare("the two logs have no training iteration in common")
    terms = [t for t in one.terms if t in two.terms]
    if not any("loss" in t for t in terms):
        raise CannotCompare("the two logs have no loss term in common")
    worst = {t: _term(one, two, t, common) for t in terms}
    not_finite = sum(w["not_finite"] for w in worst.values())
    first = [s for s in common if any(_bits(one, s, t) != _bits(two, s, t) for t in terms)][:1]
    sides = [[t for t in x.terms if t not in y.terms] for x, y in ((one, two), (two, one))]
    counts = [{"iterations": len(x.rows), "validations": len(log.val)} for x, log in ((one, a), (two, b))]
    metrics = {
        "loss": _largest([w["relative"] for t, w in worst.items() if "loss" in t]),
        "total": worst["loss"]["relative"] if "loss" in worst else None,
        "grad_norm": worst["grad_norm"]["relative"] if "grad_norm" in worst else None,
        "iterations": len(common),
        "left_over": len(set(one.rows) ^ set(two.rows)) + sum("loss" in t for side in sides for t in side),
        "first_difference": first[0] if first else None,
        "not_finite": not_finite,
    }
    return {
        "kind": "losses",
        "bit_equal": not first and not any(sides) and set(one.rows) == set(two.rows),
        "metrics": metrics,
        "a": counts[0],
        "b": counts[1],
        "terms": {t: {"relative": w["relative"], "at": w["at"]} for t, w in worst.items()},
        "only_a": sides[0],
        "only_b": sides[1],
        "val": _validations(a, b),
    }


def _curves(a: logs.Log, b: logs.Log) -> tuple[_Curve, _Curve]:
    """Both curves by iteration over all epochs. mmcv counts within the epoch: the length of an epoch is then
    taken from the other log, or from this one's own numbering if both are mmcv's."""
    length = next((n for n in (_length(a), _length(b)) if n), 0) or _most(a, b)
    curves = []
    for log in (a, b):
        rows = {r.step or (r.epoch - 1) * length + r.iteration: r.values for r in log.train}
        names = {name: None for values in rows.values() for name in values}
        curves.append(_Curve(rows, [n for n in names if "loss" in n or n == "grad_norm"]))
    return curves[0], curves[1]


def _length(log: logs.Log) -> int:
    """Iterations per epoch: how far the first logged iterations of epochs 1 and 2 are apart. 0: unknown."""
    first = {row.epoch: row.step for row in reversed(log.train) if row.step}
    return first[2] - first[1] if 1 in first and 2 in first else 0


def _most(a: logs.Log, b: logs.Log) -> int:
    return max([r.iteration for log in (a, b) for r in log.train], default=0)


def _term(one: _Curve, two: _Curve, term: str, common: list[int]) -> dict[str, Any]:
    """Largest relative difference of a term and the first iteration where it is reached."""
    worst: dict[str, Any] = {"relative": 0.0, "at": None, "not_finite": 0}
    for step in common:
        x, y = one.rows[step].get(term), two.rows[step].get(term)
        if x is None or y is None:
            continue
        if not (math.isfinite(x) and math.isfinite(y)):
            if _bits(one, step, term) != _bits(two, step, term):
                worst["not_finite"] += 1
                if worst["not_finite"] == 1:
                    worst.update(relative=math.nan, at=step)
            continue
        relative = abs(x - y) / max(abs(x), abs(y)) if x != y else 0.0
        if relative > worst["relative"]:
            worst.update(relative=relative, at=step)
    return worst


def _bits(curve: _Curve, step: int, term: str) -> bytes | None:
    value = curve.rows[step].get(term)
    if value is None:
        return None
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def _validations(a: logs.Log, b: logs.Log) -> dict[str, float | None]:
    other = {v.epoch or v.step: v.values.get("bbox_mAP") for v in b.val}
    differences: dict[str, float | None] = {}
    for row in a.val:
        x, y = row.values.get("bbox_mAP"), other.get(row.epoch or row.step)
        if x is not None and y is not None:
            differences[str(row.epoch or row.step)] = round(y - x, 6)
    return differences


def ap(a: logs.Log, b: logs.Log) -> float | None:
    """Return the difference of the two logs' final bbox_mAP in AP points, None if one has none."""
    x, y = (log.metrics.get("bbox_mAP") for log in (a, b))
    return None if x is None or y is None else round(100 * (y - x), 4)


def _largest(values: list[float]) -> float:
    """Largest of the values; NaN if one is NaN."""
    return math.nan if any(math.isnan(v) for v in values) else max(values, default=0.0)
