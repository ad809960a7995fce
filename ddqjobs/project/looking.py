"""The part of a project that looks: status, logs, results, reports, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.units import LOGIN_MEMORY
from ddqjobs.planning import given
from ddqjobs.planning.filters import select
from ddqjobs.planning.given import AnyExperiment, AnyFilters, AnyPlan, AnyRun, AnyRuns, AnySite
from ddqjobs.project.opened import Opened, Say
from ddqjobs.spec.model import Attempt, Plan, Product
from ddqjobs.store import evidence
from ddqjobs.submission.workspace import RunState, Workspace

if TYPE_CHECKING:
    import pandas as pd

    from ddqjobs.base.findings import Line
    from ddqjobs.data.data import Data
    from ddqjobs.doctor.examine import Options as DoctorOptions
    from ddqjobs.doctor.missing import Missing
    from ddqjobs.planning.changes import Change
    from ddqjobs.report.document import Report
    from ddqjobs.report.reports import Reports
    from ddqjobs.store.cleaning import Cleaning
    from ddqjobs.submission.removal import Removal


class Looking(Opened):
    """The methods that change nothing but what a project remembers of its jobs."""

    def status(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> list[RunState]:
        """Return runs with the progress of those that are running, from the ends of their logs.

        >>> [state] = project.status("nano", "data")
        >>> state.planned.status.value
        'eligible'
        """
        workspace, chosen = self._chosen(plan, runs, site)
        return [RunState(planned=planned, progress=workspace.progress(planned)) for planned in chosen]

    def changes(self, plan: AnyPlan, *, site: AnySite = None) -> tuple[Change, ...]:
        """Return what changed since the stale runs of a plan ran."""
        plan = self._plan(plan, site)
        from ddqjobs.planning import changes

        workspace = self._of(plan, site)
        return changes.of_plan(plan, workspace.store, self.catalog.files_of(workspace.loaded))

    def products(self, experiment: AnyExperiment = None) -> Mapping[str, Product]:
        """Run -> product of every done run."""
        return self.workspace(experiment).products()

    def attempts(self, plan: AnyPlan, run: AnyRun, *, site: AnySite = None) -> list[Attempt]:
        """All attempts of a run."""
        return evidence.attempts(self._of(self._plan(plan, site), site).store.run_dir(given.name(run)))

    def log(self, plan: AnyPlan, run: AnyRun, attempt: int | None = None, *, site: AnySite = None) -> Path:
        """Return the log file of a run's attempt (default: the newest). Raise MissingError.

        >>> project.log("nano", "data")
        Traceback (most recent call last):
        ...
        ddqjobs.base.errors.MissingError: data has not started on any node, so it has no log; ...
        """
        plan = self._plan(plan, site)
        return self._of(plan, site).store.log(given.planned(plan, run), attempt)

    def results(self, experiment: AnyExperiment = None) -> pd.DataFrame:
        """Return a row per run as a pandas DataFrame: AP in points, status, seed, digest, ...

        >>> table = project.results("nano")
        >>> list(table.columns[:3])
        ['run', 'phase', 'task']
        """
        from ddqjobs.report import results

        workspace = self.workspace(experiment)
        return results.frame(workspace.loaded.experiment, workspace.plan(), workspace.products())

    def report(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None, *, site: AnySite = None,
        metrics: Sequence[str] | None = (), recompute: bool = False, at: float | None = None,
        share: bool = False, memory: str = LOGIN_MEMORY, say: Say = lambda _: None,
    ) -> Report:  # fmt: skip
        """Return the report as a document. ``metrics``: further ones (None: all); ``recompute``: with AP from
        predictions, each computed within ``memory``; ``at`` (seconds since the epoch): as known then;
        ``share``: without paths and nodes.

        >>> report = project.report("nano")
        >>> report.ok, len(report.runs) == len(project.plan("nano").runs)
        (False, True)
        """
        reports = self.reports(self.workspace(experiment, site))
        report = reports.document(
            given.filters(filters), metrics=metrics, recompute=recompute, at=at, say=say, memory=memory
        )
        return reports.shared(report) if share else report

    def report_page(
        self, report: Report, *, site: AnySite = None, price: float | None = None, share: bool = False,
        gallery: int = 0, currency: str = "", say: Say = lambda _: None,
    ) -> str:  # fmt: skip
        """Return a report as an HTML page. ``price`` is of a GPU hour; ``gallery``: images per comparison."""
        reports = self.reports(self.workspace(report, site))
        return reports.page(report, price, share, say, gallery=gallery, currency=currency)

    def export(self, report: Report, kind: str, folder: Path, *, site: AnySite = None) -> int:
        """Export the done runs of a report for another tool (`report.exports.EXTRAS`); return how many."""
        return self.reports(self.workspace(report, site)).export(report, kind, folder)

    def reports(self, workspace: Workspace) -> Reports:
        """Return what makes reports of a workspace, and the files that they read beside the ledger."""
        from ddqjobs.report.reports import Reports

        return Reports(workspace, self.environments(workspace.site))

    def data(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None, *, site: AnySite = None
    ) -> Data:
        """Data sets and weights that the experiment declares, or those that the filtered runs need."""
        from ddqjobs.data import classes
        from ddqjobs.data.data import Data

        workspace = self.workspace(experiment, site)
        loaded, find = workspace.loaded, workspace.catalog.configs_of(workspace.loaded.path)
        wanted = given.filters(filters)
        some = select(workspace.plan(refresh=False), wanted) if wanted.any else None
        runs = None if some is None else [planned.run for planned in some]
        declared = partial(classes.of_runs, runs or loaded.runs, find)
        return Data(loaded.experiment, self.root, workspace.site, runs, declared)

    def with_strays(self, plan: AnyPlan, *, site: AnySite = None) -> Plan:
        """A plan with the active runs that its experiment no longer has."""
        plan = self._plan(plan, site)
        return msgspec.structs.replace(plan, runs=(*plan.runs, *self._of(plan, site).strays()))

    def examine(
        self, plan: AnyPlan, runs: AnyRuns, options: DoctorOptions | None = None, *,
        site: AnySite = None, say: Callable[[Line], None] = lambda _: None,
    ) -> list[Line]:  # fmt: skip
        """Return what would keep these runs from starting or ending well on their site, line by line."""
        plan = self._plan(plan, site)
        from ddqjobs.doctor import examine as doctor

        workspace = self._of(plan, site)
        chosen, here = given.several(plan, runs), self.environments(workspace.site)
        return doctor.examine(workspace, here, chosen, options or doctor.Options(), say)

    def missing(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> list[Missing]:
        """Return what the runs to come among these lack here; nothing is started to find out."""
        plan = self._plan(plan, site)
        from ddqjobs.doctor import missing
        from ddqjobs.doctor.subject import Subject

        workspace = self._of(plan, site)
        chosen = missing.to_come(given.several(plan, runs))
        return missing.missing(Subject(workspace, self.environments(workspace.site), chosen))

    def cleaning(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> Cleaning:
        """Return what `clean` would remove of these runs' checkpoints and what stays, with reasons."""
        plan = self._plan(plan, site)
        from ddqjobs.store import cleaning

        workspace = self._of(plan, site)
        chosen = given.several(plan, runs)
        return cleaning.look(workspace.results, self.root, workspace.loaded.experiment, plan, chosen)

    def removals(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None, *, site: AnySite = None
    ) -> tuple[Removal, ...]:
        """Return what `remove` would remove of the runs that pass; of such as the experiment no longer has if
        they are named. Raise InputError without filters, StateError of a run that is active or needed."""
        from ddqjobs.submission import removal

        chosen = given.filters(filters)
        if not chosen.any:
            raise InputError(
                "name the runs to remove, or choose them with filters: `ddqjobs remove EXPERIMENT RUN`"
            )
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        if chosen.runs:
            plan = removal.with_former(workspace, plan)
        return removal.look(workspace, plan, select(plan, chosen))
