"""Lines that say how runs get on while a command waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ddqjobs.cli.output import say

if TYPE_CHECKING:
    from ddqjobs.spec.model import Plan, PlannedRun

PROGRESS_S = 20.0  # seconds between two words on how far running trainings are


class Ticker:
    """Says what changes while one waits: a line per run whose state has changed, and from time to time how
    far the running ones are."""

    def __init__(self, progress: Callable[[Plan, PlannedRun], str], pause_s: float = PROGRESS_S) -> None:
        self._progress, self._pause_s = progress, pause_s
        self._last: dict[str, str] = {}
        self._said_at = time.monotonic()

    def show(self, plan: Plan, runs: Sequence[PlannedRun]) -> None:
        """Prints the changes since the last call."""
        first = not self._last
        head = f"[{sum(planned.status.value == 'done' for planned in runs)}/{len(runs)}]"
        for planned in runs:
            state = (
                planned.state.value
                if planned.status.value == "active" and planned.state
                else planned.status.value
            )
            quiet = state in ("eligible", "waiting") or (first and state == "done")
            if self._last.get(planned.run.name, "waiting") != state and not quiet:
                detail = f": {planned.reason}" if state == "failed" else ""
                say(f"{head} {planned.run.name} {state}{detail}")
                self._said_at = time.monotonic()
            self._last[planned.run.name] = state
        if time.monotonic() - self._said_at >= self._pause_s:
            self._said_at = time.monotonic()
            running = (
                (planned.run.name, self._progress(plan, planned))
                for planned in runs
                if planned.status.value == "active"
            )
            for name, progress in running:
                if progress:
                    say(f"{head} {name}: {progress}")
