"""Select the runs of a submission: those that are meant, those that go now, and why the others do not.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.planning import plan as planning
from ddqjobs.planning.estimate import Estimate
from ddqjobs.planning.filters import Filters, select, with_upstream
from ddqjobs.spec.model import Plan, PlannedRun, Run, Status


class SubmitOptions(Frozen, frozen=True, kw_only=True):
    """Options by which `submit` chooses, beyond the filters."""

    optional: bool = False  # optional runs too
    upstream: bool = False  # and everything that the chosen runs need
    stale: bool = False  # and done runs that are stale
    max_gpu_hours: float | None = None
    check: bool = True  # configurations, before the first submission of a digest


class Submitting(Frozen, frozen=True, kw_only=True):
    """The request: names left by the user's filters, and how far to go."""

    chosen: frozenset[str]
    named: frozenset[str] = frozenset()  # named one by one: optional runs among them are wanted
    optional: bool = False
    stale: frozenset[str] = frozenset()  # wanted once more where they are done and stale
    max_gpu_hours: float | None = None
    check: bool = True
    waivers: bool = False  # what was submitted unchecked goes on unchecked

    @classmethod
    def of_advance(cls, chosen: frozenset[str]) -> Submitting:
        """Return what goes on of runs that somebody submitted before."""
        return cls(chosen=chosen, named=chosen, waivers=True)

    def wants(self, run: Run) -> bool:
        """Return whether a run is meant: an optional one only if it was named or all are wanted."""
        return run.name in self.chosen and (self.optional or not run.optional or run.name in self.named)

    def without(self, runs: Collection[str]) -> Submitting:
        """Return what is still wanted when some runs are not to be tried again."""
        return msgspec.structs.replace(self, chosen=self.chosen - {*runs}) if runs else self

    def rest(self, gpu_hours: float, again: Collection[str]) -> Submitting:
        """Return what is still wanted after a round that spent so many GPU hours: the budget is spent once,
        and a stale run that is under way ``again`` goes round once."""
        budget = self.max_gpu_hours
        if budget is not None:
            budget = max(0.0, budget - gpu_hours)
        return msgspec.structs.replace(self, stale=self.stale.difference(again), max_gpu_hours=budget)


def submitting(plan: Plan, filters: Filters, options: SubmitOptions) -> Submitting:
    """Return what filters and options mean for a plan. Raise MissingError if a filter matches nothing."""
    runs = select(plan, filters)
    chosen = (
        with_upstream(plan, runs) if options.upstream else frozenset(planned.run.name for planned in runs)
    )
    named = chosen if filters.runs else frozenset[str]()
    meant = Submitting(
        chosen=chosen,
        named=named,
        optional=options.optional,
        max_gpu_hours=options.max_gpu_hours,
        check=options.check,
    )
    stale = frozenset(planned.run.name for planned in plan.runs if options.stale and meant.wants(planned.run))
    return msgspec.structs.replace(meant, stale=stale)


def pick(
    plan: Plan, wanted: Submitting, *, graph: bool, costs: Mapping[str, Estimate] | None = None
) -> tuple[tuple[PlannedRun, ...], dict[str, str]]:
    """(runs to submit, upstream first; run -> why it is left out although it is chosen). ``costs`` are
    needed where GPU hours are limited."""
    left: dict[str, str] = {}
    chosen = {planned.run.name for planned in plan.runs if wanted.wants(planned.run)}
    picks = planning.submittable(plan, chosen, graph=graph, stale=wanted.stale)
    taken = {planned.run.name for planned in picks}
    for planned in plan.runs:
        name = planned.run.name
        if planned.stale and name in wanted.stale and name in chosen and name not in taken:
            left[name] = f"{planned.stale}; what it needs is stale too: add --upstream"
        if name not in wanted.chosen or name in taken or planned.status in (Status.DONE, Status.ACTIVE):
            continue
        if planned.status is Status.FAILED:  # named or not: that alone does not bring it back
            why = planned.reason if planned.cancelled else f"failed: {planned.reason}"
            left[name] = f"{why}; `ddqjobs retry {planned.run.experiment} {name}` makes it eligible again"
        else:
            left[name] = planned.reason if name in chosen else "optional: name it, or add --optional"
    return within_budget(picks, left, wanted.max_gpu_hours, costs or {})


def blocked(plan: Plan, wanted: Submitting, asked: Collection[str]) -> bool:
    """Return whether nothing that is wanted can start or go on by itself: each run failed, or waits for runs
    of which one will not be done without another command. ``asked`` as in :func:`coming`."""
    chosen = [planned for planned in plan.runs if wanted.wants(planned.run)]
    still = all(planned.status in (Status.FAILED, Status.WAITING) for planned in chosen)
    return bool(chosen) and still and coming(plan, asked).isdisjoint(planned.run.name for planned in chosen)


def coming(plan: Plan, asked: Collection[str]) -> frozenset[str]:
    """Return the runs that are active, or that somebody ``asked`` for and that wait for nothing but what is
    done or coming."""
    there = {planned.run.name for planned in plan.runs if planning.counts(planned)}
    out: set[str] = set()
    for planned in plan.runs:  # upstream first
        waits = planned.status is Status.WAITING and not planned.blocked and planned.run.name in asked
        if (waits and there.issuperset(planned.run.upstream)) or planned.status is Status.ACTIVE:
            out.add(planned.run.name)
            there.add(planned.run.name)
    return frozenset(out)


def within_budget(
    picks: Sequence[PlannedRun], left: dict[str, str], budget: float | None, costs: Mapping[str, Estimate]
) -> tuple[tuple[PlannedRun, ...], dict[str, str]]:
    """Keeps runs, in order, while their estimated GPU hours fit into the budget. A run of unknown duration
    that asks for GPUs cannot be budgeted and is left out."""
    if budget is None:
        return tuple(picks), left
    kept: dict[str, PlannedRun] = {}
    chosen = {planned.run.name for planned in picks}
    used = 0.0
    for planned in picks:
        run = planned.run
        cost = costs[run.name].gpu_hours if run.name in costs else run.gpu_hours
        if any(up in chosen and up not in kept for up in run.upstream):
            left[run.name] = "what it needs is left out"
        elif cost is None:
            left[run.name] = (
                "it declares no duration, so --max-gpu-hours cannot keep the budget; add `hours:`"
            )
        elif used + cost > budget:
            left[run.name] = (
                f"{cost:g} GPU hours more than --max-gpu-hours {budget:g} leaves ({budget - used:g})"
            )
        else:
            used += cost
            kept[run.name] = planned
    return tuple(kept.values()), left


def within_queue(
    picks: Sequence[PlannedRun], left: dict[str, str], limit: int, room: int | None
) -> tuple[tuple[PlannedRun, ...], dict[str, str]]:
    """Keeps as many runs, in order, as the site's queue still takes; None: all of them."""
    if room is None:
        return tuple(picks), left
    over = {planned.run.name: f"{planned.status.value}: {planning.full(limit)}" for planned in picks[room:]}
    return tuple(picks[:room]), {**left, **over}
