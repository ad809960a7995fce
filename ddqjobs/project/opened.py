"""An opened project: its experiments, sites and environments by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddqjobs.base.paths import expanded
from ddqjobs.notify import channels
from ddqjobs.planning import given
from ddqjobs.planning.catalog import Catalog, Loaded
from ddqjobs.planning.given import AnyExperiment, AnyPlan, AnyRuns, AnySite
from ddqjobs.spec.model import Plan, PlannedRun
from ddqjobs.spec.site import DEFAULT_SITE, Site
from ddqjobs.submission.workspace import Workspace

# What only some commands need is imported where it is needed: looking at a plan must stay quick.
if TYPE_CHECKING:
    from ddqjobs.environments.on_site import Environments

Say = Callable[[str], None]


class Opened:
    """A folder with experiments and results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = Catalog(root)
        self.tell: Say = lambda _: None  # hears how far it is where something takes long
        self.inform: Say = lambda _: None  # hears what was done about jobs that would wait for ever
        self.undelivered: Say = lambda _: None  # hears of notifications that did not arrive
        self._loaded: dict[str, Loaded] = {}
        self._workspaces: dict[tuple[str, str], Workspace] = {}

    def load(self, experiment: AnyExperiment = None) -> Loaded:
        """An experiment by name, file, plan or report; None: the project's only one. Raises InputError,
        MissingError."""
        name = given.experiment(experiment)
        if not isinstance(experiment, str | os.PathLike | None):  # made of one that we have loaded
            for loaded in self._loaded.values():
                if loaded.experiment.name == name:
                    return loaded
        key = name or ""
        if key not in self._loaded:
            self._loaded[key] = self.catalog.load(name)
        return self._loaded[key]

    def workspace(self, experiment: AnyExperiment = None, site: AnySite = None) -> Workspace:
        """An experiment on a site (default: that of a plan, else $DDQJOBS_SITE, else ``local``), whose umask
        becomes ours."""
        if site is None and isinstance(experiment, Plan):
            site = self._site_of(experiment)
        loaded = self.load(experiment)
        key = (loaded.experiment.name, _site_name(site))
        if key not in self._workspaces:
            declared = self.site(site)
            results = expanded(self.root, declared.results or "results") / loaded.experiment.name
            channels.mask(declared)
            self._workspaces[key] = Workspace(self.catalog, loaded, declared, results, self.tell, self.inform)
        if umask := self._workspaces[key].site.umask:
            os.umask(int(umask, 8))  # of this process: whatever is written from here on is the group's too
        return self._workspaces[key]

    def site(self, name: AnySite = None) -> Site:
        """A site (default: $DDQJOBS_SITE, else ``local``). Raises InputError, MissingError."""
        return name if isinstance(name, Site) else self.catalog.site(_site_name(name))

    def environments(self, site: AnySite = None) -> Environments:
        """Return the environments as they are on a site."""
        from ddqjobs.environments.on_site import Environments

        return Environments(self.catalog.files, self.site(site))

    def plan(self, experiment: AnyExperiment = None, *, site: AnySite = None, refresh: bool = True) -> Plan:
        """Return every run with its status and the reason; without ``refresh`` no scheduler is asked.

        >>> plan = project.plan("nano")
        >>> plan.experiment, plan.runs[0].status.value
        ('nano', 'eligible')
        """
        return self.workspace(experiment, site).plan(refresh=refresh)

    def _plan(self, plan: AnyPlan, site: AnySite = None) -> Plan:
        return plan if isinstance(plan, Plan) else self.plan(plan, site=site)

    def _of(self, plan: Plan, site: AnySite) -> Workspace:
        return self.workspace(plan, site)

    def _site_of(self, plan: Plan) -> str:
        """Return the site that a plan is for, as it was named: it may have been named by its file."""
        named = (
            name
            for (experiment, name), workspace in self._workspaces.items()
            if (experiment, workspace.site.name) == (plan.experiment, plan.site)
        )
        return next(named, plan.site)

    def _chosen(
        self, plan: AnyPlan, runs: AnyRuns, site: AnySite
    ) -> tuple[Workspace, tuple[PlannedRun, ...]]:
        whole = self._plan(plan, site)
        return self._of(whole, site), given.several(whole, runs)


def _site_name(named: AnySite) -> str:
    return given.site(named) or os.environ.get("DDQJOBS_SITE") or DEFAULT_SITE
