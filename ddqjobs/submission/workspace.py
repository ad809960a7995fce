"""One experiment on disk: its results folder, ledger, claims, and the schedulers that have its jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ddqjobs.base.errors import DdqjobsError, StateError, mend
from ddqjobs.base.process import alive, myself
from ddqjobs.base.units import seconds
from ddqjobs.planning import failures
from ddqjobs.planning import plan as planning
from ddqjobs.planning.catalog import Catalog, Loaded
from ddqjobs.schedulers.base import Scheduler
from ddqjobs.schedulers.registry import make_scheduler
from ddqjobs.spec.model import (
    IN_QUEUE,
    Attempt,
    FailureClass,
    JobState,
    Observation,
    Plan,
    PlannedRun,
    Product,
    Run,
)
from ddqjobs.spec.site import Site
from ddqjobs.store import evidence
from ddqjobs.store.claims import Claims, Tickets
from ddqjobs.store.history import History, Ticket
from ddqjobs.store.layout import PRODUCT, Layout
from ddqjobs.store.ledger import AnyRecord, Finished, Ledger, Observed, Submitted, Voided


@dataclass
class Workspace:
    """An experiment and what is known of its runs. ``warnings`` collects what could not be asked."""

    catalog: Catalog
    loaded: Loaded
    site: Site
    results: Path
    warnings: list[str] = field(default_factory=list)
    standing: int = 0  # how many of them, from the first, are of files and not of schedulers
    trying: bool = False  # canaries are to be submitted: they belong to the plan
    _schedulers: dict[str, Scheduler] = field(default_factory=dict)
    _history: tuple[list[AnyRecord], History] | None = None

    @cached_property
    def layout(self) -> Layout:
        """Where everything of the experiment lies."""
        return Layout(self.results)

    @cached_property
    def ledger(self) -> Ledger:
        """The experiment's ledger."""
        return Ledger(self.layout.ledger)

    @cached_property
    def claims(self) -> Claims:
        """The experiment's claims and reservations."""
        return Claims(self.results)

    def scheduler(self, site: str) -> Scheduler:
        """The scheduler of a site by name (a run may have been submitted to another site than today's)."""
        if site not in self._schedulers:
            declared = self.site if site == self.site.name else self.catalog.site(site)
            self._schedulers[site] = make_scheduler(declared, self.catalog.project)
        return self._schedulers[site]

    def run_dir(self, run: str) -> Path:
        """``results/<experiment>/runs/<run>``."""
        return self.layout.run(run).path

    def history(self) -> History:
        """What the ledger says now."""
        records = self.ledger.read()
        if self._history is None or self._history[0] is not records:
            self._history = (records, History(records))
        return self._history[1]

    def tickets_of(self, run: str) -> Tickets:
        """The ledger's tickets of one run, read afresh."""
        tickets = self.history().of(run).tickets
        return Tickets(frozenset(t.name for t in tickets), frozenset(t.name for t in tickets if t.ended))

    def plan(self, *, refresh: bool = True) -> Plan:
        """The plan, after asking the schedulers and looking at the evidence unless ``refresh`` is off."""
        self._check_ledger()
        history = self.history()
        standing = [*self.loaded.warnings, *self._unreadable(), *self._left_over(history)]
        self.warnings[:], self.standing = standing, len(standing)
        if refresh and history.active():
            try:
                self.refresh(history)
            except (
                StateError
            ) as error:  # a full disk or a read-only one: what is known can be shown all the same
                self.warnings.append(str(error))
            history = self.history()
        plan = self._built(history)
        full = self._room(self._active_here(history)) == 0
        return planning.with_full_queue(plan, self.site.limits.jobs_in_queue) if full else plan

    def _built(self, history: History) -> Plan:
        return planning.build(
            self._runs(history),
            history,
            experiment=self.loaded.experiment.name,
            site=self.site.name,
            missing=self._missing(history),
            blocked=self.blocked(),
        )

    def room(self) -> int | None:
        """How many more jobs the site's queue takes, after asking it; None without a limit. Raises
        SchedulerError."""
        if not self.site.limits.jobs_in_queue:
            return None
        return self._room(max(self.scheduler(self.site.name).in_queue(), self._active_here(self.history())))

    def _room(self, there: int) -> int | None:
        limit = self.site.limits.jobs_in_queue
        return max(0, limit - there) if limit else None

    def _active_here(self, history: History) -> int:
        return sum(ticket.site == self.site.name for ticket in history.active())

    def _runs(self, history: History) -> tuple[Run, ...]:
        """The experiment's runs, and the canaries that are about to be submitted or ever were."""
        tried = (c for c in self.loaded.canaries if self.trying or c.name in history.runs)
        return (*self.loaded.runs, *tried)

    def then(self, at: float) -> tuple[Plan, dict[str, Product]]:
        """The plan and the products as the ledger knew them at a time (seconds since the epoch); the
        experiment is today's."""
        self._check_ledger()
        history = History([record for record in self.ledger.read() if record.at <= at])
        return self._built(history), self._products(history)

    def blocked(self) -> dict[str, str]:
        """Run -> why it cannot run whatever is done: its configuration does not exist."""
        absent = self.loaded.absent_configs
        return {
            run.name: f"configuration experiments/{run.config} does not exist"
            for run in (*self.loaded.runs, *self.loaded.canaries)
            if run.config in absent and not run.workdir
        }

    def products(self) -> dict[str, Product]:
        """Run -> product of every done run, as the ledger recorded it, unless it has vanished since."""
        return self._products(self.history())

    def _products(self, history: History) -> dict[str, Product]:
        gone = self._missing(history)
        return {
            name: story.done.product
            for name, story in history.runs.items()
            if story.done is not None and story.done.product is not None and name not in gone
        }

    def _missing(self, history: History) -> set[str]:
        gone = set()
        for name, story in history.runs.items():
            if story.done is not None and story.done.product is not None:
                # One question per run: the first artifact, which lies in the attempt that made it.
                kept = next(iter(story.done.product.artifacts.values()), PRODUCT)
                if not os.path.exists(self.layout.in_run(name, kept)):  # noqa: PTH110
                    gone.add(name)
        return gone

    def strays(self) -> tuple[PlannedRun, ...]:
        """Runs that the experiment file no longer has, and whose jobs have not ended."""
        history = self.history()
        return tuple(
            planning.stray(ticket, history.of(ticket.run), self.loaded.experiment.name)
            for ticket in self._unknown(history)
        )

    def _unknown(self, history: History) -> list[Ticket]:
        active = history.active()
        known = {run.name for run in self._runs(history)} if active else set()
        return [ticket for ticket in active if ticket.run not in known]

    def _left_over(self, history: History) -> list[str]:
        """A warning, if jobs of runs that the experiment no longer has were not seen to end."""
        names = sorted({ticket.run for ticket in self._unknown(history)})
        if not names:
            return []
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
        has = "has a job that has" if len(names) == 1 else "have jobs that have"
        return [
            f"{shown}: no run of the experiment any more, and {has} not ended: `ddqjobs cancel "
            f"{self.loaded.experiment.name} {names[0]}` ends it; undo the change of the file to see it"
        ]

    def _check_ledger(self) -> None:
        runs = self.layout.runs
        if not self.ledger.exists and runs.is_dir() and any(runs.iterdir()):
            raise StateError(
                f"{self.results}: there are runs but no ledger, so what was submitted is not known. Restore "
                f"{self.layout.ledger}, or move {runs} away and take results in with `ddqjobs adopt`"
            )

    def _unreadable(self) -> list[str]:
        """A warning, if lines of the ledger are no records."""
        lines = self.ledger.unreadable
        if not lines:
            return []
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        return [
            f"{self.ledger.folder / lines[0]}{more}: this version cannot read it as a record, and leaves it "
            "out; what it says of submissions is not known. Restore the file if a disk or an editor damaged "
            "it; use the version of ddqjobs that wrote it if that was a newer one"
        ]

    # -- what has become of the active tickets ----------------------------------------------------------

    def refresh(self, history: History) -> bool:
        """Confirms submissions, asks each scheduler once, reads evidence; records what is new."""
        records = self._confirm(history)
        if records:
            self.ledger.append(*records)
            history = self.history()
        now = time.time()
        observed = self._observe(history)
        started = self._run_folders()  # only now: what was there before the schedulers were asked is old
        looked = ((t, observed.get(t.name)) for t in history.active())
        found = [
            r
            for t, seen in looked
            if (r := self._judge(t, seen, now) if _may_say_more(t, seen, started) else _news(t, seen))
        ]
        if found:
            self.ledger.append(*found)
        return bool(records or found)

    def _run_folders(self) -> frozenset[str]:
        """Names of the runs that have a folder, by one question instead of several for each run."""
        try:
            return frozenset(os.listdir(self.layout.runs))  # noqa: PTH208
        except OSError:
            return frozenset()  # decides nothing: see _may_say_more

    def _confirm(self, history: History) -> list[AnyRecord]:
        """Submissions whose answer was never recorded: found at the scheduler, or voided."""
        tokens: dict[str, list[Ticket]] = {}
        for ticket in history.active():
            if not ticket.job:
                tokens.setdefault(ticket.token, []).append(ticket)
        records: list[AnyRecord] = []
        for token, tickets in tokens.items():
            first = tickets[0]
            if self._in_the_making(first):
                continue
            try:
                jobs = self.scheduler(first.site).find(token)
            except DdqjobsError as error:
                self.warnings.append(f"submission {token}: {error}")
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
            return abs(time.time() - ticket.at) < seconds(self.site.submit_timeout)
        return ticket.owner != myself() and alive(ticket.owner)

    def _void(self, token: str, tickets: list[Ticket]) -> list[AnyRecord]:
        try:
            voided = [t.name for t in tickets if self.claims.void(t.name)]
        except OSError as error:
            raise StateError(
                f"{self.claims.claims}: {error.strerror}; whether submission {token} may still start cannot "
                f"be settled: {mend(error)}, then run the same command again"
            ) from error
        started = {str(t.index): self._claimed_by(t.name) for t in tickets if t.name not in voided}
        records: list[AnyRecord] = []
        if voided:
            records.append(
                Voided(tickets=voided, why="its submission was interrupted before the scheduler had it")
            )
        if started:
            records.append(Submitted(token=token, jobs=started))
        return records

    def _claimed_by(self, ticket: str) -> str:
        lines = self.claims.path(ticket).read_text(errors="replace").splitlines()
        return lines[1] if len(lines) > 1 else "unknown"

    def _observe(self, history: History) -> dict[str, Observation]:
        """Ticket -> observation, with one query per site."""
        by_site: dict[str, dict[str, list[str]]] = {}
        for ticket in history.active():
            if ticket.job:
                by_site.setdefault(ticket.site, {}).setdefault(ticket.job, []).append(ticket.name)
        out: dict[str, Observation] = {}
        for site, jobs in by_site.items():
            try:
                seen = self.scheduler(site).query(list(jobs))
            except DdqjobsError as error:
                self.warnings.append(f"site {site}: {str(error).removeprefix(f'site {site}: ')}")
                seen = {job: Observation(state=JobState.UNKNOWN, detail=str(error)) for job in jobs}
            for job, names in jobs.items():
                for name in names:
                    out[name] = seen.get(job, Observation(state=JobState.UNKNOWN, detail="not in the answer"))
        return out

    def _judge(self, ticket: Ticket, seen: Observation | None, now: float) -> AnyRecord | None:
        """What evidence and observation say of an active ticket; None if nothing is new."""
        run_dir = self.run_dir(ticket.run)
        attempts = evidence.attempts(run_dir)
        mine = [a for a in attempts if a.ticket == ticket.name]
        last = mine[-1] if mine else None
        product = evidence.product(run_dir)
        grace_over = self._grace_over(ticket, seen, now)
        whole = product if product is not None and product.ticket == ticket.name else None
        if whole is not None and said_all(last, seen, grace_over):
            return Finished(
                run=ticket.run,
                ticket=ticket.name,
                product=whole,
                attempts=len(attempts),
                note=_note(last, seen),
                node=last.host if last else "",
                started_at=mine[0].started_at if mine else None,
                ended_at=whole.finished_at or None,
            )
        failure = judge_failure(
            ticket,
            self._heard(ticket, seen, last),
            last,
            grace_over,
            self._tail(ticket, last),
            self._words(ticket, last),
        )
        if failure is not None and whole is None:
            self._revoke(ticket)
            return Finished(
                run=ticket.run,
                ticket=ticket.name,
                failure=failure[0],
                reason=failure[1],
                attempts=len(attempts),
                progress=evidence.progress(run_dir),
                node=last.host if last else "",
                started_at=mine[0].started_at if mine else None,
                ended_at=last.ended_at if last else None,
            )
        if seen is not None and seen.forgotten and not mine and self._given_up(ticket, now):
            why = f"its scheduler has forgotten it before it started: {seen.detail}"
            return Voided(tickets=[ticket.name], why=why)
        return _news(ticket, seen)

    def _heard(self, ticket: Ticket, seen: Observation | None, last: Attempt | None) -> Observation | None:
        """What counts of an observation. A scheduler that starts no job again by itself is not needed to know
        that one is over whose script has said its last word: it may lag behind for long."""
        if seen is None or last is None or last.exit_code is None or seen.state is JobState.ENDED:
            return seen
        return seen if self.scheduler(ticket.site).capabilities.restarts else None

    def _given_up(self, ticket: Ticket, now: float) -> bool:
        """Whether a ticket that its scheduler does not know any more will never start: after the patience
        for a scheduler that lags, and only if its claim can be had. (Slurm 24.11 keeps no account of an
        element that it cancelled for its dependency.)"""
        if ticket.state is not JobState.UNKNOWN or abs(now - ticket.since) < seconds(
            self.site.submit_timeout
        ):
            return False
        try:
            return self.claims.void(ticket.name)
        except OSError:
            return False  # the next look tries again

    def _revoke(self, ticket: Ticket) -> None:
        """Ends the right to run of a ticket that is written off: were its job started once more, by an
        operator or on a node that came back, it would run beside the job that follows it."""
        try:
            self.claims.revoke(ticket.name)
        except OSError as error:
            raise StateError(
                f"{self.claims.claims}: {error.strerror}; {mend(error)}, then run the same command again"
            ) from error

    def _grace_over(self, ticket: Ticket, seen: Observation | None, now: float) -> bool:
        if seen is None or seen.state is not JobState.ENDED:
            return False
        since = ticket.since if ticket.state is JobState.ENDED else now
        return abs(now - since) >= seconds(self.site.grace)  # the clock may have been set back

    def _words(self, ticket: Ticket, last: Attempt | None) -> str:
        """What a script that never made its attempt's folder said last, in the scheduler's output."""
        if last is not None:
            return ""
        folder = self.layout.submission(ticket.token).out
        text = evidence.tail(folder / f"{ticket.index}.log") or evidence.tail(folder / f"{ticket.job}.out")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""

    def _tail(self, ticket: Ticket, last: Attempt | None) -> str:
        if last is None or not last.exit_code:
            return ""
        return evidence.log_tail(self.layout.run(ticket.run).attempt(last.number).path)

    def call_off(self, ticket: Ticket) -> None:
        """Sees to it that a ticket whose submission is not confirmed never starts, and says that it was
        cancelled. Nothing happens if its job has started: the next look finds it."""
        if self.claims.void(ticket.name):
            reason = "cancelled by the user before its submission was confirmed"
            self._cancelled(ticket, reason)

    def write_off(self, ticket: Ticket) -> None:
        """Ends a ticket whose job the scheduler does not know any more, as the user wishes. Should the job
        turn up all the same, it has no right to run and leaves nothing."""
        self._revoke(ticket)
        self._cancelled(ticket, "cancelled by the user; its scheduler does not know the job any more")

    def _cancelled(self, ticket: Ticket, reason: str) -> None:
        self.ledger.append(
            Finished(run=ticket.run, ticket=ticket.name, failure=FailureClass.CANCELLED, reason=reason)
        )


