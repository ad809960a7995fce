"""Find what has become of the active tickets: ask the schedulers, read what jobs left, record what is new."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ddqjobs.base.errors import DdqjobsError, SchedulerError, StateError, listed, mend
from ddqjobs.base.files import why_not
from ddqjobs.base.process import alive, myself
from ddqjobs.base.secrets import masked
from ddqjobs.base.units import seconds
from ddqjobs.detect.job import exit_codes
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.spec.model import IN_QUEUE, Attempt, FailureClass, JobState, Observation, Product
from ddqjobs.spec.site import Site
from ddqjobs.store import evidence
from ddqjobs.store.history import History, Ticket
from ddqjobs.store.ledger import AnyRecord, Finished, Submitted, Voided
from ddqjobs.store.store import CALLED_OFF, CANCELLED_AND_FORGOTTEN, Store
from ddqjobs.submission import heard
from ddqjobs.submission.judge import Case, Parting, failure_of, note_on_product, parting, said_all
from ddqjobs.submission.members import Members

_BATCH = 1000  # tickets that are recorded together: an interruption loses no more
_PATIENCE_S = 1.0  # until it is said how far it is, and between two such words
_MANY = 5000  # jobs that take a while to ask about


@dataclass(frozen=True)
class _Left:
    """The files that a ticket left in its run's folder."""

    run_dir: Path
    attempts: int  # of the run, whatever ticket they are of
    mine: list[Attempt]  # of this ticket
    product: Product | None  # of this ticket, whole

    @property
    def last(self) -> Attempt | None:
        """The ticket's newest attempt."""
        return self.mine[-1] if self.mine else None


