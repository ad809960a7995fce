"""``--page FILE``: a report's page that is written again while runs go on, and reloads itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.output import note, warn
from ddqjobs.cli.selection import Selection

EVERY_S = 60  # seconds between two writings, and after which the page reloads itself
_IDLE = 20  # a page that takes long to make is made so much less often

PAGE = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE", help="Keep an HTML report up to date in FILE; it reloads itself."),
]


class LivePage:
    """Keeps the page of a selection in a file; does nothing without one."""

    def __init__(self, selection: Selection, file: Path | None) -> None:
        self._selection, self._file = selection, file
        self._next = 0.0

    def look(self) -> None:
        """Write the page, at most once a minute. What keeps it from being written ends no waiting."""
        if time.monotonic() >= self._next:
            self._try(EVERY_S, note)

    def finish(self, reload_s: int = 0) -> None:
        """Write the page as the last thing that a command does; what keeps it from being written is a
        warning, and changes nothing of how the command ends."""
        self._try(reload_s, warn)

    def _try(self, reload_s: int, tell: Callable[[str], None]) -> None:
        try:
            self.write(reload_s)
        except Exception as error:  # whatever is wrong with a page, the runs go on
            tell(f"page not written: {error}")

    def write(self, reload_s: int = 0) -> None:
        """Write the page as things are now. Raise StateError where that is impossible."""
        from ddqjobs.base import files
        from ddqjobs.base.errors import StateError, refusal

        if self._file is None:
            return
        selection, began = self._selection, time.monotonic()
        self._next = began + EVERY_S
        reports = selection.project.reports(selection.project.workspace(selection.experiment, selection.site))
        document = reports.document(
            selection.filters, metrics=None, recompute=False, at=None, say=note, refresh=False
        )
        text = reports.page(document, None, False, note, reload_s=reload_s)
        self._next = began + max(EVERY_S, _IDLE * (time.monotonic() - began))
        try:
            files.replace(self._file.resolve(), text.encode())
        except OSError as error:
            raise StateError(f"{self._file}: {refusal(error, self._file.parent)}") from error
