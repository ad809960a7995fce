"""Estimate the GPU hours of runs: learnt from runs of the same task and model, else as declared. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.model import Run
from ddqjobs.store.history import History


class Estimate(Frozen, frozen=True, kw_only=True):
    """``gpu_hours`` is None if nothing is known; a run without GPUs costs none. ``source`` is learnt,
    declared, or empty."""

    gpu_hours: float | None
    source: str = ""


def estimates(runs: Iterable[Run], history: History) -> dict[str, Estimate]:
    """Run -> estimate. Learnt: the mean wall clock of done runs of the same task, model and GPU count."""
    runs = tuple(runs)
    taken: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        end = history.of(run.name).done
        if end is not None and end.started_at and end.ended_at and end.ended_at > end.started_at:
            taken.setdefault(_key(run), []).append((end.ended_at - end.started_at) / 3600)
    return {run.name: _estimate(run, taken.get(_key(run), [])) for run in runs}


def _key(run: Run) -> tuple[str, str, int]:
    return run.task, run.model, run.resources.gpus * run.resources.nodes


def _estimate(run: Run, hours: list[float]) -> Estimate:
    gpus = run.resources.gpus * run.resources.nodes
    if gpus == 0:
        return Estimate(gpu_hours=0.0)
    if hours:
        return Estimate(gpu_hours=gpus * sum(hours) / len(hours), source="learnt")
    if run.hours is not None:
        return Estimate(gpu_hours=gpus * run.hours, source="declared")
    return Estimate(gpu_hours=None)
