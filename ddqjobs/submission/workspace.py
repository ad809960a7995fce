"""One experiment on a site: its plan, made of what its store, its schedulers and its file say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.paths import expanded
from ddqjobs.base.units import seconds
from ddqjobs.planning import plan as planning
from ddqjobs.planning.catalog import Catalog, Loaded
from ddqjobs.schedulers.base import Capabilities, QueueFullError, Scheduler
from ddqjobs.schedulers.registry import capabilities, cluster, make_scheduler
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Product, Run, TaskKind
from ddqjobs.spec.site import Site
from ddqjobs.store import evidence
from ddqjobs.store.history import History, Ticket
from ddqjobs.store.store import Store
from ddqjobs.submission import configurations, heard
from ddqjobs.submission.members import Members, name_of
from ddqjobs.submission.observe import Observer
from ddqjobs.submission.stalls import Idle, Stalls, in_vain

if TYPE_CHECKING:
    from ddqjobs.detect.job.training_progress import Progress

_LIMITED_S = 3600.0
_FULL_S = 60.0  # other people's jobs end too: then one tries again
_TRAINS = (TaskKind.TRAIN, TaskKind.PREPARE, TaskKind.SMOKE)


@dataclass(frozen=True)
class RunState:
    """A line of `status`."""

    planned: PlannedRun
    progress: Progress | None = None


@dataclass
class Workspace:
    """An experiment and what is known of its runs. ``warnings`` collects what could not be asked."""

    catalog: Catalog
    loaded: Loaded
    site: Site
    results: Path
    tell: Callable[[str], None] = lambda _: None  # hears how far it is where something takes long
    inform: Callable[[str], None] = lambda _: None  # hears what was done that nobody asked for
    warnings: list[str] = field(default_factory=list)
    standing: int = 0  # how many of them, from the first, are of files and not of schedulers
    _schedulers: dict[str, Scheduler] = field(default_factory=dict)
    _full: tuple[int, float] | None = None  # how many jobs the queue took, and when it was seen

    @cached_property
    def store(self) -> Store:
        """The experiment's folder."""
        return Store(self.results)

    @cached_property
    def members(self) -> Members:
        """Return who we are, and whose tickets are."""
        return Members(lambda site: cluster(self._declared(site)))

    def scheduler(self, site: str) -> Scheduler:
        """Return the scheduler of a site by name (a run may have been submitted to another site than
        today's)."""
        if site not in self._schedulers:
            self._schedulers[site] = make_scheduler(self._declared(site), self.catalog.project)
        return self._schedulers[site]

    def capabilities(self, site: str) -> Capabilities:
        """Return what the scheduler of a site can express."""
        return capabilities(self._declared(site))

    def _declared(self, site: str) -> Site:
        return self.site if site == self.site.name else self.catalog.site(site)

    def plan(self, *, refresh: bool = True, canaries: bool = False) -> Plan:
        """Return the plan, after asking the schedulers and looking at the evidence unless ``refresh`` is off.
        With ``canaries`` they belong to it, submitted before or not."""
        self.store.check()
        history = self.store.history()
        standing = [*self.loaded.warnings, *self.store.unreadable(), *self._left_over(history)]
        self.warnings[:], self.standing = standing, len(standing)
        if refresh and history.active():
            self._refresh()
            history = self.store.history()
        if refresh:
            self.store.forget_abandoned()
        plan = self._built(history, canaries=canaries)
        full = self._room(self._active_here(history)) == 0
        return planning.with_full_queue(plan, self.queue_limit or 0) if full else plan

    def then(self, at: float) -> tuple[Plan, dict[str, Product]]:
        """Return the plan and the products as the ledger knew them at a time (seconds since the epoch); the
        experiment is today's."""
        self.store.check()
        history = self.store.history_at(at)
        return self._built(history), self.store.products(history)

    def products(self) -> dict[str, Product]:
        """Return run -> product of every done run, as recorded, unless it has vanished since."""
        return self.store.products(self.store.history())

    def progress(self, planned: PlannedRun) -> Progress | None:
        """Return how far a running training is; None for anything else."""
        if planned.state is not JobState.RUNNING or planned.run.kind not in _TRAINS:
            return None
        return evidence.training(self.store.run_dir(planned.run.name))

    def blocked(self) -> dict[str, str]:
        """Return run -> why it cannot run whatever is done: its configuration does not exist."""
        lost: dict[tuple[str, str, configurations.Source], str] = {}
        blocked: dict[str, str] = {}
        for run in (*self.loaded.runs, *self.loaded.canaries):
            source = configurations.source(run)
            key = run.workdir, run.config, source
            if key not in lost:
                lost[key] = self._lost(run.config, run.workdir, source)
            if lost[key]:
                blocked[run.name] = lost[key]
        return blocked

    def _lost(self, config: str, workdir: str, source: configurations.Source) -> str:
        """Return why a configuration is not where a job looks for it; empty where it is, or where that is in
        a code's tree that is not on this machine."""
        if not config or "::" in config:
            return ""
        below = config not in self.loaded.absent_configs
        if not source.tree:
            return "" if below else f"configuration experiments/{config} does not exist"
        tree = expanded(self.catalog.project, workdir)
        if not tree.is_dir() or (tree / config).exists() or (below and source.project):
            return ""
        why = f"configuration {config} does not exist in {workdir}"
        if source.project:
            return f"{why}, nor below experiments/"
        return f"{why}; the one below experiments/ is `{{code}}/{config}` in a command" if below else why

    def room(self) -> int | None:
        """Return how many more jobs the site's queue takes, after asking it; None without a limit. Raises
        SchedulerError."""
        return None if self.queue_limit is None else self._room(self._in_queue())

    @property
    def is_full(self) -> bool:
        """Return whether the scheduler has said within the last minute that it takes no more."""
        return self._full is not None and time.monotonic() - self._full[1] < _FULL_S

    def queue_is_full(self) -> None:
        """Learn from the scheduler's refusal: what is in the queue now is what it takes, for a minute."""
        self._full = (self._in_queue(), time.monotonic())

    def strays(self) -> tuple[PlannedRun, ...]:
        """Return the runs that the experiment file no longer has, and whose jobs have not ended."""
        history = self.store.history()
        elsewhere = self._elsewhere(history)
        return tuple(
            planning.stray(
                ticket, history.of(ticket.run), self.loaded.experiment.name, elsewhere.get(ticket.name)
            )
            for ticket in self._unknown(history)
        )

    def _refresh(self) -> None:
        try:
            observer = Observer(
                self.store,
                self.site,
                self.scheduler,
                self.capabilities,
                self.members,
                self.warnings.append,
                self.tell,
            )
            observer.refresh()
            self._end_stalls(observer.idle)
        except StateError as error:  # a full disk or a read-only one: what is known can be shown all the same
            self.warnings.append(str(error))
        except OSError as error:  # what runs left cannot be looked at: nothing is concluded from that
            where = error.filename or self.store.layout.runs
            self.warnings.append(
                f"{where}: {error.strerror}; {mend(error)}; runs are shown as they were before"
            )

    def _end_stalls(self, idle: Idle) -> None:
        """Let go on what its scheduler lets wait for what is done."""
        if any(idle.values()):
            stalls = Stalls(
                self.store,
                self.scheduler,
                self.members,
                self._patience_s,
                self.warnings.append,
                self.inform,
            )
            stalls.end(self._upstream(self.store.history()), idle)

    def _upstream(self, history: History) -> dict[str, tuple[str, ...]]:
        """Run -> the runs that it needs. Not of one whose job is of another digest than today's."""
        return {
            run.name: run.upstream
            for run in (*self.loaded.runs, *self.loaded.canaries)
            if (ticket := history.of(run.name).active) is None or ticket.digest == run.digest
        }

    @property
    def _patience_s(self) -> float:
        return seconds(self.site.submit_timeout)

    def _built(self, history: History, *, canaries: bool = False) -> Plan:
        return planning.build(
            self._runs(history, canaries=canaries),
            history,
            experiment=self.loaded.experiment.name,
            site=self.site.name,
            missing=self.store.vanished(history),
            blocked=self.blocked(),
            elsewhere=self._elsewhere(history),
        )

    def _elsewhere(self, history: History) -> dict[str, planning.Elsewhere]:
        """Return ticket -> what is said of it, of those that are others' or of another cluster."""
        elsewhere = {}
        theirs = [ticket for ticket in history.active() if self.members.elsewhere(ticket)]
        waits = any(heard.waits(ticket) for ticket in theirs)
        upstream = self._upstream(history) if waits else {}
        stalled = {ticket.name for ticket in in_vain(history, upstream, time.time(), self._patience_s)}
        for ticket in theirs:
            if ticket.member is not None:
                attempts = evidence.attempts(self.store.run_dir(ticket.run))
                started = next((a.started_at for a in reversed(attempts) if a.ticket == ticket.name), None)
                reason = self.members.words(ticket, started)
                if ticket.name in stalled and started is None:
                    reason += (
                        "; at the owner's last look it waited for what is done, and the next lets it go on"
                    )
                elsewhere[ticket.name] = planning.Elsewhere(name_of(ticket.member), reason)
        return elsewhere

    def _runs(self, history: History, *, canaries: bool = False) -> tuple[Run, ...]:
        """The experiment's runs, and the canaries that are about to be submitted or ever were."""
        tried = (c for c in self.loaded.canaries if canaries or c.name in history.runs)
        return (*self.loaded.runs, *tried)

    @property
    def is_limited(self) -> bool:
        """Return whether the scheduler refused a submission within the last hour for a limit of its own."""
        since = time.time() - _LIMITED_S
        return any(
            t.voided and t.since > since and QueueFullError.WORDS in t.why
            for t in self.store.history().tickets.values()
        )

    @property
    def queue_limit(self) -> int | None:
        """Return how many jobs the queue takes: what the site says, and what its scheduler has taken
        lately."""
        declared = self.site.limits.jobs_in_queue or None
        if self._full is None or not self.is_full:
            return declared
        return self._full[0] if declared is None else min(declared, self._full[0])

    def _in_queue(self) -> int:
        in_queue = self.scheduler(self.site.name).in_queue()
        return max(in_queue, self._active_here(self.store.history()))

    def _room(self, there: int) -> int | None:
        return None if self.queue_limit is None else max(0, self.queue_limit - there)

    def _active_here(self, history: History) -> int:
        return sum(t.site == self.site.name and not self.members.of_another(t) for t in history.active())

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
