"""Moments and metrics in words. Pure."""

from __future__ import annotations

import time

from ddqjobs.report.document import MIXED, Report
from ddqjobs.report.results import score
from ddqjobs.spec.metric import OF_BOXES, Metric, found_as
from ddqjobs.spec.model import Product

_SANE = (946684800.0, 7258118400.0)  # 2000 to 2200: a clock that says anything else is wrong


def sane(at: float | None) -> bool:
    """Return whether a clock that says this can be believed."""
    return at is not None and _SANE[0] <= at <= _SANE[1]


def moment(at: float | None) -> str:
    """Return ``2026-11-25 09:45``, local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None and sane(at) else "?"


def measure(report: Report, *, whole: bool = False) -> str:
    """Return ``AP in points``, of the ``whole`` name ``Box AP in points``, or what else is judged."""
    name = report.metrics[0]
    if name == MIXED:
        return "Results in the unit of their metric"
    metric = report.models[0].judged_by
    box = "Box " if whole and metric.is_box_ap and name == "AP" else ""
    return f"{box}{name} in {metric.unit}" if metric.unit else name


def metrics(product: Product, judged_by: Metric) -> list[tuple[str, str]]:
    """Return a product's metrics by name: AP and its like in points, what is judged in its unit, others as
    they are."""
    names = {metric.key: metric for metric in OF_BOXES.values()}
    names[found_as(judged_by.key, product.metrics) or judged_by.key] = judged_by
    rows = []
    for key, value in product.metrics.items():
        if key in names:
            found_score, metric = score(product, names[key]), names[key]
            text = (
                found_score.note
                if found_score.points is None
                else f"{found_score.points:.{metric.decimals}f}"
            )
        else:
            text = "nan" if value is None else f"{value:.6g}"
        rows.append((names[key].name if key in names else key, text))
    return rows
