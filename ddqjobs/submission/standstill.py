"""Tells whether `submit --wait` waits for anything that may yet move. Pure, but for the clock."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from enum import Enum

from ddqjobs.base.errors import listed
from ddqjobs.planning.filters import with_upstream
from ddqjobs.spec.model import Plan, PlannedRun, Status
from ddqjobs.store.claims import BEING_SUBMITTED
from ddqjobs.submission.round import Outcome
from ddqjobs.submission.select import coming

_IDLE_LOOKS = 10  # how often one looks again where another command may be about to submit


class Movement(Enum):
    """Reasons to look again, and that there is none."""

    OWN = "what is chosen is active"
    UPSTREAM = "what it needs is active, submitted by another command"
    ROOM = "the queue is full of jobs that will end"
    FULL = "the scheduler takes no more, although no job of the user's is there that would end"
    MAKING = "another process is about to submit what is chosen"
    NONE = "nothing moves"


def movement(plan: Plan, chosen: Sequence[PlannedRun], outcome: Outcome, asked: Collection[str]) -> Movement:
    """Return what moves after a round; ``asked`` are the runs that any command was asked for."""
    if outcome.submitted or any(planned.status is Status.ACTIVE for planned in chosen):
        return Movement.OWN
    if not coming(plan, asked).isdisjoint(planned.run.name for planned in chosen):
        return Movement.UPSTREAM
    if outcome.no_room:
        return Movement.ROOM if outcome.queue_limit else Movement.FULL
    if any(why.startswith(BEING_SUBMITTED) for why in outcome.refused.values()):
        return Movement.MAKING
    return Movement.NONE


def waits_for(
    reason: Movement, plan: Plan, chosen: Sequence[PlannedRun], outcome: Outcome, asked: Collection[str]
) -> str:
    """Return the line that says what one waits for, if it is nothing that was chosen; else an empty text."""
    if reason is Movement.UPSTREAM:
        names = coming(plan, asked)
        waiting = [planned for planned in chosen if planned.run.name in names]
        needed = with_upstream(plan, waiting)
        before = (p for p in plan.runs if p.status is Status.ACTIVE and p.run.name in needed)
        shown = (f"{p.run.name} ({p.state.value if p.state else p.status.value})" for p in before)
        return f"{_some(waiting)}: waiting for {listed(shown, 3)}, submitted by another command"
    ready = [planned for planned in chosen if planned.run.name in outcome.no_room]
    if reason is Movement.ROOM and ready:
        limit = outcome.queue_limit
        return f"{_some(ready)}: waiting for other jobs of yours to end: site limit {limit} jobs in queue"
    return ""


def _some(runs: Sequence[PlannedRun]) -> str:
    return listed((planned.run.name for planned in runs), 3)


class Standstill:
    """Counts the looks in a row at which nothing moves."""

    def __init__(self, patience_s: float) -> None:
        self.looks = 0
        self._patience_s, self._moved, self._others = patience_s, time.monotonic(), False

    def look(self, reason: Movement) -> None:
        """Count a look. A scheduler that takes nothing is asked again for ``patience_s`` seconds, and a
        process that is about to submit is waited for as long."""
        now = time.monotonic()
        self._others = self._others or reason is Movement.UPSTREAM
        moves = reason in (Movement.OWN, Movement.UPSTREAM, Movement.ROOM)
        self._moved = now if moves else self._moved
        waits = reason in (Movement.FULL, Movement.MAKING) and now - self._moved < self._patience_s
        self.looks = 0 if moves or waits else self.looks + 1

    def is_over(self, *, others: bool) -> bool:
        """Return whether nothing will move; others, who may be about to submit, get a few looks more."""
        return self.looks > (_IDLE_LOOKS if others or self._others else 1)
