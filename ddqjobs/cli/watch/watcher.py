"""The loop of `status --watch`.

A thread asks, so that a scheduler that takes its time does not hold up the keys. The screen is drawn in one
write, over what is there, and only where something has changed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ddqjobs.cli.watch import frames
from ddqjobs.cli.watch.bell import Bell, woken
from ddqjobs.cli.watch.board import Screen, Size, View, draw
from ddqjobs.cli.watch.keys import keys, moved

if TYPE_CHECKING:
    from ddqjobs.spec.model import Plan
    from ddqjobs.submission.workspace import RunState


class Seen(NamedTuple):
    """One answer."""

    made: Plan
    states: Sequence[RunState]
    note: str  # what could not be asked
    at: float

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return not any(s.planned.status.value == "active" for s in self.states)


def watch(ask: Callable[[], Seen], interval_s: float) -> Seen:
    """Shows until nothing is active or the user leaves; returns what was seen last. What the first question
    raises is the caller's; later ones show what went wrong and go on."""
    seen = ask()
    if seen.over:
        return seen
    with woken() as bell, frames.alternate_screen():
        return Watcher(ask, interval_s, bell, seen).run()


class Watcher:
    """The loop of one terminal."""

    def __init__(self, ask: Callable[[], Seen], interval_s: float, bell: Bell, seen: Seen) -> None:
        self._asker = Asker(ask, interval_s, bell.ring, seen)
        self._bell, self._view = bell, View()
        self._shown: list[str] = []
        self._size = Size(0, 0)
        self._screen = Screen([], self._view, 1, 0)
        encoding = sys.stdout.encoding or "ascii"
        self._blocks = "█".encode(encoding, "ignore") != b""

    def run(self) -> Seen:
        """Until the user leaves, or nothing is active."""
        self._asker.start()
        try:
            while not self._asker.seen.over:
                self._draw()
                typed = self._bell.wait()
                if self._bell.suspended:
                    self._suspend()
                for action in keys(typed):
                    if action == "quit":
                        return self._asker.seen
                    if action == "refresh":
                        self._asker.hurry()
                    self._view = moved(self._view, action, self._screen)
            return self._asker.seen
        finally:
            self._asker.stop()

    def _draw(self) -> None:
        seen = self._asker.seen
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        size = Size(
            columns - 1, rows
        )  # in the last column, erasing the rest of a line would erase the line's end
        head = f"as of {time.strftime('%H:%M:%S', time.localtime(seen.at))}"
        self._screen = draw(
            seen.made, seen.states, self._view, size, head=head, note=seen.note, blocks=self._blocks
        )
        self._view = self._screen.view
        frames.show(self._shown if self._size == size else [], self._screen.lines)
        self._shown, self._size = self._screen.lines, size

    def _suspend(self) -> None:
        """Ctrl-Z."""
        self._bell.suspended = False
        frames.suspend()
        self._shown = []


class Asker:
    """A thread that asks every ``interval_s`` seconds, and rings when there is an answer."""

    def __init__(
        self, ask: Callable[[], Seen], interval_s: float, ring: Callable[[], None], seen: Seen
    ) -> None:
        self._ask, self._interval_s, self._ring = ask, interval_s, ring
        self.seen = seen
        self._hurry = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def hurry(self) -> None:
        """Asks now."""
        self._hurry.set()

    def stop(self) -> None:
        """Ends, without waiting for an answer that is on its way for long: nothing of it is lost, since the
        next command asks again."""
        self._over = True
        self._hurry.set()
        self._thread.join(timeout=2.0)

    def _work(self) -> None:
        while True:
            self._hurry.wait(self._interval_s)
            self._hurry.clear()
            if self._over:
                return
            self.seen = self._next()
            self._ring()

    def _next(self) -> Seen:
        from ddqjobs.base.errors import DdqjobsError

        try:
            return self._ask()
        except (DdqjobsError, OSError) as error:
            return self.seen._replace(note=" ".join(str(error).split()))
