"""Submits what the plan says is submittable: reserve, write, intend, submit, record, in this order.

After each of these steps the process may die. What the next command then finds decides what happens:

=====================  ========================================================================
died after             the next command
=====================  ========================================================================
reserving              voids the tickets whose process is dead, takes the next slot
writing the folder     the same; the folder is left without meaning
the intent             asks the scheduler for the token: found -> recorded; not found -> voided
the scheduler took it  the same: found
recording              nothing to do
=====================  ========================================================================
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import field

from ddqjobs.base.errors import DdqjobsError, SchedulerError, StateError, mend
from ddqjobs.base.files import replace
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.process import myself
from ddqjobs.base.units import seconds
from ddqjobs.base.version import VERSION
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.bad_nodes import bad_nodes
from ddqjobs.planning.digest import with_upstream
from ddqjobs.planning.estimate import Estimate, estimates
from ddqjobs.schedulers.base import (
    Capabilities,
    DependencyGoneError,
    Element,
    RefusedError,
    Submission,
    SubmitUnknownError,
)
from ddqjobs.schedulers.registry import capabilities
from ddqjobs.spec.model import IN_QUEUE, Plan, PlannedRun, Resources, Run, Status
from ddqjobs.store.claims import SUBMITTED_MEANWHILE
from ddqjobs.store.history import History, RunHistory
from ddqjobs.store.layout import SubmissionFolder
from ddqjobs.store.ledger import Intent, Submitted, Voided, Wanted, ticket_of
from ddqjobs.submission.arrays import batches
from ddqjobs.submission.checking import Checking
from ddqjobs.submission.rendering import Rendering, new_token
from ddqjobs.submission.script import Renderer, Scripts, job_name
from ddqjobs.submission.select import Submitting, pick, within_queue
from ddqjobs.submission.snapshot import snapshot
from ddqjobs.submission.workspace import Workspace

Say = Callable[[str], None]


class Outcome(Frozen, frozen=True, kw_only=True):
    """What was submitted, and what was left out and why."""

    submitted: dict[str, str] = field(default_factory=dict)  # run -> job
    left: dict[str, str] = field(default_factory=dict)  # run -> reason
    refused: dict[str, str] = field(default_factory=dict)  # of those left out: ready, and yet not submitted
    unconfirmed: dict[str, str] = field(default_factory=dict)  # run -> what came instead of an answer
    gpu_hours: float = 0.0  # estimated, of what was submitted


class Rendered(Frozen, frozen=True, kw_only=True):
    """A submission that was only rendered."""

    name: str
    runs: tuple[str, ...]
    scripts: Scripts


class Submitter:
    """Submits runs of one workspace."""

    def __init__(
        self, workspace: Workspace, environments: Environments, renderer: Renderer | None = None
    ) -> None:
        self._workspace = workspace
        self._rendering = Rendering(workspace, environments, renderer)
        self._checking = Checking(workspace, environments)

    def dry_run(self, wanted: Submitting, plan: Plan) -> tuple[list[Rendered], dict[str, str]]:
        """The scripts that `submit` would submit on an otherwise empty site; writes nothing."""
        able = capabilities(self._workspace.site)
        picks, left = pick(plan, wanted, graph=True, costs=self._costs(plan))
        code = "snapshot-made-at-submission"
        out: list[Rendered] = []
        for _, runs in batches(picks, self._workspace.site, able):
            scripts = self._rendering.scripts(runs, f"dry-run-{len(out) + 1:03d}", code)
            out.append(Rendered(name=job_name(runs), runs=tuple(r.name for r in runs), scripts=scripts))
        return out, left

    def submit(self, wanted: Submitting, plan: Plan, say: Say = lambda _: None) -> Outcome:
        """Submits. Raises EnvironmentNotReadyError before anything is submitted; SchedulerError when the
        scheduler refuses: what was submitted until then is recorded and stays."""
        workspace = self._workspace
        able = capabilities(workspace.site)
        costs = self._costs(plan)
        picks, left = pick(plan, wanted, graph=able.dependencies, costs=costs)
        limit = workspace.site.limits.jobs_in_queue
        picks, left = within_queue(picks, left, limit, workspace.room() if picks else None)
        self._rendering.require_environments([p.run for p in picks])
        unchecked = self._check(wanted, plan, picks, say) if picks else frozenset[str]()
        self._remember(wanted, plan, left)
        if not picks:
            return Outcome(left=left)
        carried_out = _Round(
            workspace,
            self._rendering,
            code=self._snapshot(),
            unchecked=unchecked,
            avoid=self._bad_nodes(able, say),
            hours={name: cost.gpu_hours for name, cost in costs.items()},
            planned={p.run.name: p for p in plan.runs},
            # A dependency only onto a job that was seen a moment ago: nobody knows what else would mean.
            jobs={p.run.name: p.job for p in plan.runs if p.job and p.state in IN_QUEUE and not p.owner},
            outcome=Outcome(left=left),
            say=say,
        )
        picks = self._as_they_will_be(picks, plan)
        for resources, runs in batches(picks, workspace.site, able, carried_out.jobs):
            carried_out.submit(resources, runs)
        return carried_out.outcome

    def shell(self, run: Run, typed: str) -> str:
        """A script that enters a run's environment with the code as it is now. Raises
        EnvironmentNotReadyError."""
        self._rendering.require_environments([run])
        self._workspace.store.ledger.begin()
        return self._rendering.shell(run, typed, self._snapshot())

    def _check(self, wanted: Submitting, plan: Plan, picks: Sequence[PlannedRun], say: Say) -> frozenset[str]:
        """Check the configurations of what is submitted, and of what will be; return the runs whose jobs are
        not to check them. Raise InputError."""
        to_come = (p for p in plan.runs if p.status in (Status.ELIGIBLE, Status.WAITING))
        runs = {p.run.name: p.run for p in (*picks, *(p for p in to_come if wanted.wants(p.run)))}
        self._checking.before(runs.values(), say, waive=not wanted.check)
        return self._checking.waived(p.run for p in picks)

    def _snapshot(self) -> str:
        """Copy the task code as it is now, unless it is there already; return the copy's name."""
        workspace = self._workspace
        try:
            return snapshot(workspace.store.layout.code, workspace.catalog.files, workspace.loaded.path)
        except OSError as error:
            raise _disk(workspace.results, error) from error

    def _bad_nodes(self, able: Capabilities, say: Say) -> tuple[str, ...]:
        """Nodes to avoid for a while, if the scheduler can be told; said once for each submission."""
        workspace = self._workspace
        window_s, site = seconds(workspace.site.avoid_bad_nodes), workspace.site.name
        tickets = (t for t in workspace.store.history().tickets.values() if t.site == site)
        bad = bad_nodes(tickets, time.time(), window_s)
        for node, runs in bad.items():
            what = "is avoided" if able.avoids else f"is not avoided, for site {site} is not told to"
            say(f"warning: node {node} {what}: {', '.join(runs[:3])} failed there")
        return tuple(bad) if able.avoids else ()

    def _remember(self, wanted: Submitting, plan: Plan, left: Mapping[str, str]) -> None:
        """Records what the user asked for, so that `advance` goes on with it. Where GPU hours are limited,
        what was left out was not asked for."""
        known = self._workspace.store.history().wanted
        asked = [p.run.name for p in plan.runs if wanted.wants(p.run) and p.status is not Status.DONE]
        if wanted.max_gpu_hours is not None:
            asked = [name for name in asked if name not in left]
        new = [name for name in asked if name not in known]
        if new:
            self._workspace.store.ledger.append(Wanted(runs=new))

    def _as_they_will_be(self, picks: Sequence[PlannedRun], plan: Plan) -> tuple[PlannedRun, ...]:
        """The picks, with digests that tell which upstream results they will really read: a done one may be
        stale, and an active one may have been submitted before the experiment changed."""
        history = self._workspace.store.history()
        digests: dict[str, str] = {}
        picked = {p.run.name for p in picks}
        made: list[PlannedRun] = []
        for planned in plan.runs:
            run, end = planned.run, history.of(planned.run.name).done
            if run.name in picked:
                run = with_upstream(run, digests)
                made.append(msgspec.structs.replace(planned, run=run))
            digests[run.name] = run.digest
            if run.name not in picked and planned.status is Status.ACTIVE:
                digests[run.name] = history.tickets[planned.ticket].digest
            elif run.name not in picked and end is not None and end.product is not None:
                digests[run.name] = end.product.digest
        return tuple(made)

    def _costs(self, plan: Plan) -> dict[str, Estimate]:
        return estimates((p.run for p in plan.runs), self._workspace.store.history())


