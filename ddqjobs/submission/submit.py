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
import getpass
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import field

from ddqjobs.base.errors import DdqjobsError, EnvironmentNotReadyError, SchedulerError, StateError, mend
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.process import myself
from ddqjobs.base.units import seconds
from ddqjobs.data.weights import torch_home
from ddqjobs.environments.on_site import Stacks
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
from ddqjobs.submission.batch import batches
from ddqjobs.submission.script import Context, Renderer, Scripts, directives, job_name, option_flags
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
    """Renders and submits runs of one workspace."""

    def __init__(self, workspace: Workspace, stacks: Stacks) -> None:
        self._workspace = workspace
        self._stacks = stacks
        self._hours: dict[str, float | None] = {}
        self._avoid: tuple[str, ...] = ()
        self._renderer = Renderer([root / "templates" for root in workspace.catalog.files.roots])
        self._planned: dict[str, PlannedRun] = {}  # of the plan that is carried out

    def dry_run(self, wanted: Submitting, plan: Plan) -> tuple[list[Rendered], dict[str, str]]:
        """The scripts that `submit` would submit on an otherwise empty site; writes nothing."""
        able = capabilities(self._workspace.site)
        picks, left = pick(plan, wanted, graph=True, costs=self._costs(plan))
        code = "snapshot-made-at-submission"
        out: list[Rendered] = []
        for _, runs in batches(picks, self._workspace.site, able):
            token = f"dry-run-{len(out) + 1:03d}"
            scripts = self._renderer.render(runs, self._workspace.site, self._context(token, code))
            out.append(Rendered(name=job_name(runs), runs=tuple(r.name for r in runs), scripts=scripts))
        return out, left

    def submit(self, wanted: Submitting, plan: Plan, say: Say = lambda _: None) -> Outcome:
        """Submits. Raises EnvironmentNotReadyError before anything is submitted; SchedulerError when the
        scheduler refuses: what was submitted until then is recorded and stays."""
        workspace = self._workspace
        able = workspace.scheduler(workspace.site.name).capabilities
        costs = self._costs(plan)
        self._hours = {name: cost.gpu_hours for name, cost in costs.items()}
        picks, left = pick(plan, wanted, graph=able.dependencies, costs=costs)
        limit = workspace.site.limits.jobs_in_queue
        picks, left = within_queue(picks, left, limit, workspace.room() if picks else None)
        self._require_environments([p.run for p in picks])
        self._remember(wanted, plan, left)
        if not picks:
            return Outcome(left=left)
        try:
            code = snapshot(workspace.store.layout.code, workspace.catalog.files, workspace.loaded.path)
        except OSError as error:
            raise _disk(workspace.results, error) from error
        outcome = Outcome(left=left)
        self._avoid = self._bad_nodes(able, say)
        self._planned = {p.run.name: p for p in plan.runs}
        # A dependency only onto a job that was seen a moment ago: nobody knows what else would mean.
        jobs = {p.run.name: p.job for p in plan.runs if p.job and p.state in IN_QUEUE}
        for resources, runs in batches(self._as_they_will_be(picks, plan), workspace.site, able, jobs):
            outcome = self._submit_batch(resources, runs, code, jobs, outcome, say)
        return outcome

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

    def shell(self, run: Run, typed: str) -> str:
        """A script that enters a run's environment with the code as it is now. Raises
        EnvironmentNotReadyError."""
        self._require_environments([run])
        workspace = self._workspace
        workspace.store.ledger.begin()
        try:
            code = snapshot(workspace.store.layout.code, workspace.catalog.files, workspace.loaded.path)
        except OSError as error:
            raise _disk(workspace.results, error) from error
        return self._renderer.shell(run, workspace.site, self._context("shell", code), typed)

    def directives(self, resources: Resources, token: str, name: str = "ddqjobs.doctor") -> list[str]:
        """The options of a job's script. Raises InputError for what must not stand in a directive line."""
        return directives(self._workspace.site, resources, name, 1, self._context(token, ""))

    def node_context(self, token: str) -> Context:
        """Return what the script of a node job is rendered with (:mod:`ddqjobs.submission.node_job`)."""
        return self._context(token, "")

    def doctor_script(
        self, context: Context, resources: Resources, environments: Sequence[str], paths: Sequence[str]
    ) -> str:
        """Return the script of a node job that looks around."""
        return self._renderer.doctor(self._workspace.site, context, resources, environments, paths)

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

    def _as_they_will_be(self, picks: Sequence[PlannedRun], plan: Plan) -> list[PlannedRun]:
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
        return made

    def _costs(self, plan: Plan) -> dict[str, Estimate]:
        return estimates((p.run for p in plan.runs), self._workspace.store.history())

    def _submit_batch(
        self,
        resources: Resources,
        runs: Sequence[Run],
        code: str,
        jobs: dict[str, str],
        outcome: Outcome,
        say: Say,
    ) -> Outcome:
        token = new_token()
        with self._freed_if_it_fails(token, len(runs)):
            reserved, refused = self._reserve(token, runs, jobs, outcome)
            outcome = _without(outcome, refused)
            if not reserved:
                return outcome
            folder = self._write(token, reserved, code)
            self._intend(token, reserved)
        submission = self._submission(token, folder, resources, reserved, jobs)
        taken, outcome = self._hand_over(submission, outcome)
        if not taken:
            return outcome
        self._workspace.store.ledger.append(
            Submitted(token=token, jobs={str(i): job for i, job in taken.items()})
        )
        done = {run.name: taken[i] for i, run in enumerate(reserved)}
        jobs.update(done)
        hours = outcome.gpu_hours + sum(self._hours.get(name) or 0.0 for name in done)
        say(f"submitted {len(done)} {'run' if len(done) == 1 else 'runs'} as {submission.name}")
        return msgspec.structs.replace(outcome, submitted={**outcome.submitted, **done}, gpu_hours=hours)

    @contextlib.contextmanager
    def _freed_if_it_fails(self, token: str, count: int) -> Iterator[None]:
        """What was reserved is given back if nothing was handed over: nobody has to wait for our end to take
        these runs; on a full disk they do."""
        try:
            yield
        except DdqjobsError:
            with contextlib.suppress(OSError):
                for index in range(count):
                    self._workspace.store.claims.void(ticket_of(token, index))
            raise

    def _submission(
        self, token: str, folder: Path, resources: Resources, runs: Sequence[Run], jobs: Mapping[str, str]
    ) -> Submission:
        return Submission(
            token=token,
            name=job_name(runs),
            folder=str(folder),
            resources=resources,
            avoid=self._avoid,
            elements=tuple(
                Element(index=i, run=r.name, after=tuple(jobs[up] for up in r.upstream if up in jobs))
                for i, r in enumerate(runs)
            ),
        )

    def _hand_over(self, submission: Submission, outcome: Outcome) -> tuple[Mapping[int, str], Outcome]:
        """(index -> job; empty if it was not taken, or nobody knows, and then the outcome says which)."""
        runs = [element.run for element in submission.elements]
        try:
            return self._workspace.scheduler(self._workspace.site.name).submit(submission), outcome
        except SubmitUnknownError as error:
            unknown = {**outcome.unconfirmed, **dict.fromkeys(runs, str(error))}
            return {}, msgspec.structs.replace(outcome, unconfirmed=unknown)
        except DependencyGoneError as error:
            self._refused(submission.token, len(runs), error)
            return {}, _without(outcome, dict.fromkeys(runs, f"{error}; its evidence decides"))
        except SchedulerError as error:
            self._refused(submission.token, len(runs), error)
            if not isinstance(error, RefusedError):
                raise
            return {}, _without(outcome, dict.fromkeys(runs, str(error)))

    def _intend(self, token: str, runs: Sequence[Run]) -> None:
        me = myself()
        self._workspace.store.ledger.append(
            Intent(
                token=token,
                site=self._workspace.site.name,
                scheduler=self._workspace.site.scheduler,
                runs=[r.name for r in runs],
                digests=[r.digest for r in runs],
                host=me.host,
                pid=me.pid,
                start=me.start,
                boot=me.boot,
            )
        )

    def _refused(self, token: str, count: int, error: SchedulerError) -> None:
        """The scheduler certainly did not take it: its tickets are void, so that the runs are free again.
        On a full disk this is left to the next command, which does not find the token and voids them."""
        tickets = [ticket_of(token, i) for i in range(count)]
        with contextlib.suppress(OSError, StateError):
            voided = [t for t in tickets if self._workspace.store.claims.void(t)]
            self._workspace.store.ledger.append(Voided(tickets=voided, why=str(error)[:500]))

    def _reserve(
        self, token: str, runs: Sequence[Run], jobs: Mapping[str, str], outcome: Outcome
    ) -> tuple[list[Run], dict[str, str]]:
        """(runs whose reservation is ours, run -> why another one has it)."""
        history, patience = self._workspace.store.history(), seconds(self._workspace.site.submit_timeout)
        refused = {run.name: why for run in runs if (why := self._why_not(run, history, jobs, outcome))}
        free = [run for run in runs if run.name not in refused]
        claims, tickets_of = self._workspace.store.claims, self._workspace.store.tickets_of
        try:
            with claims.sheet(token, [run.name for run in free]) as sheet:
                for run in free:
                    past = frozenset(t.name for t in history.of(run.name).tickets if t.ended)
                    why = claims.reserve(run.name, sheet, past, tickets_of, patience)
                    if why:
                        refused[run.name] = why
        except OSError as error:
            raise _disk(self._workspace.results, error) from error
        return [run for run in free if run.name not in refused], refused

    def _why_not(self, run: Run, history: History, jobs: Mapping[str, str], outcome: Outcome) -> str:
        """Why a run of the plan must not be submitted now; empty if nothing speaks against it."""
        why = self._lacks(run, jobs, outcome)
        if not why and moved_on(self._planned[run.name], history.of(run.name)):
            return SUBMITTED_MEANWHILE
        return why

    def _lacks(self, run: Run, jobs: Mapping[str, str], outcome: Outcome) -> str:
        """What would make the run start without its input; empty if nothing does."""
        for up in run.upstream:
            if up in outcome.left or up in outcome.unconfirmed:
                return f"needs {up}, which was not submitted"
            if up not in jobs and self._planned[up].status is not Status.DONE:
                return f"needs {up}, whose job the scheduler does not show yet"
        return ""

    def _write(self, token: str, runs: Sequence[Run], code: str) -> Path:
        folder = self._workspace.store.layout.submission(token)
        scripts = self._renderer.render(runs, self._workspace.site, self._context(token, code))
        try:
            folder.out.mkdir(parents=True)
            write_scripts(folder.path, scripts)
        except OSError as error:
            raise _disk(folder.path, error) from error
        return folder.path

    def _context(self, token: str, code: str) -> Context:
        workspace = self._workspace
        names = {code.environment for code in workspace.loaded.experiment.codes.values() if code.environment}
        return Context(
            results=str(workspace.results),
            project=str(workspace.catalog.project),
            code=code,
            token=token,
            user=user(),
            pythons={name: str(self._stacks.python(name)) for name in names},
            activate=dict(workspace.site.activate),
            variables={name: self._stacks.variables(name) for name in names},
            modules={
                name: self._stacks.modules(name) for name in names if name not in workspace.site.activate
            },
            option_flags=option_flags(workspace.loaded.experiment.codes),
            weights=torch_home(workspace.loaded.experiment, workspace.site),
            trees=dict(workspace.loaded.trees),
        )

    def _require_environments(self, runs: Sequence[Run]) -> None:
        names = dict.fromkeys(r.environment for r in runs if r.environment)
        ours = (name for name in names if name not in self._workspace.site.activate)
        problems = [problem for name in ours if (problem := self._stacks.problem(name))]
        if problems:
            raise EnvironmentNotReadyError("\n".join(problems))


