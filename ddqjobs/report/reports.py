"""Reports of one experiment on one site: the document, the page, the export."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base.paths import expanded
from ddqjobs.base.units import LOGIN_MEMORY
from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.filters import Filters, select
from ddqjobs.report import document, hours
from ddqjobs.report import share as share_
from ddqjobs.report.cache import ReportFiles
from ddqjobs.report.document import Report
from ddqjobs.report.gallery import Gallery
from ddqjobs.spec import grid
from ddqjobs.spec.model import Plan, Product
from ddqjobs.submission.workspace import Workspace

Say = Callable[[str], None]


class Reports:
    """Makes reports of what a workspace knows."""

    def __init__(self, workspace: Workspace, environments: Environments) -> None:
        self._workspace, self._environments = workspace, environments
        self.files = ReportFiles(workspace.results, environments)

    def document(
        self,
        filters: Filters,
        *,
        metrics: Sequence[str] | None,
        recompute: bool,
        at: float | None,
        say: Say,
        refresh: bool = True,
        memory: str = LOGIN_MEMORY,
    ) -> Report:
        """Return the report of the runs that the filters leave (:meth:`ddqjobs.project.Project.report`);
        without ``refresh`` the schedulers are not asked first."""
        workspace, files = self._workspace, self.files
        if at is not None:
            plan, products = workspace.then(at)
        else:
            plan, products = workspace.plan(refresh=refresh), workspace.products()
        products = files.compared(products)
        only = {planned.run.name for planned in select(plan, filters)} if filters.any else None
        running = self._running(plan)
        shown = [planned for planned in plan.runs if only is None or planned.run.name in only]
        experiment = workspace.loaded.experiment
        return document.build(
            experiment,
            plan,
            products,
            progress=running,
            recomputed=files.recompute(shown, products, say, memory)
            if recompute
            else files.recomputed(products),
            curves=files.curves(document.compared(experiment, plan), products, say, means_only=True),
            metrics=metrics,
            hours=hours.spent(plan, workspace.store.history(), running, now=time.time())
            if at is None
            else None,
            only=only,
            unfollowed=workspace.loaded.unfollowed,
        )

    def _running(self, plan: Plan) -> dict[str, Progress]:
        progress_of = self._workspace.progress
        return {
            planned.run.name: progress
            for planned in plan.runs
            if (progress := progress_of(planned)) is not None
        }

    def shared(self, report: Report) -> Report:
        """Return a report without absolute paths and names of nodes."""
        return share_.shared(report, self._sharing())

    def _sharing(self, hosts: Iterable[str] = ()) -> share_.Share:
        workspace = self._workspace
        tickets = workspace.store.history().tickets.values()
        names = (name for t in tickets for name in (t.node, t.owner.host, t.finished and t.finished.node))
        nodes = {name for name in (*names, *hosts, platform.node()) if name}
        here = workspace.loaded.experiment
        kinds = (here.models, here.phases, here.tasks, here.implementations, here.variants, grid.names(here))
        return share_.sharing(nodes, self._folders(), [here.name, *(word for kind in kinds for word in kind)])

    def _folders(self) -> set[str]:
        """Return the folders that a report may name."""
        workspace, experiment = self._workspace, self._workspace.loaded.experiment
        site, project = workspace.site, workspace.catalog.project
        named = [code.path for code in experiment.codes.values()]
        named += [data.path for data in experiment.datasets.values()]
        named += [weight.path for weight in experiment.weights.values()]
        named += [site.environments, site.results, site.stage_to, site.weights, *site.activate.values()]
        ours = [workspace.results, self.files.runs, Path.home(), project]
        paths = [*ours, *(expanded(project, text) for text in named if text)]
        return {name for path in paths for name in (str(path), os.path.realpath(path))}

    def page(
        self,
        report: Report,
        price: float | None,
        share: bool,
        say: Say,
        at: float | None = None,
        *,
        reload_s: int = 0,
        gallery: int = 0,
        currency: str = "",
    ) -> str:
        """Return a report as one HTML page. ``price`` of a GPU hour, in ``currency``; ``share`` leaves out
        absolute paths, names of nodes, and scripts; ``gallery``: so many images of a kind and comparison,
        with boxes, which are not for others; ``at``: when it was made; after ``reload_s`` seconds, if not
        0, it reloads itself."""
        from ddqjobs.report.page import facts, panels, render

        workspace = self._workspace
        plan, products = workspace.plan(refresh=False), workspace.products()
        wanted = {row.run for row in report.runs}
        listed = msgspec.structs.replace(
            plan, runs=tuple(planned for planned in plan.runs if planned.run.name in wanted)
        )
        curves = self.files.curves(panels.drawn(listed), products, say)
        now = time.time() if at is None else at
        spent = hours.spent(plan, workspace.store.history(), self._running(plan), now=now)
        to_come = {name: known.to_come for name, known in spent.items() if known.to_come}
        behind = facts.read(workspace, self._environments, plan, products, wanted)
        hide = None
        if share:
            hide = self._sharing(facts.hosts(behind))
            report, behind = share_.shared(report, hide), facts.without_scripts(behind)
        return render.page(
            workspace.loaded.experiment, plan, report, behind, curves, products,
            price=price, currency=currency, to_come=to_come, share=hide, now=at, reload_s=reload_s,
            gallery=self._gallery(plan, products, wanted, gallery, say) if gallery and not share else None,
        )  # fmt: skip

    def _gallery(
        self, plan: Plan, products: Mapping[str, Product], wanted: set[str], each: int, say: Say
    ) -> Gallery:
        from ddqjobs.report import gallery

        gallery.check()
        maker = gallery.Maker(self._workspace.catalog.project, self.files.runs, products, say)
        return maker.make(self._workspace.loaded.experiment, plan, wanted, each)

    def export(self, report: Report, kind: str, folder: Path) -> int:
        """Write the done runs of a report for another tool; return how many."""
        from ddqjobs.report import exports

        workspace = self._workspace
        plan, products = workspace.plan(refresh=False), workspace.products()
        runs = exports.collect(plan, products, workspace.store.layout.runs, (row.run for row in report.runs))
        return exports.export(kind, folder, report.experiment, runs)
