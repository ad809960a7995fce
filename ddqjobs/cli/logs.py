"""``ddqjobs logs``."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.output import put, say, say_json
from ddqjobs.cli.selection import JSON, Selection, filtered, one_selected

_LINES_AT_ONCE = 10_000
LONGEST = 1 << 20  # bytes; a longer line is shown in pieces of a line each


@filtered
def logs(
    selection: Selection,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the run has ended.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Attempt to show; default: the newest.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Only the last N lines; 0: all.")] = 0,
    as_json: JSON = False,
) -> None:
    """Show the log of one run.

    Examples: ddqjobs logs mini p3-train.ddq-detr-r18; ddqjobs logs mini p3-train.ddq-detr-r18 -f -n 20;
    ddqjobs logs mini p3-train.ddq-detr-r18 -n 50 --json
    """
    from ddqjobs.base.errors import InputError, MissingError

    if follow and as_json:
        raise InputError(
            "--follow and --json exclude each other; call `ddqjobs logs EXPERIMENT RUN --json` again instead"
        )
    project = selection.project
    plan, planned = one_selected(selection, "logs shows")
    run = planned.run.name
    path = project.log(plan, run, attempt, site=selection.site)
    if not follow and not path.exists():
        raise MissingError(f"attempt {path.parent.name} of {run} has no log")
    if as_json:
        texts: list[str] = []
        Log(path, lines, texts.append).show(to_the_end=True)
        shown = "\n".join(texts).split("\n") if texts else []
        attempts = [record.number for record in project.attempts(plan, run, site=selection.site)]
        say_json("logs", experiment=plan.experiment, run=run, status=planned.status.value,
                 attempt=int(path.parent.name), attempts=attempts, path=str(path), lines=shown)  # fmt: skip
        return
    log = Log(path, lines)
    log.show()
    while follow and _active(selection, run):
        time.sleep(0.5)
        log.show()
        newest = project.log(plan, run, attempt, site=selection.site)
        if newest != log.path:
            log.show(to_the_end=True)
            say(f"--- attempt {newest.parent.name} ---")
            log = Log(newest)
    log.show(to_the_end=True)


def _active(selection: Selection, run: str) -> bool:
    from ddqjobs.planning.filters import one_run

    plan = selection.project.plan(selection.experiment, site=selection.site)
    return one_run(plan, run).status.value == "active"


class Log:
    """Prints a log line by line as it grows, control characters made harmless. ``last``: at first only so
    many lines; 0: all. ``out`` takes the text, several lines at a time."""

    def __init__(self, path: Path, last: int = 0, out: Callable[[str], object] = put) -> None:
        self.path = path
        self._out = out
        self._last = last
        self._position = 0

    def show(self, *, to_the_end: bool = False) -> None:
        """Prints what is new; a line that is still being written only ``to_the_end``."""
        from ddqjobs.base.text import clean

        lines: deque[bytes] = deque(maxlen=self._last or None)
        held = 0
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._position)
            while line := file.readline(LONGEST):
                if not line.endswith(b"\n") and len(line) < LONGEST and not to_the_end:
                    break
                self._position += len(line)
                lines.append(line)
                held += len(line)
                if not self._last and (len(lines) >= _LINES_AT_ONCE or held >= LONGEST):
                    self._print(lines, clean)
                    held = 0
        self._print(lines, clean)
        self._last = 0

    def _print(self, lines: deque[bytes], clean: Callable[[str], str]) -> None:
        # A progress bar draws over itself with carriage returns: here each of its states is a line.
        texts = (line.decode(errors="replace").rstrip("\r\n").replace("\r", "\n") for line in lines)
        shown = [clean(part) for text in texts for part in text.split("\n")]
        lines.clear()
        if shown:
            self._out("\n".join(shown))