def moved_on(planned: PlannedRun, story: RunHistory) -> bool:
    """Whether a run was submitted or adopted since it was planned: that plan is out of date."""
    ticket = story.done.ticket if story.done is not None else ""
    return len(story.tickets) != planned.submissions or (
        ticket != (planned.ticket if planned.status is Status.DONE else "")
    )


def _without(outcome: Outcome, refused: Mapping[str, str]) -> Outcome:
    return msgspec.structs.replace(
        outcome, left={**outcome.left, **refused}, refused={**outcome.refused, **refused}
    )


def write_scripts(folder: Path, scripts: Scripts) -> None:
    """Writes a submission's files below an existing folder."""
    files = SubmissionFolder(folder)
    files.manifest.write_text(scripts.manifest)
    if scripts.elements:
        files.elements.write_text(scripts.elements)
    files.script.write_text(scripts.job)
    mode = files.script.stat().st_mode
    files.script.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may start it


def new_token() -> str:
    """Unique for ever, readable, and sorts by time: ``20261122-143015-1f2e3d4c``."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def user() -> str:
    """The user's name; the number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _disk(path: Path, error: OSError) -> DdqjobsError:
    return StateError(
        f"{path}: {error.strerror or error}; what was submitted before is recorded, nothing else was: "
        f"{mend(error)}, then run the same command again"
    )