def _may_say_more(ticket: Ticket, seen: Observation | None, started: Collection[str]) -> bool:
    """Whether the evidence of a ticket may say more than its scheduler: not while it is in the queue and its
    run has no folder. Where absence would decide something, the folder itself is looked at."""
    return seen is None or seen.state not in IN_QUEUE or ticket.run in started


def _news(ticket: Ticket, seen: Observation | None) -> Observed | None:
    """What a scheduler says, if it is new."""
    if seen is None or (seen.state, seen.detail, seen.node) == (ticket.state, ticket.detail, ticket.node):
        return None
    if seen.state is JobState.UNKNOWN and ticket.state is JobState.UNKNOWN:
        return None  # keeps the time since when it is unknown
    return Observed(ticket=ticket.name, state=seen.state, detail=seen.detail, node=seen.node)


# Ends that the scheduler itself brought about: what the script says of them is only their echo.
_SURE = (FailureClass.TIMEOUT, FailureClass.PREEMPTED, FailureClass.OUT_OF_MEMORY, FailureClass.CANCELLED)


def said_all(last: Attempt | None, seen: Observation | None, grace_over: bool) -> bool:
    """Whether nothing more is to be expected of an attempt that has left its product: its script puts the
    product in place first and says how it went right after that."""
    if last is None or last.exit_code is not None or seen is None or seen.state is JobState.UNKNOWN:
        return True
    return seen.state is JobState.ENDED and grace_over


