"""Hours and GPU hours: used so far, and to come, by run, and by phase and model. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.planning.estimate import Estimate, estimates
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Status
from ddqjobs.store.history import History, Ticket


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The hours of one run. GPU hours are None where nothing is known of runs like it."""

    wall: float = 0.0  # of all its jobs, each from its first start to its last end
    kept: float = 0.0  # of those that left a product
    used: float = 0.0  # GPU hours
    planned: float | None = 0.0  # GPU hours
    to_come: float | None = 0.0  # GPU hours


class HoursRow(msgspec.Struct, frozen=True, kw_only=True):
    """The hours of a phase and model; both are empty for all of them. Optional runs count once started."""

    phase: str
    """Name of the phase; empty in the sum over phases, and for runs without one. Example: '3'"""
    model: str
    """Name of the model; empty in the sum over models, and for runs without one. Example: ddq-detr-4scale"""
    runs: int
    """Number of runs; an optional one counts once it was submitted or is done. Example: 8"""
    done: int
    """Number of runs that are done. Example: 3"""
    wall: float
    """Wall-clock hours of all jobs, each from its first start to its last end. Example: 41.5"""
    kept: float
    """Wall-clock hours of the jobs that left a product. Example: 38.2"""
    planned: float | None
    """GPU hours planned for all of the runs; null if they are not known for one of them. Example: 672.0"""
    used: float
    """GPU hours used so far. Example: 251.3"""
    to_come: float
    """GPU hours still to come, of the runs for which they are known. Example: 420.0"""
    unknown: int = 0
    """Number of outstanding runs whose hours are not known. Example: 0"""

    @property
    def efficiency(self) -> float | None:
        """Return the share of the wall time that ended with a product, 0 to 1; None before anything ran."""
        return self.kept / self.wall if self.wall else None

    @property
    def share(self) -> float | None:
        """Return GPU hours used in parts of those planned; None where nothing is planned or known."""
        return self.used / self.planned if self.planned else None


def spent(
    plan: Plan, history: History, progress: Mapping[str, Progress] | None = None, *, now: float
) -> dict[str, Spent]:
    """Return run -> hours, by the ledger; of running trainings by their own word."""
    costs, known = estimates((planned.run for planned in plan.runs), history), progress or {}
    return {
        planned.run.name: _spent(
            planned,
            history.of(planned.run.name).tickets,
            costs[planned.run.name],
            known.get(planned.run.name),
            now,
        )
        for planned in plan.runs
    }


def _spent(
    planned: PlannedRun, tickets: Sequence[Ticket], cost: Estimate, progress: Progress | None, now: float
) -> Spent:
    gpus = planned.run.resources.gpus * planned.run.resources.nodes
    wall = sum(_hours(ticket, now) for ticket in tickets)
    kept = sum(_hours(t, now) for t in tickets if t.finished is not None and t.finished.product is not None)
    planned_hours = planned.run.gpu_hours if planned.run.hours is not None else cost.gpu_hours
    to_come: float | None = 0.0
    if not (planned.status is Status.DONE or _not_asked(planned)):
        to_come = _to_come(planned, tickets, cost, progress, now)
    return Spent(wall=wall, kept=kept, used=wall * gpus, planned=planned_hours, to_come=to_come)


def _not_asked(planned: PlannedRun) -> bool:
    return planned.run.optional and planned.status in (Status.ELIGIBLE, Status.WAITING)


def _to_come(
    planned: PlannedRun, tickets: Sequence[Ticket], cost: Estimate, progress: Progress | None, now: float
) -> float | None:
    if progress is not None and progress.gpu_hours_to_come is not None:
        return progress.gpu_hours_to_come
    if cost.gpu_hours is None:
        return None
    running = planned.state is JobState.RUNNING and bool(tickets)
    gpus = planned.run.resources.gpus * planned.run.resources.nodes
    return max(0.0, cost.gpu_hours - (_hours(tickets[-1], now) * gpus if running else 0.0))


def _hours(ticket: Ticket, now: float) -> float:
    """Return the hours of a ticket; none where its clock cannot be believed."""
    end = ticket.finished
    if end is not None:
        start, stop = end.started_at, end.ended_at
    else:
        start, stop = (ticket.since, now) if ticket.state is JobState.RUNNING else (None, None)
    return max(0.0, stop - start) / 3600 if start and stop else 0.0


def hours_rows(
    experiment: Experiment, picked: Iterable[PlannedRun], hours: Mapping[str, Spent]
) -> tuple[HoursRow, ...]:
    """Return a row per phase and model, per phase, per model and over all."""
    cells: dict[tuple[str, str], list[PlannedRun]] = {}
    for planned in picked:
        if planned.run.optional and not planned.submissions and planned.status is not Status.DONE:
            continue
        for key in dict.fromkeys(
            (
                (planned.run.phase, planned.run.model),
                (planned.run.phase, ""),
                ("", planned.run.model),
                ("", ""),
            )
        ):
            cells.setdefault(key, []).append(planned)
    rows = [_row(key, runs, hours) for key, runs in cells.items()]
    phases, models = list(experiment.phases), list(experiment.models)
    return tuple(sorted(rows, key=lambda r: (_place(models, r.model), _place(phases, r.phase))))


def hours_order(rows: Iterable[HoursRow]) -> tuple[list[str], list[str]]:
    """Return the models and the phases of such rows in their order, the sums last."""
    rows = list(rows)
    return [row.model for row in rows if not row.phase], [row.phase for row in rows if not row.model]


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names) + (not name)


def _row(key: tuple[str, str], runs: Sequence[PlannedRun], hours: Mapping[str, Spent]) -> HoursRow:
    known = [hours.get(planned.run.name, Spent()) for planned in runs]
    return HoursRow(
        phase=key[0],
        model=key[1],
        runs=len(runs),
        done=sum(planned.status is Status.DONE for planned in runs),
        wall=sum(s.wall for s in known),
        kept=sum(s.kept for s in known),
        planned=None if any(s.planned is None for s in known) else sum(s.planned or 0.0 for s in known),
        used=sum(s.used for s in known),
        to_come=sum(s.to_come or 0.0 for s in known),
        unknown=sum(s.to_come is None for s in known),
    )
