"""The front door: what the command line does, and what three lines of Python can.

>>> project = open_project(".")
>>> plan = project.plan("mini")
>>> table = project.results("mini")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ddqjobs.base.errors import InputError, MissingError
from ddqjobs.base.paths import expanded
from ddqjobs.planning.catalog import Catalog, Loaded
from ddqjobs.planning.filters import Filters, one_run, select
from ddqjobs.spec.model import Attempt, Plan, PlannedRun, Product, Resources
from ddqjobs.spec.site import DEFAULT_SITE, Site
from ddqjobs.store import evidence
from ddqjobs.store.layout import project_folder
from ddqjobs.submission import acceptance, actions
from ddqjobs.submission.select import SubmitOptions as SubmitOptions
from ddqjobs.submission.select import Submitting, submitting
from ddqjobs.submission.workspace import RunState, Workspace

# What only some commands need is imported where it is needed: looking at a plan must stay quick.
if TYPE_CHECKING:
    import pandas as pd

    from ddqjobs.base.findings import Line
    from ddqjobs.data.data import Data
    from ddqjobs.doctor.examine import Options as DoctorOptions
    from ddqjobs.doctor.missing import Missing
    from ddqjobs.environments.on_site import Environments
    from ddqjobs.notify.telling import Telling
    from ddqjobs.planning.changes import Change
    from ddqjobs.report.document import Report
    from ddqjobs.report.reports import Reports
    from ddqjobs.store.cleaning import Cleaning
    from ddqjobs.submission.removal import Removal
    from ddqjobs.submission.round import Outcome
    from ddqjobs.submission.shell import Shell
    from ddqjobs.submission.submit import Rendered, Submitter

Say = Callable[[str], None]


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
    return Project(project_folder(start))


class Project:
    """A folder with experiments and results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = Catalog(root)
        self.tell: Say = lambda _: None  # hears how far it is where something takes long
        self.undelivered: Say = lambda _: None  # hears of notifications that did not arrive
        self._loaded: dict[str, Loaded] = {}
        self._workspaces: dict[tuple[str, str], Workspace] = {}

    def load(self, experiment: str | None = None) -> Loaded:
        """An experiment by name or file; None: the project's only one. Raises InputError, MissingError."""
        key = experiment or ""
        if key not in self._loaded:
            self._loaded[key] = self.catalog.load(experiment)
        return self._loaded[key]

    def workspace(self, experiment: str | None = None, site: str | None = None) -> Workspace:
        """An experiment on a site (default: $DDQJOBS_SITE, else ``local``), whose umask becomes ours."""
        loaded = self.load(experiment)
        key = (loaded.experiment.name, _site_name(site))
        if key not in self._workspaces:
            declared = self.site(site)
            results = expanded(self.root, declared.results or "results") / loaded.experiment.name
            self._workspaces[key] = Workspace(self.catalog, loaded, declared, results, self.tell)
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
        return [RunState(planned=p, progress=workspace.progress(p)) for p in runs]

    def changes(self, plan: Plan, *, site: str | None = None) -> tuple[Change, ...]:
        """Return what changed since the stale runs of a plan ran."""
        from ddqjobs.planning import changes

        workspace = self._of(plan, site)
        return changes.of_plan(plan, workspace.store, self.catalog.files_of(workspace.loaded))

    def products(self, experiment: str | None = None) -> Mapping[str, Product]:
        """Run -> product of every done run."""
        return self.workspace(experiment).products()

    def attempts(self, plan: Plan, run: str, *, site: str | None = None) -> list[Attempt]:
        """All attempts of a run."""
        return evidence.attempts(self._of(plan, site).store.run_dir(run))

    def log(self, plan: Plan, run: str, attempt: int | None = None, *, site: str | None = None) -> Path:
        """The log file of a run's attempt (default: the newest). Raises MissingError."""
        return self._of(plan, site).store.log(one_run(plan, run), attempt)

    def results(self, experiment: str | None = None) -> pd.DataFrame:
        """One row per run as a pandas DataFrame: AP in points, status, seed, digest, ..."""
        from ddqjobs.report import results

        workspace = self.workspace(experiment)
        return results.frame(workspace.loaded.experiment, workspace.plan(), workspace.products())

    def report(
        self, experiment: str | None = None, filters: Filters | None = None, *, site: str | None = None,
        metrics: Sequence[str] | None = (), recompute: bool = False, at: float | None = None,
        share: bool = False, say: Say = lambda _: None,
    ) -> Report:  # fmt: skip
        """Return the report as a document. ``metrics``: further ones (None: all); ``recompute``: with AP from
        predictions; ``at`` (seconds since the epoch): as known then; ``share``: without paths and nodes."""
        reports = self.reports(self.workspace(experiment, site))
        made = reports.document(filters or Filters(), metrics=metrics, recompute=recompute, at=at, say=say)
        return reports.shared(made) if share else made

    def report_page(
        self, made: Report, *, site: str | None = None, price: float | None = None, share: bool = False,
        gallery: int = 0, currency: str = "", say: Say = lambda _: None,
    ) -> str:  # fmt: skip
        """Return a report as an HTML page. ``price`` is of a GPU hour; ``gallery``: images per comparison."""
        reports = self.reports(self.workspace(made.experiment, site))
        return reports.page(made, price, share, say, gallery=gallery, currency=currency)

    def export(self, made: Report, kind: str, folder: Path, *, site: str | None = None) -> int:
        """Export the done runs of a report for another tool (`report.exports.EXTRAS`); return how many."""
        return self.reports(self.workspace(made.experiment, site)).export(made, kind, folder)

    def reports(self, workspace: Workspace) -> Reports:
        """Return what makes reports of a workspace, and the files that they read beside the ledger."""
        from ddqjobs.report.reports import Reports

        return Reports(workspace, self.environments(workspace.site))

    def data(
        self, experiment: str | None = None, filters: Filters | None = None, *, site: str | None = None
    ) -> Data:
        """Data sets and weights that the experiment declares, or those that the filtered runs need."""
        from ddqjobs.data import classes
        from ddqjobs.data.data import Data

        workspace = self.workspace(experiment, site)
        loaded, find = workspace.loaded, workspace.catalog.configs_of(workspace.loaded.path)
        some = select(workspace.plan(refresh=False), filters) if filters and filters.any else None
        runs = None if some is None else [p.run for p in some]
        declared = partial(classes.of_runs, runs or loaded.runs, find)
        return Data(loaded.experiment, self.root, workspace.site, runs, declared)

    # -- doing ------------------------------------------------------------------------------------------

    def submitting(self, plan: Plan, filters: Filters, options: SubmitOptions) -> Submitting:
        """Return what filters and options mean. Raise MissingError if a filter matches nothing."""
        return submitting(plan, filters, options)

    def submit(
        self, experiment: str | None = None, filters: Filters | None = None,
        options: SubmitOptions | None = None, *, site: str | None = None, say: Say = lambda _: None,
    ) -> Outcome:  # fmt: skip
        """Submits what is eligible, with everything behind it where the scheduler knows dependencies."""
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        wanted = submitting(plan, filters or Filters(), options or SubmitOptions())
        return self._submitter(workspace).submit(wanted, plan, say)

    def dry_run(
        self, experiment: str | None = None, filters: Filters | None = None,
        options: SubmitOptions | None = None, *, site: str | None = None,
    ) -> tuple[list[Rendered], dict[str, str]]:  # fmt: skip
        """The scripts that would be submitted, and what would be left out and why. Writes nothing."""
        workspace = self.workspace(experiment, site)
        plan = workspace.plan(refresh=False)
        wanted = submitting(plan, filters or Filters(), options or SubmitOptions())
        return self._submitter(workspace).dry_run(wanted, plan)

    def environments(self, site: Site) -> Environments:
        """Return the environments as they are on a site."""
        from ddqjobs.environments.on_site import Environments

        return Environments(self.catalog.files, site)

    def _submitter(self, workspace: Workspace) -> Submitter:
        from ddqjobs.submission.submit import Submitter

        return Submitter(workspace, self.environments(workspace.site))

    def using(self, environments: Sequence[str], site: str) -> dict[str, list[str]]:
        """Return environment -> active runs of all experiments that use it. Raises SchedulerError."""
        workspaces = (self.workspace(name, site) for name in self.catalog.experiments())
        return actions.using(workspaces, environments)

    def on_node(self, site: Site, argv: Sequence[str], resources: Resources, say: Say) -> int:
        """Run a command of ours as a job; return its exit code. Raises SchedulerError, InputError."""
        from ddqjobs.submission.node_command import run

        return run(self.catalog, site, self.environments(site).base, argv, resources, say)

    def with_strays(self, plan: Plan, *, site: str | None = None) -> Plan:
        """A plan with the active runs that its experiment no longer has."""
        return msgspec.structs.replace(plan, runs=(*plan.runs, *self._of(plan, site).strays()))

    def cancel(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[str]:
        """Cancels the active ones among runs; returns their names. Raises SchedulerError."""
        return actions.cancel(self._of(plan, site), runs)

    def hold(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Plan:
        """Keep queued runs from starting; return them as they are afterwards. Raises SchedulerError."""
        return actions.hold(self._of(plan, site), plan, runs)

    def release(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Plan:
        """Let held runs start again; return them as they are afterwards. Raises SchedulerError."""
        return actions.release(self._of(plan, site), plan, runs)

    def retry(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[str]:
        """Makes failed runs eligible again; returns their names."""
        return actions.retry(self._of(plan, site), runs)

    def accept(self, plan: Plan, runs: Sequence[PlannedRun], why: str, *, site: str | None = None) -> Plan:
        """Declare the stale ones among runs valid; return them as they are now. Raise InputError."""
        return acceptance.accept(self._of(plan, site), runs, why)

    def shell(
        self, plan: Plan, run: str, *, site: str | None = None, typed: str = "", time_s: int | None = None,
        gpus: int | None = None,
    ) -> Shell:  # fmt: skip
        """Return what enters a run's environment where the site's jobs run; ``typed`` is shell text to run
        there instead of a shell. Raises MissingError, EnvironmentNotReadyError, StateError; InputError for
        what an allocation lasts and has (an hour, the run's GPUs) where the site has no allocations."""
        from ddqjobs.submission import shell

        workspace = self._of(plan, site)
        asked = shell.Asked(run=one_run(plan, run).run, typed=typed, time_s=time_s, gpus=gpus)
        return shell.prepare(workspace, self.environments(workspace.site), asked)

    def examine(
        self, plan: Plan, runs: Sequence[PlannedRun], options: DoctorOptions | None = None, *,
        site: str | None = None, say: Callable[[Line], None] = lambda _: None,
    ) -> list[Line]:  # fmt: skip
        """Return what would keep these runs from starting or ending well on their site, line by line."""
        from ddqjobs.doctor import examine as doctor

        workspace = self._of(plan, site)
        return doctor.examine(
            workspace, self.environments(workspace.site), runs, options or doctor.Options(), say
        )

    def missing(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> list[Missing]:
        """Return what the runs to come among these lack here; nothing is started to find out."""
        from ddqjobs.doctor import missing
        from ddqjobs.doctor.subject import Subject

        workspace = self._of(plan, site)
        return missing.missing(Subject(workspace, self.environments(workspace.site), missing.to_come(runs)))

    def cleaning(self, plan: Plan, runs: Sequence[PlannedRun], *, site: str | None = None) -> Cleaning:
        """Return what `clean` would remove of these runs' checkpoints and what stays, with reasons."""
        from ddqjobs.store import cleaning

        workspace = self._of(plan, site)
        return cleaning.look(workspace.results, self.root, workspace.loaded.experiment, plan, runs)

    def removals(
        self, experiment: str | None, filters: Filters, *, site: str | None = None
    ) -> tuple[Removal, ...]:
        """Return what `remove` would remove of the runs that pass, also of such as the experiment no longer
        has. Raise StateError of an active run, and of one that something needs."""
        from ddqjobs.submission import removal

        workspace = self.workspace(experiment, site)
        plan = removal.with_former(workspace, workspace.plan())
        return removal.look(workspace, plan, select(plan, filters))

    def remove(
        self, experiment: str | None, removals: Iterable[Removal], *, site: str | None = None
    ) -> dict[str, str]:
        """Remove what runs left; return run -> where its folder lies now. Raise StateError."""
        from ddqjobs.submission import removal

        return removal.remove(self.workspace(experiment, site), removals)

    def adopt(
        self, plan: Plan, run: str, path: Path, because: str = "", *, site: str | None = None
    ) -> Product:
        """Take in a work_dir or a checkpoint, if nothing differs or ``because`` says why it counts."""
        from ddqjobs.submission import adoption

        planned, here = one_run(plan, run), self._of(plan, site)
        return adoption.adopt(here, self.environments(here.site), planned, path, because)

    def adopt_from(
        self, plan: Plan, runs: Sequence[PlannedRun], other: str, *, site: str | None = None
    ) -> dict[str, Product]:
        """Take in another experiment's results of the same digests; return run -> result."""
        from ddqjobs.submission import adoption

        return adoption.adopt_from(self._of(plan, site), runs, self.workspace(other, site))

    def advance(
        self, experiment: str | None = None, filters: Filters | None = None, *, site: str | None = None,
        say: Say = lambda _: None,
    ) -> Outcome:  # fmt: skip
        """Collect, then submit what may be retried or became eligible, of what somebody asked for."""
        workspace = self.workspace(experiment, site)
        telling = self._telling(workspace)
        plan = workspace.plan()
        passing = select(plan, filters or Filters())
        chosen = frozenset(p.run.name for p in passing) & workspace.store.history().wanted
        outcome = self._submitter(workspace).submit(Submitting.of_advance(chosen), plan, say)
        telling.finish()
        return outcome

    def wait(
        self, experiment: str | None, filters: Filters, options: SubmitOptions, *, site: str | None = None,
        say: Say = lambda _: None,
        show: Callable[[Plan, Sequence[PlannedRun]], None] = lambda _plan, _runs: None,
        pause_s: float = 0.5,
    ) -> Plan:  # fmt: skip
        """Submit until nothing chosen is active or submittable any more; return the plan of these runs.
        The filters choose once, at the beginning; the budget of GPU hours is for all that is submitted
        meanwhile. It looks again after ``pause_s``, or as seldom as the site's calls per minute ask for.
        Raises SchedulerError when a scheduler could not be asked for the site's submit_timeout.
        """
        from ddqjobs.submission.follow import Watching, follow

        workspace = self.workspace(experiment, site)
        telling = self._telling(workspace)
        plan = workspace.plan()
        wanted = submitting(plan, filters, options)
        watching = Watching(say, telling.after(show), pause_s)
        ended = follow(workspace, self._submitter(workspace), plan, wanted, watching)
        telling.finish({p.run.name for p in ended.runs})
        return ended

    def _telling(self, workspace: Workspace) -> Telling:
        from ddqjobs.notify.telling import Telling

        return Telling(workspace, self.reports, self.undelivered)

    def try_canaries(
        self, experiment: str | None, filters: Filters, options: SubmitOptions, *, site: str | None = None,
        say: Say = lambda _: None,
        show: Callable[[Plan, Sequence[PlannedRun]], None] = lambda _plan, _runs: None,
        pause_s: float = 0.5,
    ) -> tuple[PlannedRun, ...]:  # fmt: skip
        """Run the canaries of the trainings that `submit` would start, unless done with today's code; return
        them as they ended. Raises as ``wait``, and InputError for a code without one."""
        from ddqjobs.submission.follow import Watching, follow_canaries

        workspace = self.workspace(experiment, site)
        submitter, watching = self._submitter(workspace), Watching(say, show, pause_s)
        return follow_canaries(
            workspace, submitter, lambda plan: submitting(plan, filters, options), watching
        )

    def _of(self, plan: Plan, site: str | None) -> Workspace:
        for (name, site_name), workspace in self._workspaces.items():
            if name == plan.experiment and site in (None, site_name):
                return workspace
        return self.workspace(plan.experiment, site)


def _site_name(named: str | None) -> str:
    return named or os.environ.get("DDQJOBS_SITE") or DEFAULT_SITE
