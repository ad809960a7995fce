"""Figures in AP points: those that can only be fractions, or finer than any metric is printed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ddqjobs.spec.check.reference import Found, Path
from ddqjobs.spec.experiment import Experiment, Tolerance

_DIGIT = 0.1  # AP points: detectors print a metric with three decimals, 0.513 for 51.3 points
_MOST = 100


def figures(e: Experiment) -> Found:
    """Yield the figures of models, phases and tasks that are not in AP points."""
    for name, model in e.models.items():
        ap = model.reference.ap
        at: Path = ("models", name, "reference", "ap")
        if ap is not None and 0 < ap < 1:
            yield at, f"{ap:g} is a fraction; write AP in points: {100 * ap:g}"
        elif ap is not None and not 0 <= ap <= _MOST:
            yield at, f"{ap:g} is not a valid AP; write AP in points, from 0 to {_MOST}"
    for at, tolerance in _tolerances(e):
        if tolerance.ap is not None and 0 < tolerance.ap < _DIGIT:
            yield (
                (*at, "tolerance", "ap"),
                f"{tolerance.ap:g} AP points is less than the last printed digit ({_DIGIT:g}); "
                f"for a fraction write {100 * tolerance.ap:g}, for equal figures 0",
            )


def _tolerances(e: Experiment) -> Iterator[tuple[Path, Tolerance]]:
    for name, phase in e.phases.items():
        yield ("phases", name), phase.tolerance
    for name, task in e.tasks.items():
        yield ("tasks", name), task.tolerance
