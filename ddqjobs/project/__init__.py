"""The front door: what the command line does, and what three lines of Python can."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddqjobs.base.errors import InputError, MissingError
from ddqjobs.planning import given
from ddqjobs.planning.filters import select
from ddqjobs.planning.given import AnyExperiment, AnyFilters, AnyPlan, AnyRun, AnyRuns, AnySite
from ddqjobs.project.looking import Looking
from ddqjobs.project.opened import Say
from ddqjobs.spec.model import Plan, PlannedRun, Product, Resources
from ddqjobs.store.layout import project_folder
from ddqjobs.submission import acceptance, actions
from ddqjobs.submission.select import SubmitOptions as SubmitOptions
from ddqjobs.submission.select import Submitting, submitting
from ddqjobs.submission.workspace import Workspace

if TYPE_CHECKING:
    from ddqjobs.notify.telling import Telling
    from ddqjobs.submission.removal import Removal
    from ddqjobs.submission.round import Outcome
    from ddqjobs.submission.shell import Shell
    from ddqjobs.submission.submit import Rendered, Submitter


def open_project(path: str | os.PathLike[str] | None = None) -> Project:
    """The project that ``path`` (default: here) lies in: the nearest folder upwards with an ``experiments``
    or a ``results`` folder, else ``path`` itself, which then offers what ships with ddqjobs.

    >>> project = open_project(".")
    >>> "nano" in project.catalog.experiments()
    True
    """
    start = Path(path or os.environ.get("DDQJOBS_PROJECT") or ".").resolve()
    try:
        str(start).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{start}: the folder's name is not UTF-8 text; choose another folder") from error
    if not start.is_dir():
        raise MissingError(f"{start}: no such folder; make a project with `ddqjobs init {start}`")
    return Project(project_folder(start))


class Project(Looking):
    """A folder with experiments and results.

    Experiments, sites and runs are named, or handed over as the objects that other methods return.
    """

    def submitting(self, plan: AnyPlan, filters: AnyFilters, options: SubmitOptions) -> Submitting:
        """Return what filters and options mean. Raise MissingError if a filter matches nothing."""
        plan = self._plan(plan)
        return submitting(plan, given.filters(filters), options)

    def submit(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None,
        options: SubmitOptions | None = None, *, site: AnySite = None, say: Say = lambda _: None,
    ) -> Outcome:  # fmt: skip
        """Submit what is eligible, with everything behind it where the scheduler knows dependencies.

        >>> from ddqjobs import SubmitOptions
        >>> project.submit("nano", "p1-*", SubmitOptions(upstream=True))  # doctest: +SKIP
        """
        workspace = self.workspace(experiment, site)
        plan = workspace.plan()
        wanted = submitting(plan, given.filters(filters), options or SubmitOptions())
        return self._submitter(workspace).submit(wanted, plan, say)

    def dry_run(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None,
        options: SubmitOptions | None = None, *, site: AnySite = None, canaries: bool = False,
    ) -> tuple[list[Rendered], dict[str, str]]:  # fmt: skip
        """Return the scripts that would be submitted, and what would be left out and why. Writes nothing.
        With ``canaries`` those that ``try_canaries`` would submit, unless it has nothing to try.

        >>> scripts, left = project.dry_run("nano", "data")
        >>> scripts[0].runs
        ('data',)
        """
        workspace = self.workspace(experiment, site)
        plan = workspace.plan(refresh=False)
        wanted = submitting(plan, given.filters(filters), options or SubmitOptions())
        if canaries:
            from ddqjobs.submission.follow import trials

            whole = workspace.plan(refresh=False, canaries=True)
            _, trying = trials(whole, wanted)
            plan, wanted = (whole, trying) if trying.chosen else (plan, wanted)
        return self._submitter(workspace).dry_run(wanted, plan)

    def advance(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None, *, site: AnySite = None,
        say: Say = lambda _: None,
    ) -> Outcome:  # fmt: skip
        """Collect, then submit what may be retried or became eligible, of what somebody asked for."""
        workspace = self.workspace(experiment, site)
        telling = self._telling(workspace)
        plan = workspace.plan()
        passing = select(plan, given.filters(filters))
        chosen = frozenset(planned.run.name for planned in passing) & workspace.store.history().wanted
        outcome = self._submitter(workspace).submit(Submitting.of_advance(chosen), plan, say)
        telling.finish()
        return outcome

    def wait(
        self, experiment: AnyExperiment = None, filters: AnyFilters = None,
        options: SubmitOptions | None = None, *, site: AnySite = None, say: Say = lambda _: None,
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
        wanted = submitting(plan, given.filters(filters), options or SubmitOptions())
        watching = Watching(say, telling.after(show), pause_s)
        ended = follow(workspace, self._submitter(workspace), plan, wanted, watching)
        telling.finish({planned.run.name for planned in ended.runs})
        return ended

    def try_canaries(
        self, experiment: AnyExperiment, filters: AnyFilters, options: SubmitOptions, *, site: AnySite = None,
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
            workspace, submitter, lambda plan: submitting(plan, given.filters(filters), options), watching
        )

    def cancel(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> list[str]:
        """Cancels the active ones among runs; returns their names. Raises SchedulerError."""
        return actions.cancel(*self._chosen(plan, runs, site))

    def hold(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> Plan:
        """Keep queued runs from starting; return them as they are afterwards. Raises SchedulerError."""
        plan = self._plan(plan, site)
        return actions.hold(self._of(plan, site), plan, given.several(plan, runs))

    def release(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> Plan:
        """Let held runs start; return them as they are afterwards. Raises SchedulerError."""
        plan = self._plan(plan, site)
        return actions.release(self._of(plan, site), plan, given.several(plan, runs))

    def retry(self, plan: AnyPlan, runs: AnyRuns, *, site: AnySite = None) -> list[str]:
        """Makes failed or cancelled runs eligible again; returns their names."""
        return actions.retry(*self._chosen(plan, runs, site))

    def accept(self, plan: AnyPlan, runs: AnyRuns, why: str, *, site: AnySite = None) -> Plan:
        """Declare the stale ones among runs valid; return them as they are now. Raise InputError."""
        return acceptance.accept(*self._chosen(plan, runs, site), why)

    def remove(
        self, experiment: AnyExperiment, removals: Iterable[Removal], *, site: AnySite = None
    ) -> dict[str, str]:
        """Remove what runs left; return run -> where its folder lies now. Raise StateError."""
        from ddqjobs.submission import removal

        return removal.remove(self.workspace(experiment, site), removals)

    def rename(self, experiment: AnyExperiment, new: str, *, site: AnySite = None) -> list[str]:
        """Rename an experiment with its results; return those that inherit from it. Raise StateError,
        InputError."""
        from ddqjobs.submission import renaming

        workspace = self.workspace(experiment, site)
        renaming.rename(workspace, new)
        return self.catalog.inheriting(workspace.loaded.experiment.name)

    def adopt(
        self, plan: AnyPlan, run: AnyRun, path: Path, because: str = "", *, site: AnySite = None
    ) -> Product:
        """Take in a work_dir or a checkpoint, if nothing differs or ``because`` says why it counts."""
        plan = self._plan(plan, site)
        from ddqjobs.submission import adoption

        planned, here = given.planned(plan, run), self._of(plan, site)
        return adoption.adopt(here, self.environments(here.site), planned, path, because)

    def adopt_from(
        self, plan: AnyPlan, runs: AnyRuns, other: AnyExperiment, *, site: AnySite = None
    ) -> dict[str, Product]:
        """Take in another experiment's results of the same digests; return run -> result."""
        plan = self._plan(plan, site)
        from ddqjobs.submission import adoption

        return adoption.adopt_from(
            self._of(plan, site), given.several(plan, runs), self.workspace(other, site)
        )

    def shell(
        self, plan: AnyPlan, run: AnyRun, *, site: AnySite = None, typed: str = "", time_s: int | None = None,
        gpus: int | None = None,
    ) -> Shell:  # fmt: skip
        """Return what enters a run's environment where the site's jobs run; ``typed`` is shell text to run
        there instead of a shell. Raises MissingError, EnvironmentNotReadyError, StateError; InputError for
        what an allocation lasts and has (an hour, the run's GPUs) where the site has no allocations."""
        plan = self._plan(plan, site)
        from ddqjobs.submission import shell

        workspace = self._of(plan, site)
        asked = shell.Asked(run=given.planned(plan, run).run, typed=typed, time_s=time_s, gpus=gpus)
        return shell.prepare(workspace, self.environments(workspace.site), asked)

    def using(self, environments: Sequence[str], site: AnySite = None) -> dict[str, list[str]]:
        """Return environment -> active runs of all experiments that use it. Raises SchedulerError."""
        workspaces = (self.workspace(name, site) for name in self.catalog.experiments())
        return actions.using(workspaces, environments)

    def on_node(self, site: AnySite, argv: Sequence[str], resources: Resources, say: Say) -> int:
        """Run a command of ours as a job; return its exit code. Raises SchedulerError, InputError."""
        from ddqjobs.submission.node_command import run

        declared = self.site(site)
        return run(self.catalog, declared, self.environments(declared).base, argv, resources, say)

    def _submitter(self, workspace: Workspace) -> Submitter:
        from ddqjobs.submission.submit import Submitter

        return Submitter(workspace, self.environments(workspace.site))

    def _telling(self, workspace: Workspace) -> Telling:
        from ddqjobs.notify.telling import Telling

        return Telling(workspace, self.reports, self.undelivered)