@dataclass
class _Round:
    """One call of ``submit``: what it decided on, and what has come of it so far."""

    workspace: Workspace
    rendering: Rendering
    code: str  # name of the snapshot
    unchecked: frozenset[str]  # runs whose jobs are not to check their configuration
    avoid: tuple[str, ...]  # nodes
    hours: Mapping[str, float | None]  # run -> estimated GPU hours
    planned: Mapping[str, PlannedRun]  # of the plan that is carried out
    jobs: dict[str, str]  # run -> job in the queue, seen by the plan or submitted since
    outcome: Outcome
    say: Say

    def submit(self, resources: Resources, runs: Sequence[Run]) -> None:
        """Submit one batch: reserve, write, intend, hand over, record."""
        token = new_token()
        with self._freed_if_it_fails(token, len(runs)):
            reserved = self._reserve(token, runs)
            if not reserved:
                return
            folder = self._write(token, reserved)
            self._intend(token, reserved)
        submission = self._submission(token, folder, resources, reserved)
        taken = self._hand_over(submission)
        if taken:
            self._record(submission, reserved, taken)

    def _reserve(self, token: str, runs: Sequence[Run]) -> list[Run]:
        """Return the runs whose reservation is ours; the outcome says who has the others."""
        store, patience_s = self.workspace.store, seconds(self.workspace.site.submit_timeout)
        history = store.history()
        refused = {run.name: why for run in runs if (why := self._why_not(run, history))}
        free = [run for run in runs if run.name not in refused]
        try:
            with store.claims.sheet(token, [run.name for run in free]) as sheet:
                for run in free:
                    past = frozenset(t.name for t in history.of(run.name).tickets if t.ended)
                    why = store.claims.reserve(run.name, sheet, past, store.tickets_of, patience_s)
                    if why:
                        refused[run.name] = why
        except OSError as error:
            raise _disk(self.workspace.results, error) from error
        self._leave_out(refused)
        return [run for run in free if run.name not in refused]

    def _why_not(self, run: Run, history: History) -> str:
        """Return why a run of the plan must not be submitted now; empty if nothing speaks against it."""
        why = self._lacks(run)
        if not why and moved_on(self.planned[run.name], history.of(run.name)):
            return SUBMITTED_MEANWHILE
        return why

    def _lacks(self, run: Run) -> str:
        """Return what would make the run start without its input; empty if nothing does."""
        for up in run.upstream:
            if up in self.outcome.left or up in self.outcome.unconfirmed:
                return f"needs {up}, which was not submitted"
            if self.planned[up].owner:
                return f"needs {up}, which is another member's ({self.planned[up].owner})"
            if up not in self.jobs and self.planned[up].status is not Status.DONE:
                return f"needs {up}, whose job the scheduler does not show yet"
        return ""

    def _write(self, token: str, runs: Sequence[Run]) -> Path:
        folder = self.workspace.store.layout.submission(token)
        scripts = self.rendering.scripts(runs, token, self.code, self.unchecked)
        try:
            folder.out.mkdir(parents=True)
            write_scripts(folder.path, scripts)
        except OSError as error:
            raise _disk(folder.path, error) from error
        return folder.path

    def _intend(self, token: str, runs: Sequence[Run]) -> None:
        me = myself()
        self.workspace.store.ledger.append(
            Intent(
                token=token,
                site=self.workspace.site.name,
                scheduler=self.workspace.site.scheduler,
                runs=[r.name for r in runs],
                digests=[r.digest for r in runs],
                code=self.code,
                version=VERSION,
                host=me.host,
                pid=me.pid,
                start=me.start,
                boot=me.boot,
                member=self.workspace.members.me(self.workspace.site.name),
            )
        )

    def _submission(self, token: str, folder: Path, resources: Resources, runs: Sequence[Run]) -> Submission:
        return Submission(
            token=token,
            name=job_name(runs),
            folder=str(folder),
            resources=resources,
            avoid=self.avoid,
            elements=tuple(
                Element(
                    index=i, run=r.name, after=tuple(self.jobs[up] for up in r.upstream if up in self.jobs)
                )
                for i, r in enumerate(runs)
            ),
        )

    def _hand_over(self, submission: Submission) -> Mapping[int, str]:
        """Return index -> job; empty if it was not taken, or nobody knows: then the outcome says which."""
        runs = [element.run for element in submission.elements]
        try:
            return self.workspace.scheduler(self.workspace.site.name).submit(submission)
        except SubmitUnknownError as error:
            unknown = {**self.outcome.unconfirmed, **dict.fromkeys(runs, str(error))}
            self.outcome = msgspec.structs.replace(self.outcome, unconfirmed=unknown)
        except DependencyGoneError as error:
            self._refused(submission.token, len(runs), error)
            self._leave_out(dict.fromkeys(runs, f"{error}; its evidence decides"))
        except SchedulerError as error:
            self._refused(submission.token, len(runs), error)
            if not isinstance(error, RefusedError):
                raise
            self._leave_out(dict.fromkeys(runs, str(error)))
        return {}

    def _record(self, submission: Submission, runs: Sequence[Run], taken: Mapping[int, str]) -> None:
        self.workspace.store.ledger.append(
            Submitted(token=submission.token, jobs={str(i): job for i, job in taken.items()})
        )
        done = {run.name: taken[i] for i, run in enumerate(runs)}
        self.jobs.update(done)
        self.outcome = msgspec.structs.replace(
            self.outcome,
            submitted={**self.outcome.submitted, **done},
            gpu_hours=self.outcome.gpu_hours + sum(self.hours.get(name) or 0.0 for name in done),
        )
        self.say(f"submitted {len(done)} {'run' if len(done) == 1 else 'runs'} as {submission.name}")

    def _refused(self, token: str, count: int, error: SchedulerError) -> None:
        """The scheduler certainly did not take it: its tickets are void, so that the runs are free again.
        On a full disk this is left to the next command, which does not find the token and voids them."""
        tickets = [ticket_of(token, i) for i in range(count)]
        with contextlib.suppress(OSError, StateError):
            voided = [t for t in tickets if self.workspace.store.claims.void(t)]
            self.workspace.store.ledger.append(Voided(tickets=voided, why=str(error)[:500]))

    @contextlib.contextmanager
    def _freed_if_it_fails(self, token: str, count: int) -> Iterator[None]:
        """What was reserved is given back if nothing was handed over: nobody has to wait for our end to take
        these runs; on a full disk they do."""
        try:
            yield
        except DdqjobsError:
            with contextlib.suppress(OSError):
                for index in range(count):
                    self.workspace.store.claims.void(ticket_of(token, index))
            raise

    def _leave_out(self, refused: Mapping[str, str]) -> None:
        self.outcome = msgspec.structs.replace(
            self.outcome,
            left={**self.outcome.left, **refused},
            refused={**self.outcome.refused, **refused},
        )


def moved_on(planned: PlannedRun, story: RunHistory) -> bool:
    """Whether a run was submitted or adopted since it was planned: that plan is out of date."""
    ticket = story.done.ticket if story.done is not None else ""
    return len(story.tickets) != planned.submissions or (
        ticket != (planned.ticket if planned.status is Status.DONE else "")
    )


def write_scripts(folder: Path, scripts: Scripts) -> None:
    """Writes a submission's files below an existing folder."""
    files = SubmissionFolder(folder)
    files.manifest.write_text(scripts.manifest)
    if scripts.secrets:
        replace(files.secrets, scripts.secrets.encode(), 0o600)
    if scripts.locks:
        files.locks.write_text(scripts.locks)
    if scripts.elements:
        files.elements.write_text(scripts.elements)
    files.script.write_text(scripts.job)
    mode = files.script.stat().st_mode
    files.script.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may start it


def _disk(path: Path, error: OSError) -> DdqjobsError:
    return StateError(
        f"{path}: {error.strerror or error}; what was submitted before is recorded, nothing else was: "
        f"{mend(error)}, then run the same command again"
    )
