"""The loop of `submit --wait`: submits what becomes eligible until nothing chosen is active any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ddqjobs.base.errors import SchedulerError, listed
from ddqjobs.base.units import seconds
from ddqjobs.planning import canary
from ddqjobs.planning.filters import with_upstream
from ddqjobs.schedulers.base import QueueFullError
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Status
from ddqjobs.submission.round import Outcome
from ddqjobs.submission.select import Submitting
from ddqjobs.submission.standstill import Movement, Standstill, movement, waits_for
from ddqjobs.submission.submit import Submitter
from ddqjobs.submission.workspace import Workspace

_CALLS_PER_LOOK = 4  # a look plans (squeue, sacct) and submits (squeue, sbatch)


@dataclass(frozen=True)
class Watching:
    """The listeners: ``say`` of what happens, ``show`` of the plan after every look; and how long to wait
    between two looks at least."""

    say: Callable[[str], None] = lambda _: None
    show: Callable[[Plan, Sequence[PlannedRun]], None] = lambda _plan, _runs: None
    pause_s: float = 0.5


def follow(
    workspace: Workspace,
    submitter: Submitter,
    plan: Plan,
    wanted: Submitting,
    watching: Watching,
    *,
    canaries: bool = False,
) -> Plan:
    """Submit what is wanted, again and again, until nothing of it is active or submittable, nor waits for
    room in the queue or for another command's run; return the plan of these runs. Raise SchedulerError when a
    scheduler could not be asked for the site's submit_timeout."""
    pause_s = _pause_s(workspace, watching)
    patience = Patience(seconds(workspace.site.submit_timeout))
    said: set[str] = set()
    told: set[Movement] = set()  # what one waits for is said once of each kind
    never: dict[str, str] = {}  # run -> why its scheduler will not take it
    full: dict[str, str] = {}  # run -> why it takes no more for now
    removed_at = _removed_at(workspace)
    standstill = Standstill(seconds(workspace.site.submit_timeout))
    while True:
        wanted = _without_removed(workspace, wanted, removed_at, watching.say)
        outcome = submitter.submit(wanted.without(never), plan, watching.say)
        never |= outcome.never
        full = outcome.left if outcome.full else full
        plan = workspace.plan(canaries=canaries)
        under_way = (planned.run.name for planned in plan.runs if planned.status is Status.ACTIVE)
        wanted = wanted.rest(outcome.gpu_hours, {*outcome.submitted, *under_way})
        # An optional run that nobody asked for counts only where it is done anyway.
        there = (planned for planned in plan.runs if planned.run.name in wanted.chosen)
        chosen = [planned for planned in there if wanted.wants(planned.run) or planned.status is Status.DONE]
        watching.show(plan, chosen)
        _warn(workspace, outcome, said, watching.say)
        say_held(chosen, said, watching.say)
        patience.look(workspace.warnings[workspace.standing :])
        asked = workspace.store.history().wanted
        reason = movement(plan, chosen, outcome, asked)
        if reason not in told and (line := waits_for(reason, plan, chosen, outcome, asked)):
            told.add(reason)
            watching.say(line)
        standstill.look(reason)
        if standstill.is_over(others=bool({*outcome.refused} - {*never})):
            return msgspec.structs.replace(plan, runs=tuple(_with_refusals(chosen, {**full, **never})))
        if standstill.looks != 1:  # this look may have made something eligible: one more, at once
            time.sleep(pause_s)


def follow_canaries(
    workspace: Workspace, submitter: Submitter, wanted: Callable[[Plan], Submitting], watching: Watching
) -> tuple[PlannedRun, ...]:
    """Run the canaries of the trainings that are wanted, with what they need, unless they are done with
    today's code; return them as they ended. Raise as :func:`follow`, and InputError for a code without
    one."""
    plan = workspace.plan(canaries=True)
    names, trying = trials(plan, wanted(plan))
    if trying.chosen:
        plan = follow(workspace, submitter, plan, trying, watching, canaries=True)
    return tuple(planned for planned in plan.runs if planned.run.name in names)


