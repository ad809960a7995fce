"""Take a scheduler's answer about a ticket for what it is worth. Pure."""

from __future__ import annotations

from collections.abc import Collection

from ddqjobs.spec.model import IN_QUEUE, WAITS, JobState, Observation
from ddqjobs.store.history import Ticket
from ddqjobs.store.ledger import Observed


def of(ticket: Ticket, seen: Observation) -> Observation:
    """Return what an answer says of a ticket: nothing, where its number is that of another job."""
    if seen.may_be_of(ticket.token):
        return seen
    return Observation(
        state=JobState.UNKNOWN, detail=f"number {ticket.job} is now of another job", forgotten=True
    )


def may_say_more(ticket: Ticket, seen: Observation | None, started: Collection[str]) -> bool:
    """Return whether the evidence of a ticket may say more than its scheduler: not while it is in the queue
    and its run has no folder. Where absence would decide something, the folder itself is looked at."""
    return seen is None or seen.state not in IN_QUEUE or ticket.run in started


def news(ticket: Ticket, seen: Observation | None) -> Observed | None:
    """Return what a scheduler says, if it is new."""
    if seen is None or (seen.state, seen.detail, seen.node) == (ticket.state, ticket.detail, ticket.node):
        return None
    return Observed(ticket=ticket.name, state=seen.state, detail=seen.detail, node=seen.node)


def idle(seen: Observation | Ticket) -> bool:
    """Return whether a job stays in the queue until somebody releases it or others end."""
    return seen.state is JobState.HELD or waits(seen)


def waits(seen: Observation | Ticket) -> bool:
    """Return whether a job waits for others."""
    return seen.state is JobState.QUEUED and seen.detail.startswith(WAITS)


def may_wait(ticket: Ticket) -> bool:
    """Return whether a job may wait for others: a held one does not say so, nor one just submitted or
    released, which its scheduler has not looked at yet."""
    unsaid = ticket.state is None or (ticket.state is JobState.QUEUED and not ticket.detail)
    return unsaid or ticket.state is JobState.HELD or waits(ticket)
