"""Moments and metrics in words. Pure."""

from __future__ import annotations

import time

from ddqjobs.report.results import METRICS, score
from ddqjobs.spec.model import Product

_SANE = (946684800.0, 7258118400.0)  # 2000 to 2200: a clock that says anything else is wrong


def sane(at: float | None) -> bool:
    """Return whether a clock that says this can be believed."""
    return at is not None and _SANE[0] <= at <= _SANE[1]


def moment(at: float | None) -> str:
    """Return ``2026-11-25 09:45``, local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None and sane(at) else "?"


def metrics(product: Product) -> list[tuple[str, str]]:
    """Return a product's metrics by name: AP and its like in points, others as they are."""
    names = {key: name for name, key in METRICS.items()}
    made = []
    for key, value in product.metrics.items():
        if key in names:
            found = score(product, names[key])
            text = found.note if found.points is None else f"{found.points:.1f}"
        else:
            text = "nan" if value is None else f"{value:.6g}"
        made.append((names.get(key, key), text))
    return made
