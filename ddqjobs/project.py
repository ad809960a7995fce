"""The front door: what the command line does, and what three lines of Python can.

>>> project = open_project(".")
>>> plan = project.plan("mini")
>>> table = project.results("mini")
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ddqjobs.base.errors import InputError, MissingError, SchedulerError, StateError, nearest
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.base.text import clean
from ddqjobs.base.units import seconds
from ddqjobs.planning.catalog import Catalog, Loaded
from ddqjobs.planning.filters import Filters, select, with_upstream
from ddqjobs.spec.model import (
    Attempt,
    JobState,
    Plan,
    PlannedRun,
    Product,
    Progress,
    Resources,
    Status,
    TaskKind,
)
from ddqjobs.store import evidence
from ddqjobs.store.layout import has_results
from ddqjobs.store.ledger import Cancelled, Retried
from ddqjobs.submission.workspace import Workspace

# What only some commands need is imported where it is needed: looking at a plan must stay quick.
if TYPE_CHECKING:
    import pandas as pd

    from ddqjobs.base.findings import Line
    from ddqjobs.data.data import Data
    from ddqjobs.doctor.examine import Options as DoctorOptions
    from ddqjobs.environments.on_site import Stacks
    from ddqjobs.report.cache import ReportFiles
    from ddqjobs.report.document import Report
    from ddqjobs.schedulers.base import Scheduler
    from ddqjobs.spec.site import Site
    from ddqjobs.store.cleaning import Cleaning
    from ddqjobs.submission.shell import Shell
    from ddqjobs.submission.submit import Outcome, Rendered, Submitter, Submitting

Say = Callable[[str], None]
_CALLS_PER_LOOK = 4  # a look plans (squeue, sacct) and submits (squeue, sbatch)
_IDLE_LOOKS = 10  # how often one looks again at runs that were refused to us
_TRAINS = (TaskKind.TRAIN, TaskKind.PREPARE, TaskKind.SMOKE)


class SubmitOptions(Frozen, frozen=True, kw_only=True):
    """How `submit` chooses, beyond the filters."""

    optional: bool = False  # optional runs too
    upstream: bool = False  # and everything that the chosen runs need
    stale: bool = False  # and done runs that are stale
    max_gpu_hours: float | None = None


class RunState(Frozen, frozen=True, kw_only=True):
    """A line of `status`."""

    planned: PlannedRun
    progress: Progress | None = None


def open_project(path: str | os.PathLike[str] | None = None) -> Project:
    """The project that ``path`` (default: here) lies in: the nearest folder upwards with an ``experiments``
    or a ``results`` folder, else ``path`` itself, which then offers what ships with ddqjobs."""
    start = Path(path or os.environ.get("DDQJOBS_PROJECT") or ".").resolve()
    try:
        str(start).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{start}: the folder's name is not UTF-8 text; choose another folder") from error
    if not start.is_dir():
        raise MissingError(f"{start}: no such folder; make a project with `ddqjobs init {start}`")
    for folder in (start, *start.parents):
        if (folder / "experiments").is_dir() or has_results(folder):
            return Project(folder)
    return Project(start)


class Project:
    """A folder with experiments and results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = Catalog(root)
        self._loaded: dict[str, Loaded] = {}
        self._workspaces: dict[tuple[str, str], Workspace] = {}

    def load(self, experiment: str | None = None) -> Loaded:
        """An experiment by name or file; None: the project's only one. Raises InputError, MissingError."""
        key = experiment or ""
        if key not in self._loaded:
            self._loaded[key] = self.catalog.load(experiment)
        return self._loaded[key]

    def workspace(self, experiment: str | None = None, site: str | None = None) -> Workspace:
        """An experiment on a site (default: $DDQJOBS_SITE, else ``local``). Where the site has a umask, it
        becomes this process's."""
        loaded = self.load(experiment)
        key = (loaded.experiment.name, _site_name(site))
        if key not in self._workspaces:
            declared = self.site(site)
            results = expanded(self.root, declared.results or "results") / loaded.experiment.name
            self._workspaces[key] = Workspace(self.catalog, loaded, declared, results)
        if umask := self._workspaces[key].site.umask:
            os.umask(int(umask, 8))  # of this process: whatever is written from here on is the group's too
        return self._workspaces[key]

    def site(self, name: str | None = None) -> Site:
        """A site (default: $DDQJOBS_SITE, else ``local``). Raises InputError, MissingError."""
        return self.catalog.site(_site_name(name))

    # -- looking ----------------------------------------------------------------------------------------

    def plan(self, experiment: str | None = None, *, site: str | None = None, refresh: bool = True) -> Plan:
        """Every run with its status and the reason."""
        return self.workspace(experiment, site).plan(refresh=refresh)

    def status(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[RunState]:
        """Runs with the progress of those that are running, from the ends of their logs."""
        workspace = self._of(plan, site)
        return [RunState(planned=p, progress=self.progress(workspace, p)) for p in runs]

    @staticmethod
    def progress(workspace: Workspace, planned: PlannedRun) -> Progress | None:
        """How far a running training is; None for anything else."""
        if planned.state is not JobState.RUNNING or planned.run.kind not in _TRAINS:
            return None
        from ddqjobs.detect.job import logs

        folder = workspace.layout.run(planned.run.name)
        numbers = evidence.numbers(folder.path)
        if not numbers:
            return None
        return Progress(**logs.progress(folder.attempt(numbers[-1]).work_dir)._asdict())

    def products(self, experiment: str | None = None) -> Mapping[str, Product]:
        """Run -> product of every done run."""
        return self.workspace(experiment).products()

    def attempts(self, plan: Plan, run: str, *, site: str | None = None) -> list[Attempt]:
        """All attempts of a run."""
        return evidence.attempts(self._of(plan, site).run_dir(run))

    def log(self, plan: Plan, run: str, attempt: int | None = None, *, site: str | None = None) -> Path:
        """The log file of a run's attempt (default: the newest). Raises MissingError."""
        workspace = self._of(plan, site)
        planned = one_run(plan, run)
        numbers = evidence.numbers(workspace.run_dir(run))
        if not numbers:
            raise MissingError(
                f"{run} has not started on any node, so it has no log; "
                f"it is {planned.status.value}: {planned.reason}"
            )
        number = attempt or numbers[-1]
        if number not in numbers:
            raise MissingError(f"{run} has no attempt {number}; there are: {', '.join(map(str, numbers))}")
        return workspace.layout.run(run).attempt(number).log

    def results(self, experiment: str | None = None) -> pd.DataFrame:
        """One row per run as a pandas DataFrame: AP in points, status, seed, digest, ..."""
        from ddqjobs.report import results

        workspace = self.workspace(experiment)
        plan = workspace.plan()
        return results.frame(workspace.loaded.experiment, plan, workspace.products())

    def report(
        self,
        experiment: str | None = None,
        filters: Filters | None = None,
        *,
        site: str | None = None,
        metrics: Sequence[str] = ("AP",),
        recompute: bool = False,
        at: float | None = None,
        say: Say = lambda _: None,
    ) -> Report:
        """The report as a document; :mod:`ddqjobs.report.formats` renders it. With ``recompute`` AP is
        computed once more from the predictions of the done tests that are shown; ``at`` (seconds since the
        epoch) looks back at what was known then."""
        from ddqjobs.report import document

        workspace = self.workspace(experiment, site)
        plan, products = workspace.then(at) if at is not None else (workspace.plan(), workspace.products())
        only = {p.run.name for p in select(plan, filters)} if filters and filters.any else None
        running = {p.run.name: made for p in plan.runs if (made := self.progress(workspace, p)) is not None}
        files = self.report_files(workspace)
        shown = [p for p in plan.runs if only is None or p.run.name in only]
        return document.build(
            workspace.loaded.experiment,
            plan,
            products,
            progress=running,
            recomputed=files.recompute(shown, products, say) if recompute else files.recomputed(products),
            curves=files.curves(document.compared(workspace.loaded.experiment, plan), products, say),
            metrics=metrics,
            only=only,
        )

    def report_page(
        self,
        made: Report,
        *,
        site: str | None = None,
        price: float | None = None,
        say: Say = lambda _: None,
    ) -> str:
        """A report as one HTML page, with everything that its numbers stand on. ``price`` of a GPU hour."""
        from ddqjobs.report.page import facts, render

        workspace = self.workspace(made.experiment, site)
        plan, products = workspace.plan(refresh=False), workspace.products()
        curves = self.report_files(workspace).curves(plan, products, say)
        behind = facts.read(workspace, self.stacks(workspace), plan, products, (row.run for row in made.runs))
        experiment = workspace.loaded.experiment
        return render.page(experiment, plan, made, behind, curves, products, price=price)

    def export(self, made: Report, kind: str, folder: Path, *, site: str | None = None) -> int:
        """The done runs of a report for another tool (:data:`ddqjobs.report.exports.KINDS`); returns
        how many."""
        from ddqjobs.report import exports

        workspace = self.workspace(made.experiment, site)
        plan, products = workspace.plan(refresh=False), workspace.products()
        runs = exports.collect(plan, products, workspace.layout.runs, (row.run for row in made.runs))
        return exports.export(kind, folder, made.experiment, runs)

    def report_files(self, workspace: Workspace) -> ReportFiles:
        """What reports read beside the ledger."""
        from ddqjobs.report.cache import ReportFiles

        return ReportFiles(workspace.results, self.stacks(workspace))

    def data(
        self, experiment: str | None = None, filters: Filters | None = None, *, site: str | None = None
    ) -> Data:
        """Data sets and weights that the experiment declares, or those that the filtered runs need."""
        from ddqjobs.data.data import Data

        workspace = self.workspace(experiment, site)
        runs = None
        if filters and filters.any:
            runs = [p.run for p in select(workspace.plan(refresh=False), filters)]
        return Data(workspace.loaded.experiment, self.root, workspace.site, runs)

    # -- doing ------------------------------------------------------------------------------------------

    def submitting(self, plan: Plan, filters: Filters, options: SubmitOptions) -> Submitting:
        """What filters and options mean for this plan. Raises MissingError if a filter matches nothing."""
        from ddqjobs.submission.submit import Submitting

        runs = select(plan, filters)
        chosen = with_upstream(plan, runs) if options.upstream else frozenset(p.run.name for p in runs)
        named = chosen if filters.runs else frozenset[str]()
        return Submitting(
            chosen=chosen,
            named=named,
            optional=options.optional,
            stale=options.stale,
            max_gpu_hours=options.max_gpu_hours,
        )

    def submit(
        self,
        experiment: str | None = None,
        filters: Filters | None = None,
        options: SubmitOptions | None = None,
        *,
        site: str | None = None,
        say: Say = lambda _: None,
    ) -> Outcome:
        """Submits what is eligible, with everything behind it where the scheduler knows dependencies."""
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        wanted = self.submitting(plan, filters or Filters(), options or SubmitOptions())
        return self._submitter(workspace).submit(wanted, plan, say)

    def dry_run(
        self,
        experiment: str | None = None,
        filters: Filters | None = None,
        options: SubmitOptions | None = None,
        *,
        site: str | None = None,
    ) -> tuple[list[Rendered], dict[str, str]]:
        """The scripts that would be submitted, and what would be left out and why. Writes nothing."""
        workspace = self.workspace(experiment, site)
        plan = workspace.plan(refresh=False)
        wanted = self.submitting(plan, filters or Filters(), options or SubmitOptions())
        return self._submitter(workspace).dry_run(wanted, plan)

    def stacks(self, workspace: Workspace) -> Stacks:
        """The environments as they are on a site."""
        from ddqjobs.environments.on_site import Stacks

        return Stacks(self.catalog.files, workspace.site)

    def _submitter(self, workspace: Workspace) -> Submitter:
        from ddqjobs.submission.submit import Submitter

        return Submitter(workspace, self.stacks(workspace))

    def using(self, environments: Sequence[str], site: str) -> dict[str, list[str]]:
        """Environment -> runs, queued or running on the site, that use it: of all experiments with results.
        Raises SchedulerError where that cannot be asked."""
        found: dict[str, list[str]] = {}
        for name in self.catalog.experiments():
            workspace = self.workspace(name, site)
            if not workspace.layout.ledger.is_dir():
                continue
            active = [p.run for p in workspace.plan().runs if p.status is Status.ACTIVE]
            for run in active:
                if run.environment in environments:
                    found.setdefault(run.environment, []).append(f"{name}: {run.name}")
        return found

    def on_node(
        self, site: Site, base_dir: Path, argv: Sequence[str], asked: tuple[int, int, int], say: Say
    ) -> int:
        """Runs a command of ours as a job of a site and hands on its output; its exit code. ``asked``: GPUs,
        CPUs, seconds. Raises SchedulerError, InputError."""
        from ddqjobs.schedulers.registry import make_scheduler
        from ddqjobs.submission import environment_node
        from ddqjobs.submission.script import Renderer
        from ddqjobs.submission.submit import new_token, user

        gpus, cpus, time_s = asked
        job = environment_node.NodeJob(
            argv=[*argv, "--project", str(self.root.absolute())],
            title=" ".join(argv[2:]),
            resources=Resources(gpus=gpus, cpus=cpus, time_s=time_s),
            project=self.root.absolute(),
            folder=base_dir.absolute() / ".jobs",
            token=new_token(),
            user=user(),
        )
        renderer = Renderer([root / "templates" for root in self.catalog.files.roots])
        return environment_node.run(make_scheduler(site, self.root), site, renderer, job, say)

    def with_strays(self, plan: Plan, *, site: str | None = None) -> Plan:
        """A plan with the active runs that its experiment no longer has."""
        return msgspec.structs.replace(plan, runs=(*plan.runs, *self._of(plan, site).strays()))

    def cancel(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[str]:
        """Cancels the active ones among runs; returns their names. Raises SchedulerError."""
        workspace = self._of(plan, site)
        active = [p for p in runs if p.status is Status.ACTIVE]
        if not active:
            return []
        tickets = workspace.history().tickets
        workspace.ledger.append(Cancelled(tickets=[p.ticket for p in active]))
        by_site: dict[str, list[str]] = {}
        for planned in active:
            if planned.job:
                by_site.setdefault(tickets[planned.ticket].site, []).append(planned.job)
            else:  # nobody knows yet whether the scheduler has it: it must not start in any case
                workspace.call_off(tickets[planned.ticket])
        for name, jobs in by_site.items():
            workspace.scheduler(name).cancel(jobs)
        for planned in active:  # the scheduler answered, and does not know the job: nothing else would end it
            if planned.job and planned.state is JobState.UNKNOWN:
                workspace.write_off(tickets[planned.ticket])
        return [p.run.name for p in active]

    def hold(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Plan:
        """Keeps the queued ones among runs from starting; returns these runs as they are afterwards. Raises
        SchedulerError."""
        return self._ask_of(plan, runs, JobState.QUEUED, site, lambda scheduler, jobs: scheduler.hold(jobs))

    def release(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Plan:
        """Lets the held ones among runs start again; returns these runs as they are afterwards. Raises
        SchedulerError."""
        return self._ask_of(plan, runs, JobState.HELD, site, lambda scheduler, jobs: scheduler.release(jobs))

    def _ask_of(
        self,
        plan: Plan,
        runs: Sequence[PlannedRun],
        state: JobState,
        site: str | None,
        ask: Callable[[Scheduler, Sequence[str]], None],
    ) -> Plan:
        """Asks something of the jobs in that state, site by site, and looks at them again."""
        workspace = self._of(plan, site)
        asked = [p for p in runs if p.status is Status.ACTIVE and p.state is state and p.job]
        tickets = workspace.history().tickets
        by_site: dict[str, list[str]] = {}
        for planned in asked:
            by_site.setdefault(tickets[planned.ticket].site, []).append(planned.job)
        for name, jobs in by_site.items():
            ask(workspace.scheduler(name), jobs)
        names = {p.run.name for p in runs}
        after = workspace.plan() if asked else plan
        return msgspec.structs.replace(after, runs=tuple(p for p in after.runs if p.run.name in names))

    def retry(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[str]:
        """Makes failed runs eligible again; returns their names."""
        failed = [p.run.name for p in runs if p.status is Status.FAILED or p.failure is not None]
        if failed:
            self._of(plan, site).ledger.append(Retried(runs=failed))
        return failed

    def shell(
        self,
        plan: Plan,
        run: str,
        *,
        site: str | None = None,
        typed: str = "",
        time_s: int | None = None,
        gpus: int | None = None,
    ) -> Shell:
        """What enters a run's environment where the site's jobs run; ``typed`` is shell text to run there
        instead of a shell. Raises MissingError, EnvironmentNotReadyError, StateError; InputError for what an
        allocation lasts and has (an hour, the run's GPUs) where the site has no allocations."""
        from ddqjobs.submission import shell

        workspace = self._of(plan, site)
        asked = shell.Asked(run=one_run(plan, run).run, typed=typed, time_s=time_s, gpus=gpus)
        return shell.prepare(workspace, self.stacks(workspace), asked)

    def examine(
        self,
        plan: Plan,
        runs: Sequence[PlannedRun],
        options: DoctorOptions | None = None,
        *,
        site: str | None = None,
        say: Callable[[Line], None] = lambda _: None,
    ) -> list[Line]:
        """What would keep these runs from starting or ending well on their site, line by line."""
        from ddqjobs.doctor import examine as doctor

        workspace = self._of(plan, site)
        return doctor.examine(workspace, self.stacks(workspace), runs, options or doctor.Options(), say)

    def cleaning(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Cleaning:
        """What `clean` would remove of these runs' checkpoints and what stays, with reasons."""
        from ddqjobs.store import cleaning

        workspace = self._of(plan, site)
        return cleaning.look(workspace.results, self.root, workspace.loaded.experiment, plan, runs)

    def adopt(self, plan: Plan, run: str, path: Path, *, site: str | None = None) -> Product:
        """Takes in a result that exists already: a work_dir or a checkpoint."""
        from ddqjobs.submission import adoption

        return adoption.adopt(self._of(plan, site), one_run(plan, run), path)

    def advance(
        self,
        experiment: str | None = None,
        filters: Filters | None = None,
        *,
        site: str | None = None,
        say: Say = lambda _: None,
    ) -> Outcome:
        """Collects, submits again what may be retried, submits what became eligible. Only runs that somebody
        asked for are touched: cron must not start what nobody wanted."""
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        passing = select(plan, filters or Filters())
        chosen = frozenset(p.run.name for p in passing) & workspace.history().wanted
        from ddqjobs.submission.submit import Submitting

        wanted = Submitting(chosen=chosen, named=chosen)
        return self._submitter(workspace).submit(wanted, plan, say)

    def wait(
        self,
        experiment: str | None,
        filters: Filters,
        options: SubmitOptions,
        *,
        site: str | None = None,
        say: Say = lambda _: None,
        show: Callable[[Plan, Sequence[PlannedRun]], None] = lambda _plan, _runs: None,
        pause_s: float = 0.5,
    ) -> Plan:
        """Submits until nothing chosen is active or submittable any more; returns the plan of these runs.

        The filters choose once, at the beginning; the budget of GPU hours is for all that is submitted
        meanwhile. It looks again after ``pause_s``, or as seldom as the site's calls per minute ask for.
        Raises SchedulerError when a scheduler could not be asked for the site's submit_timeout.
        """
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        wanted = self.submitting(plan, filters, options)
        return self._follow(workspace, plan, wanted, say, show, pause_s)

    def try_canaries(
        self,
        experiment: str | None,
        filters: Filters,
        options: SubmitOptions,
        *,
        site: str | None = None,
        say: Say = lambda _: None,
        show: Callable[[Plan, Sequence[PlannedRun]], None] = lambda _plan, _runs: None,
        pause_s: float = 0.5,
    ) -> tuple[PlannedRun, ...]:
        """Runs the canaries of the trainings that `submit` would start, with what they need, unless they are
        done with today's code; returns them as they ended. Raises as ``wait``, and InputError for a code
        without one."""
        from ddqjobs.planning import canary
        from ddqjobs.submission.submit import Submitting

        workspace = self.workspace(experiment, site)
        workspace.trying = True
        try:
            plan = workspace.plan()
            wanted = self.submitting(plan, filters, options)
            chosen = canary.needed(plan, [p.run for p in plan.runs if wanted.wants(p.run)])
            names = frozenset(p.run.name for p in chosen)
            done = {p.run.name for p in plan.runs if p.status is Status.DONE and not p.gone}
            needed = (with_upstream(plan, chosen) - done) | names
            if any(p.status is not Status.DONE or p.stale for p in chosen):
                trying = Submitting(chosen=needed, named=needed, stale=True)
                plan = self._follow(workspace, plan, trying, say, show, pause_s)
            return tuple(p for p in plan.runs if p.run.name in names)
        finally:
            workspace.trying = False

    def _follow(
        self,
        workspace: Workspace,
        plan: Plan,
        wanted: Submitting,
        say: Say,
        show: Callable[[Plan, Sequence[PlannedRun]], None],
        pause_s: float,
    ) -> Plan:
        """Submits what is wanted, again and again; see :meth:`wait`."""
        calls = workspace.site.limits.calls_per_minute
        pause_s = max(pause_s, 60 * _CALLS_PER_LOOK / calls) if calls else pause_s
        submitter, patience = self._submitter(workspace), _Patience(seconds(workspace.site.submit_timeout))
        said: set[str] = set()
        idle = 0
        while True:
            outcome = submitter.submit(wanted, plan, say)
            wanted = _rest(wanted, outcome)
            plan = workspace.plan()
            # An optional run that nobody asked for counts only where it is done anyway.
            there = (p for p in plan.runs if p.run.name in wanted.chosen)
            chosen = [p for p in there if wanted.wants(p.run) or p.status is Status.DONE]
            show(plan, chosen)
            for words in (*workspace.warnings, *(f"{run}: {why}" for run, why in outcome.refused.items())):
                if words not in said:
                    say(f"warning: {words}")
                    said.add(words)
            patience.look(workspace.warnings[workspace.standing :])
            idle = 0 if outcome.submitted or any(p.status is Status.ACTIVE for p in chosen) else idle + 1
            # Another terminal may be about to submit what was refused to us: a few looks more.
            if idle > (_IDLE_LOOKS if outcome.refused else 1):
                return msgspec.structs.replace(plan, runs=tuple(chosen))
            if idle != 1:  # this look may have made something eligible: one more, at once, before it is over
                time.sleep(pause_s)

    def _of(self, plan: Plan, site: str | None) -> Workspace:
        for (name, site_name), workspace in self._workspaces.items():
            if name == plan.experiment and site in (None, site_name):
                return workspace
        return self.workspace(plan.experiment, site)


def _site_name(named: str | None) -> str:
    return named or os.environ.get("DDQJOBS_SITE") or "local"


class _Patience:
    """How long a scheduler may be silent while one waits for it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def look(self, warnings: Sequence[str]) -> None:
        """Raises SchedulerError when there were warnings at every look for longer than the limit."""
        now = time.monotonic()
        self._since = (now if self._since is None else self._since) if warnings else None
        if self._since is not None and now - self._since > self._limit_s:
            raise SchedulerError(f"{warnings[0]}; waited {self._limit_s:.0f} s for it, runs go on without")


def _rest(wanted: Submitting, outcome: Outcome) -> Submitting:
    """What is still wanted after a round: stale runs go round once, the budget is spent once."""
    left = wanted.max_gpu_hours
    if left is not None:
        left = max(0.0, left - outcome.gpu_hours)
    return msgspec.structs.replace(wanted, stale=False, max_gpu_hours=left)


def one_run(plan: Plan, name: str) -> PlannedRun:
    """The run with this name. Raises MissingError with the nearest one."""
    by_name = {p.run.name: p for p in plan.runs}
    if name not in by_name:
        raise MissingError(
            f"experiment {plan.experiment} has no run '{clean(name)}'{nearest(name, by_name)}; "
            f"`ddqjobs plan {plan.experiment}` lists them"
        )
    return by_name[name]


def init(folder: Path) -> list[Path]:
    """Makes a project in ``folder``; what is there already stays as it is. Returns the new files."""
    text = {
        "experiments/my-mini.yaml": MY_EXPERIMENT,
        "results/.gitignore": "*\n!.gitignore\n",
        ".gitignore": ".environments/\n.weights/\n",
        "README.md": PROJECT_README,
    }
    made: list[Path] = []
    try:
        for name in ("experiments", "templates", "envs", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for relative, content in text.items():
            path = folder / relative
            if not path.exists():
                path.write_text(content)
                made.append(path)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {error.strerror}") from error
    return made


MY_EXPERIMENT = """\
# A variant of the miniature experiment: what is not said here is inherited.
# `ddqjobs schema experiment` prints all keys; `ddqjobs plan my-mini` shows what it makes of them.
base: mini
name: my-mini
title: my first experiment
"""

PROJECT_README = """\
# A ddqjobs project

    ddqjobs plan                 # what there is to do, and why
    ddqjobs submit --dry-run     # the scripts, without submitting
    ddqjobs submit --wait        # do it
    ddqjobs report               # the AP table

`experiments/`, `templates/` (sites) and `envs/` override what ships with ddqjobs, file by file.
"""
