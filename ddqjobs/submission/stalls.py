"""End what would stay in the queue for ever. A controller that was killed may come back without the end of a
job: then it lets others wait for that job, or starts it again and holds it. Evidence on disk knows better."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ddqjobs.base.errors import SchedulerError, listed
from ddqjobs.schedulers.base import Scheduler, Unchains
from ddqjobs.spec.model import JobState, Observation
from ddqjobs.store import evidence
from ddqjobs.store.history import History, Ticket
from ddqjobs.store.ledger import Finished, Observed, Voided
from ddqjobs.store.store import Store
from ddqjobs.submission import heard
from ddqjobs.submission.members import Members

Upstream = Mapping[str, Sequence[str]]  # run -> the runs that it needs
Idle = Mapping[str, Mapping[str, Observation]]  # site -> jobs in the queue that do not start by themselves


def in_vain(history: History, upstream: Upstream, now: float, patience_s: float) -> list[Ticket]:
    """Return the tickets whose jobs wait for others, although all runs that they need are recorded done, for
    longer than the patience."""
    attempts = []
    for ticket in history.active():
        if ticket.job and not ticket.cancelled and heard.waits(ticket):
            done_at = _done_at(history, upstream.get(ticket.run, ()))
            if done_at is not None and now - max(done_at, ticket.since) > patience_s:
                attempts.append(ticket)
    return attempts


def _done_at(history: History, runs: Sequence[str]) -> float | None:
    """Return when the last of these runs was seen to be done; None if one is not, or there is none."""
    ends = [done.at for run in runs if (done := _last_end(history, run)) is not None]
    return max(ends) if ends and len(ends) == len(runs) else None


def _last_end(history: History, run: str) -> Finished | None:
    """Return how a run was done, if nothing of it is submitted, and no later ticket of it failed."""
    story = history.of(run)
    if story.done is None or story.active is not None:
        return None
    ends = [ticket.finished for ticket in story.tickets if ticket.finished is not None]
    return story.done if not ends or ends[-1].product is not None else None


def superfluous(history: History, upstream: Upstream, idle: Mapping[str, Observation]) -> list[str]:
    """Return the jobs, by number and token, of tickets that have ended: they have no right to run. Not those
    of runs that a job in the queue may wait for: their end would end that one, too."""
    of_ended = {
        job: ticket.run
        for job, seen in idle.items()
        for mark in seen.marks
        for ticket in history.tokens.get(mark, ())
        if ticket.job == job and ticket.ended
    }
    if not of_ended:
        return []
    # What one element of an array waits for all may wait for.
    tokens = {ticket.token for ticket in history.active() if heard.may_wait(ticket)}
    awaited = {up for token in tokens for mate in history.tokens[token] for up in upstream.get(mate.run, ())}
    return sorted(
        (job for job, run in of_ended.items() if run not in awaited), key=lambda job: (len(job), job)
    )


@dataclass(frozen=True)
class Stalls:
    """Ends the stalls of an experiment. ``inform`` hears what was done, ``warn`` of schedulers that did
    not answer."""

    store: Store
    scheduler: Callable[[str], Scheduler]
    members: Members
    patience_s: float
    warn: Callable[[str], None]
    inform: Callable[[str], None]

    def end(self, upstream: Upstream, idle: Idle) -> None:
        """Take off dependencies on what is done, then cancel the jobs of what has ended. Raise StateError
        where a record cannot be written."""
        history = self.store.history()
        by_site: dict[str, list[Ticket]] = {}
        for ticket in in_vain(history, upstream, time.time(), self.patience_s):
            if ticket.site in idle and not self.members.elsewhere(ticket):
                by_site.setdefault(ticket.site, []).append(ticket)
        for site, tickets in by_site.items():
            whole = self._whole({up for ticket in tickets for up in upstream[ticket.run]}, history)
            sure = [ticket for ticket in tickets if whole.issuperset(upstream[ticket.run])]
            with self._warned(site):
                self._take_off(site, sure, upstream, history)
        history = self.store.history()
        for site, seen in idle.items():
            jobs = superfluous(history, upstream, seen)
            if jobs:
                self.inform(
                    f"site {site}: cancelling {listed(jobs, 5)}, in the queue although their runs have ended"
                )
                with self._warned(site):
                    self.scheduler(site).cancel(jobs)

    def _whole(self, runs: Collection[str], history: History) -> set[str]:
        """Return those of the runs whose products are on disk, as they were recorded."""
        products = {run: evidence.product(self.store.run_dir(run)) for run in runs}
        return {
            run
            for run, product in products.items()
            if product is not None and (done := history.of(run).done) and product.ticket == done.ticket
        }

    @contextlib.contextmanager
    def _warned(self, site: str) -> Iterator[None]:
        try:
            yield
        except SchedulerError as error:
            self.warn(f"site {site}: {str(error).removeprefix(f'site {site}: ')}")

    def _take_off(self, site: str, tickets: Sequence[Ticket], upstream: Upstream, history: History) -> None:
        scheduler = self.scheduler(site)
        if not tickets or not isinstance(scheduler, Unchains):
            return
        ours = {t.job.partition("_")[0] for t in history.tickets.values() if t.job and t.site == site}
        taken = scheduler.unchain({ticket.job: ticket.token for ticket in tickets}, ours)
        freed = [ticket for ticket in tickets if ticket.job in taken.freed]
        reasons = {ticket.name: _still(upstream[ticket.run]) for ticket in tickets}
        if freed:
            self.store.ledger.append(
                *(
                    Observed(ticket=t.name, state=JobState.QUEUED, detail=f"{reasons[t.name]}; taken off")
                    for t in freed
                )
            )
            self._say(site, freed, reasons, "that dependency is taken off")
        refused = [ticket for ticket in tickets if ticket.job in taken.refused]
        self._void(site, refused, reasons, taken.refused)

    def _void(
        self, site: str, tickets: Sequence[Ticket], reasons: Mapping[str, str], why: Mapping[str, str]
    ) -> None:
        """Give up the tickets whose jobs cannot be freed: their runs may be submitted again."""
        voided = []
        for ticket in tickets:
            with contextlib.suppress(OSError):  # the next look tries again
                if self.store.claims.void(ticket.name):
                    voided.append(ticket)
        if not voided:
            return
        self.store.ledger.append(
            *(Voided(tickets=[t.name], why=f"{reasons[t.name]}; not taken off: {why[t.job]}") for t in voided)
        )
        self._say(
            site, voided, reasons, f"that cannot be taken off ({why[voided[0].job]}), so it is submitted anew"
        )
        self.scheduler(site).cancel([ticket.job for ticket in voided])
        self.store.forget_secrets({ticket.token for ticket in voided})

    def _say(self, site: str, tickets: Sequence[Ticket], reasons: Mapping[str, str], then: str) -> None:
        runs = listed([ticket.run for ticket in tickets], 3)
        self.inform(f"site {site}: {runs}: {reasons[tickets[0].name]}; {then}")


def _still(needs: Sequence[str]) -> str:
    """Return what a job waits for, in words.

    >>> _still(["a", "b", "c"])
    'its scheduler still waited for a and 2 more, which are done'
    """
    several = needs[1:]
    return f"its scheduler still waited for {needs[0]}" + (
        f" and {len(several)} more, which are done" if several else ", which is done"
    )