def trials(plan: Plan, meant: Submitting) -> tuple[frozenset[str], Submitting]:
    """Return the names of the canaries of the trainings that are meant, and what is to be submitted for them:
    nothing where all are done with today's code. Raise InputError for a code without one."""
    chosen = canary.needed(plan, [planned.run for planned in plan.runs if meant.wants(planned.run)])
    names = frozenset(planned.run.name for planned in chosen)
    done = {planned.run.name for planned in plan.runs if planned.status is Status.DONE and not planned.gone}
    open_ones = any(planned.status is not Status.DONE or planned.stale for planned in chosen)
    needed = (with_upstream(plan, chosen) - done) | names if open_ones else frozenset[str]()
    return names, Submitting(chosen=needed, named=needed, stale=needed, check=meant.check)


def _removed_at(workspace: Workspace) -> dict[str, float]:
    return {name: story.removed_at for name, story in workspace.store.history().runs.items()}


def _without_removed(
    workspace: Workspace, wanted: Submitting, before: Mapping[str, float], say: Callable[[str], None]
) -> Submitting:
    """Return what is still wanted: what a user removed since the beginning is not, unless asked for anew."""
    now = _removed_at(workspace)
    removed = sorted(name for name in wanted.chosen if now.get(name, 0.0) != before.get(name, 0.0))
    for name in removed:
        say(f"{name} was removed meanwhile; it is not submitted again here")
    return wanted.without(removed)


def _with_refusals(chosen: Sequence[PlannedRun], never: Mapping[str, str]) -> Iterator[PlannedRun]:
    """Yield the runs; those that their scheduler will not take say so."""
    for planned in chosen:
        refused = never.get(planned.run.name) if planned.status is Status.ELIGIBLE else None
        yield msgspec.structs.replace(planned, reason=refused) if refused else planned


def _pause_s(workspace: Workspace, watching: Watching) -> float:
    """Return how long to wait between two looks: as seldom as the site's calls per minute ask for."""
    calls = workspace.site.limits.calls_per_minute
    return max(watching.pause_s, 60 * _CALLS_PER_LOOK / calls) if calls else watching.pause_s


def _warn(workspace: Workspace, outcome: Outcome, said: set[str], say: Callable[[str], None]) -> None:
    """Say each warning once."""
    full = sorted({*outcome.left.values()}) if outcome.full else []
    refused = (f"{run}: {why}" for run, why in outcome.refused.items())
    for warning in (*workspace.warnings, *(why for why in full if QueueFullError.WORDS in why), *refused):
        _say_once(f"warning: {warning}", said, say)


def _say_once(text: str, said: set[str], say: Callable[[str], None]) -> None:
    if text and text not in said:
        said.add(text)
        say(text)


def say_held(chosen: Sequence[PlannedRun], said: set[str], say: Callable[[str], None]) -> None:
    """Say once of each held run what lets it start: nothing else will."""
    new: dict[str, list[str]] = {}
    for planned in chosen:
        key = f"{planned.run.name}, held"
        if planned.state is JobState.HELD and not planned.owner and key not in said:
            said.add(key)
            new.setdefault(planned.reason, []).append(planned.run.name)
    for reason, names in new.items():
        say(f"{listed(names, 3)}: {reason}")


class Patience:
    """The time for which a scheduler may be silent while one waits for it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def look(self, warnings: Sequence[str]) -> None:
        """Raise SchedulerError when there were warnings at every look for longer than the limit."""
        now = time.monotonic()
        self._since = (now if self._since is None else self._since) if warnings else None
        if self._since is not None and now - self._since > self._limit_s:
            raise SchedulerError(f"{warnings[0]}; waited {self._limit_s:.0f} s for it; runs go on without it")
