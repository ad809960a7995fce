"""Owners of tickets. A scheduler that hides a job from one member of a group, or on one cluster, proves
nothing of the jobs of another: only their owner's view, and the evidence on disk, decide about them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ddqjobs.base.errors import StateError
from ddqjobs.base.frozen import Member
from ddqjobs.base.process import myself, user
from ddqjobs.spec.model import JobState, PlannedRun
from ddqjobs.store.history import Ticket

_WORDS = {JobState.STOPPED: "suspended", None: "submitted"}


@dataclass
class Members:
    """The user's identity on each site. ``ask`` names the cluster of a site; empty where it has no name."""

    ask: Callable[[str], str]
    uid: int = field(default_factory=os.getuid)
    _clusters: dict[str, str] = field(default_factory=dict)

    def me(self, site: str) -> Member:
        """Return who submits to a site from here."""
        return Member(uid=self.uid, name=user(), host=myself().host, cluster=self.cluster(site))

    def cluster(self, site: str) -> str:
        """Return the cluster of a site, after asking once."""
        if site not in self._clusters:
            self._clusters[site] = self.ask(site)
        return self._clusters[site]

    def of_another(self, ticket: Ticket) -> bool:
        """Return whether another user submitted it. Nobody knows of tickets of a ledger without members."""
        return ticket.member is not None and ticket.member.uid != self.uid

    def elsewhere(self, ticket: Ticket) -> bool:
        """Return whether our view of its scheduler proves nothing: it is another's, or of another cluster
        than the one that has been asked."""
        if ticket.member is None or self.of_another(ticket):
            return ticket.member is not None
        here = self._clusters.get(ticket.site, "")
        return bool(here and ticket.member.cluster and here != ticket.member.cluster)

    def words(self, ticket: Ticket, started_at: float | None) -> str:
        """Return what is known of a ticket elsewhere; ``started_at`` by its own evidence."""
        state = JobState.RUNNING if started_at else ticket.state
        since = started_at or ticket.since or ticket.at
        what = f"{_WORDS.get(state) or (state.value if state else '')} since {_clock(since)}"
        return f"{self._whose(ticket)}, {what}; the owner's `ddqjobs status` knows more"

    def _whose(self, ticket: Ticket) -> str:
        assert ticket.member is not None
        if self.of_another(ticket):
            return f"another member's ({name_of(ticket.member)})"
        return f"yours on cluster {ticket.member.cluster}"


def name_of(member: Member) -> str:
    """Return how a member is called, with the host that he submitted from."""
    who = member.name or f"uid {member.uid}"
    return f"{who} on {member.host}" if member.host else who


def refuse(runs: list[PlannedRun], does: str) -> None:
    """Raise StateError if all of these runs are others'; nothing was done to them."""
    if runs and all(planned.owner for planned in runs):
        first = runs[0]
        raise StateError(
            f"{first.run.name} was submitted by {first.owner}; only the owner may {does} it, on that host or "
            f"cluster. If the owner has left, use `ddqjobs submit {first.run.experiment} --take-over REASON`"
        )


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
