"""Submits what the plan says is submittable, in rounds (:mod:`ddqjobs.submission.round`)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from ddqjobs.base import shell_variables
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import seconds
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.bad_nodes import bad_nodes
from ddqjobs.planning.digest import with_upstream
from ddqjobs.planning.estimate import Estimate, estimates
from ddqjobs.schedulers.base import Capabilities, Submission
from ddqjobs.schedulers.registry import backend, capabilities
from ddqjobs.spec.model import IN_QUEUE, JobState, Plan, PlannedRun, Resources, Run, Status
from ddqjobs.store.ledger import Wanted
from ddqjobs.submission import impossible
from ddqjobs.submission.arrays import batches, first_index
from ddqjobs.submission.checking import Checking
from ddqjobs.submission.job_names import job_name
from ddqjobs.submission.rendering import Rendering
from ddqjobs.submission.round import Outcome, Round, Say, disk_error, elements_of, lacks
from ddqjobs.submission.script import Renderer, Scripts
from ddqjobs.submission.select import Submitting, blocked, pick, within_queue
from ddqjobs.submission.snapshot import snapshot
from ddqjobs.submission.workspace import Workspace


class Rendered(Frozen, frozen=True, kw_only=True):
    """A submission that was only rendered."""

    name: str
    runs: tuple[str, ...]
    scripts: Scripts
    script: str  # a path that stands for its script's in the command, whoever writes it
    command: tuple[str, ...] = ()  # that submits it; JOB1 stands for the job of the first submission
    after: tuple[str, ...] = ()  # jobs that must be done before, of which the scheduler is not told


class Submitter:
    """Submits runs of one workspace."""

    def __init__(
        self, workspace: Workspace, environments: Environments, renderer: Renderer | None = None
    ) -> None:
        self._workspace = workspace
        self._rendering = Rendering(workspace, environments, renderer)
        self._checking = Checking(workspace, environments)
        self._kinds = impossible.Kinds(workspace, self._rendering)
        self._told = False  # what of the shell does not reach jobs
        self._absent: set[str] = set()  # what was said of environments that the site enters

    def dry_run(self, wanted: Submitting, plan: Plan) -> tuple[list[Rendered], dict[str, str]]:
        """Return the scripts that `submit` would submit, one round after the other, while the queue has room,
        and what would be left out and why. Write nothing."""
        able = capabilities(self._workspace.site)
        picks, left = pick(plan, wanted, graph=True, costs=self._costs(plan))
        # Nobody was asked just now. A job that was never asked about was taken.
        jobs = _in_queue(plan, (*IN_QUEUE, None))
        by_name = {planned.run.name: planned for planned in plan.runs}
        avoid = self._bad_nodes(able, lambda _: None)
        out: list[Rendered] = []
        picks = self._as_they_will_be(picks, plan)
        for resources, batch in batches(picks, self._workspace.site, able, jobs):
            left |= {run.name: why for run in batch if (why := lacks(run, by_name, jobs, left))}
            runs = [run for run in batch if run.name not in left]
            if runs:
                out.append(self._rendered(len(out) + 1, resources, runs, jobs, avoid))
                array, first = able.arrays and len(runs) > 1, _first_index(runs, jobs, able)
                job = f"JOB{len(out)}"
                jobs.update((run.name, f"{job}_{i}" if array else job) for i, run in enumerate(runs, first))
        return out, left

    def _rendered(
        self,
        number: int,
        resources: Resources,
        runs: Sequence[Run],
        jobs: Mapping[str, str],
        avoid: tuple[str, ...],
    ) -> Rendered:
        site = self._workspace.site
        token, able = f"dry-run-{number:03d}", capabilities(site)
        told, first = able.dependencies, _first_index(runs, jobs, able)
        submission = Submission(
            token=token,
            name=job_name(runs),
            folder=f"SUBMISSION{number}",
            resources=resources,
            avoid=avoid,
            elements=elements_of(runs, jobs if told else {}, first),
        )
        before = () if told else (job for element in elements_of(runs, jobs) for job in element.after)
        return Rendered(
            name=submission.name,
            runs=tuple(run.name for run in runs),
            scripts=self._rendering.scripts(runs, token, "snapshot-made-at-submission", first=first),
            script=str(submission.script),
            command=tuple(backend(site).submit_words(site, submission)),
            after=tuple(dict.fromkeys(before)),
        )

    def submit(self, wanted: Submitting, plan: Plan, say: Say = lambda _: None) -> Outcome:
        """Submits. Raises EnvironmentNotReadyError before anything is submitted; SchedulerError when the
        scheduler refuses: what was submitted until then is recorded and stays."""
        workspace = self._workspace
        able = capabilities(workspace.site)
        costs = self._costs(plan)
        picks, left = pick(plan, wanted, graph=able.dependencies, costs=costs)
        room = workspace.room() if picks else None
        ready, limit = {planned.run.name for planned in picks}, workspace.queue_limit
        picks, left = within_queue(picks, left, limit or 0, room)
        no_room = frozenset(ready.difference(planned.run.name for planned in picks))
        self._rendering.require_environments([planned.run for planned in picks])
        if picks and not self._told and (variables := shell_variables.told(os.environ)):
            say(f"warning: of this shell these do not reach jobs: {variables}")
            self._told = True
        self._say_absent([planned.run for planned in picks], say)
        unchecked = self._check(wanted, plan, picks, say) if picks else frozenset[str]()
        for warning in impossible.said([planned.run for planned in picks], self._kinds, workspace.site):
            say(warning)
        self._remember(wanted, plan, left)
        workspace.store.forget_abandoned(ended=True)
        if not picks:
            asked = workspace.store.history().wanted
            stuck = bool(left) and blocked(plan, wanted, asked)
            return Outcome(left=left, no_room=no_room, queue_limit=limit, blocked=stuck)
        carried_out = Round(
            workspace,
            self._rendering,
            code=self._snapshot(),
            unchecked=unchecked,
            avoid=self._bad_nodes(able, say),
            hours={name: cost.gpu_hours for name, cost in costs.items()},
            planned={planned.run.name: planned for planned in plan.runs},
            # A dependency only onto a job that was seen a moment ago: nobody knows what else would mean.
            jobs=_in_queue(plan, IN_QUEUE),
            outcome=Outcome(left=left, no_room=no_room, queue_limit=limit),
            say=say,
            cautious=workspace.is_limited,
        )
        picks = self._as_they_will_be(picks, plan)
        for resources, runs in batches(picks, workspace.site, able, carried_out.jobs):
            carried_out.submit(resources, runs)
        if carried_out.outcome.full:
            workspace.queue_is_full()
            return msgspec.structs.replace(carried_out.outcome, queue_limit=workspace.queue_limit)
        return carried_out.outcome

    def shell(self, run: Run, typed: str) -> str:
        """A script that enters a run's environment with the code as it is now. Raises
        EnvironmentNotReadyError."""
        self._rendering.require_environments([run])
        self._workspace.store.ledger.begin()
        return self._rendering.shell(run, typed, self._snapshot())

    def _say_absent(self, runs: Sequence[Run], say: Say) -> None:
        for warning in self._rendering.absent_entrances(runs):
            if warning not in self._absent:
                say(f"warning: {warning}")
                self._absent.add(warning)

    def _check(self, wanted: Submitting, plan: Plan, picks: Sequence[PlannedRun], say: Say) -> frozenset[str]:
        """Check the configurations of what is submitted, and of what will be; return the runs whose jobs are
        not to check them. Raise InputError."""
        to_come = (planned for planned in plan.runs if planned.status in (Status.ELIGIBLE, Status.WAITING))
        runs = {
            planned.run.name: planned.run
            for planned in (*picks, *(planned for planned in to_come if wanted.wants(planned.run)))
        }
        self._checking.before(runs.values(), say, waive=not wanted.check, keep=wanted.waivers)
        return self._checking.waived(planned.run for planned in picks)

    def _snapshot(self) -> str:
        """Copy the task code as it is now, unless it is there already; return the copy's name."""
        workspace = self._workspace
        try:
            return snapshot(workspace.store.layout.code, workspace.catalog.files, workspace.loaded.path)
        except OSError as error:
            raise disk_error(workspace.results, error) from error

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
        asked = [
            planned.run.name
            for planned in plan.runs
            if wanted.wants(planned.run) and planned.status is not Status.DONE
        ]
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
        picked = {planned.run.name for planned in picks}
        runs: list[PlannedRun] = []
        for planned in plan.runs:
            run, end = planned.run, history.of(planned.run.name).done
            if run.name in picked:
                run = with_upstream(run, digests)
                runs.append(msgspec.structs.replace(planned, run=run))
            digests[run.name] = run.digest
            if run.name not in picked and planned.status is Status.ACTIVE:
                digests[run.name] = history.tickets[planned.ticket].digest
            elif run.name not in picked and end is not None and end.product is not None:
                digests[run.name] = end.product.digest
        return tuple(runs)

    def _costs(self, plan: Plan) -> dict[str, Estimate]:
        return estimates((planned.run for planned in plan.runs), self._workspace.store.history())


def _in_queue(plan: Plan, states: Collection[JobState | None]) -> dict[str, str]:
    """Return run -> job of this member's runs that are in one of these states."""
    return {
        planned.run.name: planned.job
        for planned in plan.runs
        if planned.job and planned.state in states and not planned.owner
    }


def _first_index(runs: Sequence[Run], jobs: Mapping[str, str], able: Capabilities) -> int:
    """Return the index of a submission's first element; jobs are called as a dry run calls them."""
    return 0 if able.own_dependencies else first_index(runs, jobs)