class Observer:
    """Brings an experiment's ledger up to date. ``warn`` hears of every scheduler that does not answer,
    ``tell`` how far it is where that takes long."""

    def __init__(
        self,
        store: Store,
        site: Site,
        scheduler: Callable[[str], Scheduler],
        capabilities: Callable[[str], Capabilities],
        members: Members,
        warn: Callable[[str], None],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._site = store, site
        self._scheduler, self._capabilities, self._warn = scheduler, capabilities, warn
        self._tell = tell
        self._members = members
        self.idle: dict[str, dict[str, Observation]] = {}  # site -> jobs that wait for a hand

    def refresh(self) -> bool:
        """Confirm submissions, ask each scheduler once, read evidence, record what is new. Return whether
        anything was. Raise StateError where a record or a claim cannot be written."""
        history = self._store.history()
        before = history.active()
        confirmed = self._confirm(history)
        if confirmed:
            self._store.ledger.append(*confirmed)
            history = self._store.history()
        now = time.time()
        if len(history.active()) > _MANY:
            self._tell(f"asking what has become of {len(history.active())} jobs")
        observed = self._ask(history)
        self._end_twins(history, observed)
        # Only now: what was there before the schedulers were asked is old.
        started = self._store.run_folders()
        active, recorded, told = history.active(), 0, now
        for first in range(0, len(active), _BATCH):
            if time.time() - told > _PATIENCE_S:
                told = time.time()
                self._tell(f"recording what has become of the jobs: {first} of {len(active)}")
            looked = ((ticket, observed.get(ticket.name)) for ticket in active[first : first + _BATCH])
            recorded += self._record(
                (ticket, record)
                for ticket, seen in looked
                if (record := self._look(ticket, seen, started, now))
            )
        if confirmed or recorded:
            self._store.forget_secrets({ticket.token for ticket in (*before, *active)})
        return bool(confirmed or recorded)

    def _record(self, news: Iterable[tuple[Ticket, AnyRecord]]) -> int:
        """Record what is new of some tickets, and return how much that is. The right to run of those that
        ended without a product ends first: it is on disk before anybody hears that they may run again."""
        records = list(news)
        self._store.revoke(t.name for t, r in records if isinstance(r, Finished) and r.product is None)
        if records:
            self._store.ledger.append(*(record for _, record in records))
        return len(records)

    def _look(
        self, ticket: Ticket, seen: Observation | None, started: Collection[str], now: float
    ) -> AnyRecord | None:
        if self._members.elsewhere(ticket):
            return self._by_evidence(ticket) if ticket.run in started else None
        if heard.may_say_more(ticket, seen, started):
            return self._settle(ticket, seen, now)
        return heard.news(ticket, seen)

    # -- submissions whose answer was never recorded ----------------------------------------------------

    def _confirm(self, history: History) -> list[AnyRecord]:
        """Return a record for each of them: found at the scheduler, or voided."""
        tokens: dict[str, list[Ticket]] = {}
        for ticket in history.active():
            if not ticket.job and not self._is_elsewhere(ticket):
                tokens.setdefault(ticket.token, []).append(ticket)
        records: list[AnyRecord] = []
        for token, tickets in tokens.items():
            if self._in_the_making(tickets[0]):
                continue
            try:
                jobs = self._scheduler(tickets[0].site).find(token)
            except DdqjobsError as error:
                self._warn(f"submission {token}: {error}")
                continue
            if jobs is not None:
                records.append(Submitted(token=token, jobs={str(k): v for k, v in jobs.items()}))
            # What the scheduler does not show has ended or never came: the claims tell which.
            missing = [t for t in tickets if jobs is None or t.index not in jobs]
            if missing:
                records += self._void(token, missing)
        return records

    def _in_the_making(self, ticket: Ticket) -> bool:
        if ticket.owner.host != myself().host:
            return abs(time.time() - ticket.at) < self._patience_s
        return ticket.owner != myself() and alive(ticket.owner)

    def _void(self, token: str, tickets: list[Ticket]) -> list[AnyRecord]:
        claims = self._store.claims
        try:
            voided = [t.name for t in tickets if claims.void(t.name)]
        except OSError as error:
            raise StateError(
                f"{claims.claims}: {error.strerror}; cannot tell whether submission {token} may still start: "
                f"{mend(error, claims.claims)}, then run the same command again"
            ) from error
        started = {str(t.index): claims.job(t.name) for t in tickets if t.name not in voided}
        records: list[AnyRecord] = []
        called_off = [t for t in tickets if t.name in voided and t.cancelled]
        records += [_cancelled(t, self._left(t), CALLED_OFF) for t in called_off]
        lost = [t.name for t in tickets if t.name in voided and not t.cancelled]
        if lost:
            why = "its submission was interrupted before the scheduler had it"
            records.append(Voided(tickets=lost, why=why))
        if started:
            records.append(Submitted(token=token, jobs=started))
        return records

    # -- what the schedulers say ------------------------------------------------------------------------

    def _ask(self, history: History) -> dict[str, Observation]:
        """Return ticket -> observation, with one query per site."""
        by_site: dict[str, dict[str, list[Ticket]]] = {}
        for ticket in history.active():
            if ticket.job and not self._members.of_another(ticket):
                by_site.setdefault(ticket.site, {}).setdefault(ticket.job, []).append(ticket)
        out: dict[str, Observation] = {}
        for site, jobs in by_site.items():
            try:
                seen = self._scheduler(site).query(list(jobs))
            except DdqjobsError as error:
                self._warn(f"site {site}: {str(error).removeprefix(f'site {site}: ')}")
                seen = {job: Observation(state=JobState.UNKNOWN, detail=str(error)) for job in jobs}
            else:
                self.idle[site] = {job: answer for job, answer in seen.items() if heard.idle(answer)}
                not_shown = (job for job in jobs if job not in seen or seen[job].state not in IN_QUEUE)
                self._learn_cluster(site, (jobs[job] for job in not_shown))
            for job, tickets in jobs.items():
                answer = seen.get(job, Observation(state=JobState.UNKNOWN, detail="not in the answer"))
                out.update({ticket.name: heard.of(ticket, answer) for ticket in tickets})
        return out

    def _end_twins(self, history: History, observed: Mapping[str, Observation]) -> None:
        """Cancel the jobs that a submission made twice, once the run's own job holds the claim: they would
        start nothing, and wait in the queue for it."""
        by_site: dict[str, list[str]] = {}
        for name, seen in observed.items():
            ticket = history.tickets[name]
            if seen.twins and self._holder(ticket) == ticket.job:
                by_site.setdefault(ticket.site, []).extend(seen.twins)
        for site, jobs in by_site.items():
            self._tell(
                f"site {site}: cancelling {listed(jobs, 5)}, submitted a second time by its own sbatch"
            )
            with contextlib.suppress(SchedulerError):  # it ends by itself, later
                self._scheduler(site).cancel(jobs)

    def _learn_cluster(self, site: str, tickets: Iterable[Iterable[Ticket]]) -> None:
        """Ask which cluster has answered, if any ticket is known to be of one: what one cluster does not show
        may be on another."""
        if any(ticket.member and ticket.member.cluster for group in tickets for ticket in group):
            self._members.cluster(site)

    def _is_elsewhere(self, ticket: Ticket) -> bool:
        """Return whether a ticket is elsewhere, after asking which cluster is here where that decides."""
        if not self._members.of_another(ticket):
            self._learn_cluster(ticket.site, [[ticket]])
        return self._members.elsewhere(ticket)

    def _heard(self, ticket: Ticket, seen: Observation | None, last: Attempt | None) -> Observation | None:
        """Return what counts of an observation. A scheduler that starts no job again by itself is not needed
        to know that one is over whose script has said its last word: it may lag behind for long."""
        if seen is None or last is None or last.exit_code is None or seen.state is JobState.ENDED:
            return seen
        return seen if self._capabilities(ticket.site).restarts else None

    # -- what both say of a ticket ----------------------------------------------------------------------

    def _settle(self, ticket: Ticket, seen: Observation | None, now: float) -> AnyRecord | None:
        """Return what evidence and observation say of an active ticket; None if nothing is new."""
        holder = self._holder(ticket)
        if holder not in ("", ticket.job):
            return Submitted(token=ticket.token, jobs={str(ticket.index): holder})
        left, grace_over = self._left(ticket), self._grace_over(ticket, seen, now)
        if left.product is not None:
            if said_all(left.last, seen, grace_over):
                return _done(ticket, left, left.product, seen)
        elif (failed := self._failed(ticket, seen, left, grace_over)) is not None:
            return failed
        if seen is not None and seen.forgotten:
            return self._forgotten(ticket, seen, left, now)
        return heard.news(ticket, seen)

    def _holder(self, ticket: Ticket) -> str:
        """Return the job that holds a ticket's claim, which decides who runs: where an ``sbatch`` of the site
        submits twice, it may not be the job that was recorded. Empty where none does, or none is told."""
        claims = self._store.claims
        if not self._capabilities(ticket.site).numbers or claims.holder(ticket.name) != "run":
            return ""
        try:
            job = claims.job(ticket.name)
        except OSError:  # given up meanwhile
            return ""
        return "" if job == "unknown" else job

    def _by_evidence(self, ticket: Ticket) -> AnyRecord | None:
        """Return what a ticket that is elsewhere left, if that alone decides; None else."""
        left = self._left(ticket)
        if left.product is not None:
            return _done(ticket, left, left.product, None)
        return self._failed(ticket, Observation(state=JobState.UNKNOWN), left, grace_over=False)

    def _forgotten(self, ticket: Ticket, seen: Observation, left: _Left, now: float) -> AnyRecord | None:
        """Return what becomes of a ticket that its scheduler does not know any more: what the user cancelled
        is cancelled, and what never started void, after the patience for a scheduler that lags; anything else
        waits for its evidence."""
        if ticket.state is not JobState.UNKNOWN or abs(now - ticket.since) < self._patience_s:
            return heard.news(ticket, seen)
        if ticket.cancelled:
            return _cancelled(ticket, left, CANCELLED_AND_FORGOTTEN)
        if not left.mine and self._called_off(ticket):
            why = f"its scheduler has forgotten it before it started: {seen.detail}"
            return Voided(tickets=[ticket.name], why=why)
        return heard.news(ticket, seen)

    def _left(self, ticket: Ticket) -> _Left:
        run_dir = self._store.run_dir(ticket.run)
        attempts = evidence.attempts(run_dir)
        product = evidence.product(run_dir)
        return _Left(
            run_dir=run_dir,
            attempts=len(attempts),
            mine=[a for a in attempts if a.ticket == ticket.name],
            product=product if product is not None and product.ticket == ticket.name else None,
        )

    def _failed(
        self, ticket: Ticket, seen: Observation | None, left: _Left, grace_over: bool
    ) -> Finished | None:
        last = left.last
        said = self._parting(ticket, last)
        failure = failure_of(
            Case(
                ticket=ticket,
                seen=self._heard(ticket, seen, last),
                last=last,
                grace_over=grace_over,
                log_tail=self._log_tail(ticket, last),
                parting=said,
                disk=self._disk(seen, said),
            )
        )
        if failure is None:
            return None
        return Finished(
            run=ticket.run,
            ticket=ticket.name,
            failure=failure[0],
            reason=masked(failure[1]),
            attempts=left.attempts,
            progress=evidence.progress(left.run_dir),
            node=last.host if last else "",
            started_at=left.mine[0].started_at if left.mine else None,
            ended_at=last.ended_at if last else None,
        )

    def _grace_over(self, ticket: Ticket, seen: Observation | None, now: float) -> bool:
        if seen is None or seen.state is not JobState.ENDED:
            return False
        since = ticket.since if ticket.state is JobState.ENDED else now
        return abs(now - since) >= seconds(self._site.grace)  # the clock may have been set back

    @property
    def _patience_s(self) -> float:
        return seconds(self._site.submit_timeout)

    def _called_off(self, ticket: Ticket) -> bool:
        """Return whether a ticket that its scheduler does not know any more will never start: only if its
        claim can be had. (Slurm 24.11 keeps no account of an element that it cancelled for its
        dependency.)"""
        try:
            return self._store.claims.void(ticket.name)
        except OSError:
            return False  # the next look tries again

    def _parting(self, ticket: Ticket, last: Attempt | None) -> Parting:
        """Return what a script that never made its attempt's folder said last, in the scheduler's output."""
        if last is not None:
            return Parting()
        out = self._store.layout.submission(ticket.token).out
        return parting(evidence.tail(out / f"{ticket.index}.log") or evidence.tail(out / f"{ticket.job}.out"))

    def _disk(self, seen: Observation | None, said: Parting) -> str:
        """Return why the results cannot be written now, and the remedy, where a script could not."""
        if exit_codes.NO_ROOM not in (seen.exit_code if seen is not None else None, said.exit_code):
            return ""
        folder = self._store.layout.runs
        error = why_not(folder) if folder.is_dir() else None
        return f"{error.strerror}; {mend(error, folder)}" if error is not None else ""

    def _log_tail(self, ticket: Ticket, last: Attempt | None) -> str:
        if last is None or not last.exit_code:
            return ""
        return evidence.log_tail(self._store.layout.run(ticket.run).attempt(last.number).path)


def _done(ticket: Ticket, left: _Left, product: Product, seen: Observation | None) -> Finished:
    last = left.last
    return Finished(
        run=ticket.run,
        ticket=ticket.name,
        product=product,
        attempts=left.attempts,
        note=note_on_product(last, seen),
        node=last.host if last else "",
        started_at=left.mine[0].started_at if left.mine else None,
        ended_at=product.finished_at or None,
    )


def _cancelled(ticket: Ticket, left: _Left, reason: str) -> Finished:
    return Finished(
        run=ticket.run,
        ticket=ticket.name,
        failure=FailureClass.CANCELLED,
        reason=reason,
        attempts=left.attempts,
        progress=evidence.progress(left.run_dir),
        started_at=left.mine[0].started_at if left.mine else None,
    )