def _note(last: Attempt | None, seen: Observation | None) -> str:
    if last is None or last.exit_code is not None or seen is None or seen.state is not JobState.ENDED:
        return last.note if last is not None else ""
    return "the product is whole although its script was ended before its last word"


def judge_failure(
    ticket: Ticket,
    seen: Observation | None,
    last: Attempt | None,
    grace_over: bool,
    log_tail: str,
    last_words: str = "",
) -> tuple[FailureClass, str] | None:
    """(class, reason) if the ticket has certainly ended without a product; None while that is not certain.

    The script's last word counts as soon as the scheduler does not mean to start the job once more; the
    scheduler's word that a job has ended counts only when ``grace_over``, since file systems show files of
    other nodes late, except where no attempt ever started.
    """
    if last is not None and last.exit_code is not None and last.exit_code != 0:
        if not _last_word(last, last.exit_code, seen):
            return None
        by_signal = failures.by_signal(last.exit_code)
        if ticket.cancelled and (last.stopped or by_signal or _says_cancelled(seen)):
            return FailureClass.CANCELLED, "cancelled by the user"
        if seen is not None and seen.failure in _SURE:
            return seen.failure, seen.detail
        if last.failure is not None:  # the script's own word, and code
            return last.failure, _script_words(last, last.exit_code, log_tail)
        if last.stopped and by_signal:
            return FailureClass.TIMEOUT, f"asked to stop, and {failures.signal_words(last.exit_code)}"
        return failures.classify(last.exit_code, log_tail)
    if seen is None or seen.state is not JobState.ENDED:
        return None
    never_started = last is None
    if never_started and (ticket.cancelled or seen.failure is FailureClass.CANCELLED):
        return FailureClass.CANCELLED, "cancelled by the user before it started"
    if never_started and seen.failure is FailureClass.DEPENDENCY:
        return FailureClass.DEPENDENCY, seen.detail
    if not grace_over:
        return None
    if ticket.cancelled:
        return FailureClass.CANCELLED, "cancelled by the user"
    if seen.failure is not None:
        return seen.failure, seen.detail
    if last is not None and last.marker is not None:
        return last.marker, f"{last.note.partition(';')[0]}, and its job was not started again"
    detail = seen.detail or "the scheduler says that it ended"
    if last is not None and last.exit_code == 0:
        return FailureClass.NO_PRODUCT, "it ended well, but its product is not there"
    if never_started and seen.exit_code in failures.EXIT_CODES:
        return failures.EXIT_CODES[seen.exit_code]
    if never_started:
        return FailureClass.UNKNOWN, f"{detail}; its script left nothing{last_words}"
    return FailureClass.NODE, f"{detail}; its script was ended before it could say why"


def _script_words(last: Attempt, code: int, log_tail: str) -> str:
    """What the launch script's last word means."""
    if code in failures.EXIT_CODES:
        told = failures.EXIT_CODES[code][1]
    elif last.failure is FailureClass.TIMEOUT:
        told = failures.NOT_SAVED
    else:
        _, told = failures.classify(code, log_tail)
    return told if code == failures.STOPPED else last.note or told


def _says_cancelled(seen: Observation | None) -> bool:
    return seen is not None and seen.failure is FailureClass.CANCELLED


def _last_word(last: Attempt, exit_code: int, seen: Observation | None) -> bool:
    """Whether what the script said on leaving is the end of its job. While the scheduler has the job queued
    or running it may start it once more (a requeue ends the script by a signal, or after a stop)."""
    if seen is None or seen.state is JobState.ENDED:
        return True
    return seen.state is JobState.UNKNOWN and not last.stopped and exit_code < 128
