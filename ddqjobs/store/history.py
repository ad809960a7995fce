"""Ledger records become, per run, the story of its tickets. Pure.

A *ticket* is one element of one submission: the right to run once, until it ends or is voided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ddqjobs.base.frozen import Member, Owner
from ddqjobs.spec.model import JobState
from ddqjobs.store.ledger import (
    Accepted,
    AnyRecord,
    Cancelled,
    Finished,
    Intent,
    Observed,
    Removed,
    Retried,
    Submitted,
    TakenOver,
    Voided,
    Wanted,
    ticket_of,
)


@dataclass
class Ticket:
    """The words of the ledger about one ticket."""

    name: str
    token: str
    index: int
    run: str
    digest: str
    site: str
    at: float  # when the submission was intended
    owner: Owner
    code: str = ""  # name of the code snapshot that its job runs; empty where it was not recorded
    version: str = ""  # of the ddqjobs that submitted it
    member: Member | None = None  # whose it is; None where it was not recorded
    job: str = ""  # empty while it is not known whether the scheduler took it
    state: JobState | None = None
    detail: str = ""
    node: str = ""
    since: float = 0.0  # of the last observation
    voided: bool = False
    why: str = ""  # it was voided
    cancelled: bool = False
    finished: Finished | None = None

    @property
    def ended(self) -> bool:
        """Return whether this ticket will never run (again)."""
        return self.voided or self.finished is not None


@dataclass
class RunHistory:
    """All tickets of a run, oldest first, and its last product."""

    tickets: list[Ticket] = field(default_factory=list)
    done: Finished | None = None
    accepted: Accepted | None = None  # the newest; it counts as long as nothing else changes
    retried_at: float = 0.0
    removed_at: float = 0.0

    @property
    def active(self) -> Ticket | None:
        """The newest ticket that has not ended."""
        return next((t for t in reversed(self.tickets) if not t.ended), None)

    @property
    def failures(self) -> list[Finished]:
        """Ends without a product since the last product or the user's ``retry``, oldest first."""
        if not self.tickets:
            return []
        since = max(self.retried_at, self.done.at if self.done else 0.0)
        ends = [t.finished for t in self.tickets if t.finished is not None]
        return [f for f in ends if f.product is None and f.at > since]


class History:
    """The whole ledger by run and by ticket."""

    def __init__(self, records: Iterable[AnyRecord]) -> None:
        self.runs: dict[str, RunHistory] = {}
        self.tickets: dict[str, Ticket] = {}
        self.tokens: dict[str, list[Ticket]] = {}
        self.wanted: set[str] = set()  # runs that the user asked for, submitted yet or not
        late: list[AnyRecord] = []
        for record in records:
            if isinstance(record, Intent):
                self._intent(record)
            else:
                late.append(record)
        # Two hosts' clocks may disagree: an intent always comes before whatever is said of its tickets.
        for record in late:
            _APPLY[type(record)](self, record)

    def of(self, run: str) -> RunHistory:
        """The history of a run; an empty one if it was never submitted."""
        return self.runs.get(run) or RunHistory()

    def active(self) -> list[Ticket]:
        """All tickets that have not ended."""
        return [t for t in self.tickets.values() if not t.ended]

    def _intent(self, r: Intent) -> None:
        owner = Owner(host=r.host, pid=r.pid, start=r.start, boot=r.boot)
        tickets = []
        for index, (run, digest) in enumerate(zip(r.runs, r.digests, strict=True), r.first):
            ticket = Ticket(
                ticket_of(r.token, index), r.token, index, run, digest, r.site, r.at, owner,
                code=r.code, version=r.version, member=r.member,
            )  # fmt: skip
            tickets.append(ticket)
            self.tickets[ticket.name] = ticket
            self.runs.setdefault(run, RunHistory()).tickets.append(ticket)
        self.tokens[r.token] = tickets

    def _submitted(self, r: Submitted) -> None:
        for ticket in self.tokens.get(r.token, ()):
            ticket.job = r.jobs.get(str(ticket.index), ticket.job)

    def _voided(self, r: Voided) -> None:
        for ticket in self._known(r.tickets):
            ticket.voided, ticket.why, ticket.since = True, r.why, r.at

    def _observed(self, r: Observed) -> None:
        for ticket in self._known([r.ticket]):
            # Another cause of not knowing is news; since when it is not known stays.
            if r.state is not JobState.UNKNOWN or ticket.state is not JobState.UNKNOWN:
                ticket.since = r.at
            ticket.state, ticket.detail, ticket.node = r.state, r.detail, r.node

    def _cancelled(self, r: Cancelled) -> None:
        for ticket in self._known(r.tickets):
            ticket.cancelled = True

    def _taken_over(self, r: TakenOver) -> None:
        for ticket in self._known(r.tickets):
            ticket.member = r.member

    def _wanted(self, r: Wanted) -> None:
        self.wanted.update(r.runs)

    def _retried(self, r: Retried) -> None:
        for name in r.runs:
            self.runs.setdefault(name, RunHistory()).retried_at = r.at

    def _accepted(self, r: Accepted) -> None:
        self.runs.setdefault(r.run, RunHistory()).accepted = r

    def _removed(self, r: Removed) -> None:
        for name in r.runs:
            story = self.runs.setdefault(name, RunHistory())
            story.done = story.accepted = None
            story.retried_at = story.removed_at = r.at
        self.wanted.difference_update(r.runs)

    def _finished(self, r: Finished) -> None:
        ticket = self.tickets.get(r.ticket)
        before = ticket.finished if ticket is not None else None
        # Two terminals may find the same failure; the later record must not undo a retry in between.
        if ticket is not None and (before is None or (before.product is None and r.product is not None)):
            ticket.finished = r
            ticket.node = ticket.node or r.node  # it may end before the scheduler was asked where it runs
        if r.product is not None:
            self.runs.setdefault(r.run, RunHistory()).done = r

    def _known(self, names: Iterable[str]) -> Iterator[Ticket]:
        return (self.tickets[name] for name in names if name in self.tickets)


# What a record says of tickets and runs, by its type. An intent comes before all of them.
_APPLY: Mapping[type[AnyRecord], Callable[[History, Any], None]] = {
    Submitted: History._submitted,
    Voided: History._voided,
    Observed: History._observed,
    Finished: History._finished,
    Cancelled: History._cancelled,
    TakenOver: History._taken_over,
    Wanted: History._wanted,
    Retried: History._retried,
    Accepted: History._accepted,
    Removed: History._removed,
}
