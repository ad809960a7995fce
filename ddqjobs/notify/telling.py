"""Tell whoever is to be told, where anybody is: what `--wait` and `advance` know of notifications."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ddqjobs.notify import channels
from ddqjobs.spec.model import Plan, PlannedRun
from ddqjobs.submission.workspace import Workspace

if TYPE_CHECKING:
    from ddqjobs.notify.notifier import Notifier
    from ddqjobs.report.reports import Reports

Show = Callable[[Plan, Sequence[PlannedRun]], None]


class Telling:
    """The notifications of one command. Raise InputError for a broken user file; nobody to tell costs
    nothing."""

    def __init__(
        self, workspace: Workspace, reports: Callable[[Workspace], Reports], tell: Callable[[str], None]
    ) -> None:
        self._workspace = workspace
        self._notifier: Notifier | None = None
        if named := channels.of(workspace.site):
            from ddqjobs.notify.notifier import Notifier

            self._notifier = Notifier(workspace, reports(workspace), named, tell)

    def after(self, show: Show) -> Show:
        """Return what shows a plan, and then tells of it."""
        notifier = self._notifier
        if notifier is None:
            return show

        def both(plan: Plan, runs: Sequence[PlannedRun]) -> None:
            show(plan, runs)
            notifier.look(plan)

        return both

    def finish(self, given_up: Collection[str] = ()) -> None:
        """Tell of what there is now, and wait a moment for the answers; ``given_up`` are runs that this
        command will not submit any more."""
        if self._notifier is not None:
            self._notifier.look(self._workspace.plan(refresh=False), given_up)
            self._notifier.finish()
