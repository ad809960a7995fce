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
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ddqjobs.cli.watch import frames, log
from ddqjobs.cli.watch.bell import Bell, woken
from ddqjobs.cli.watch.board import Screen, Size, View, chosen, draw
from ddqjobs.cli.watch.keys import Order, keys, pressed

if TYPE_CHECKING:
    from ddqjobs.spec.model import Plan
    from ddqjobs.submission.workspace import RunState


class Seen(NamedTuple):
    """One answer."""

    made: Plan
    states: Sequence[RunState]
    note: str  # what could not be asked
    at: float
    said: Sequence[str] = ()  # what came of the user's actions

    @property
    def over(self) -> bool:
        """Return whether nothing will change any more."""
        return not any(s.planned.status.value == "active" for s in self.states)


class Desk(NamedTuple):
    """The services that the loop can ask for."""

    ask: Callable[[], Seen]
    log: Callable[[Plan, str], Path]  # raises MissingError
    act: Callable[[str, str], str]  # (retry or cancel, run) -> what came of it; raises as the commands do


def watch(desk: Desk, interval_s: float) -> Seen:
    """Shows until nothing is active any more or the user leaves; returns what was seen last, with the runs
    that filter and search leave. What was over before is shown until the user leaves. What the first question
    raises is the caller's; later ones show what went wrong and go on."""
    seen = desk.ask()
    if seen.over and not sys.stdin.isatty():
        return seen
    with woken() as bell, frames.alternate_screen():
        return Watcher(desk, interval_s, bell, seen).run()


class Watcher:
    """The loop of one terminal."""

    def __init__(self, desk: Desk, interval_s: float, bell: Bell, seen: Seen) -> None:
        self._desk = desk
        self._asker = Asker(desk.ask, interval_s, bell.ring, seen)
        self._bell, self._view = bell, View()
        self._stays = seen.over
        self._shown: list[str] = []
        self._size = Size(0, 0)
        self._screen = Screen([], self._view, 1, 0)
        encoding = sys.stdout.encoding or "ascii"
        self._blocks = "█".encode(encoding, "ignore") != b""

    def run(self) -> Seen:
        """Until the user leaves, or nothing is active any more; what was confirmed is done first."""
        self._asker.start()
        try:
            while self._goes_on() and self._turn():
                pass
            if self._asker.acting:
                self._asker.said = "ends as soon as what was confirmed is done"
                self._draw()
        except KeyboardInterrupt:  # as good a way to leave as any
            pass
        finally:
            self._asker.stop()
        seen = self._asker.seen
        return seen._replace(states=chosen(seen.states, self._view), said=self._asker.results)

    def _goes_on(self) -> bool:
        return self._stays or self._view.busy or self._asker.busy or not self._asker.seen.over

    def _turn(self) -> bool:
        """Show what there is, and do what is typed next; return False where the user leaves."""
        self._draw()
        typed = self._bell.wait()
        if self._bell.suspended:
            self._suspend()
        for number, key in enumerate(keys(typed)):
            if number:
                self._draw()  # a key is about what the one before left on the screen
            self._asker.said = ""
            self._view, order = pressed(self._view, key, self._screen)
            if order.what == "quit":
                return False
            self._do(order)
        return True

    def _do(self, order: Order) -> None:
        if order.what == "refresh":
            self._asker.hurry()
        elif order.what == "say":
            self._asker.said = order.run
        elif order.what:
            self._asker.act(lambda: self._desk.act(order.what, order.run))

    def _draw(self) -> None:
        seen = self._asker.seen
        columns, rows = os.get_terminal_size(sys.stdout.fileno())  # 0 and 0 where a terminal knows none
        # In the last column, erasing the rest of a line would erase the line's end.
        size = Size((columns or 80) - 1, rows or 24)
        note = self._asker.said or seen.note
        if self._view.log:
            lines = self._log(size, note)
        else:
            head = f"as of {time.strftime('%H:%M:%S', time.localtime(seen.at))}"
            self._screen = draw(
                seen.made, seen.states, self._view, size, head=head, note=note, blocks=self._blocks
            )
            self._view, lines = self._screen.view, self._screen.lines
        frames.show(self._shown if self._size == size else [], lines)
        self._shown, self._size = lines, size

    def _log(self, size: Size, note: str) -> list[str]:
        from ddqjobs.base.errors import DdqjobsError

        run = self._view.log
        try:
            path = self._desk.log(self._asker.seen.made, run)
            return log.draw(f"{run}, attempt {path.parent.name}", log.tail(path), size, note=note)
        except (DdqjobsError, OSError) as error:
            return log.draw(run, [], size, note=" ".join(str(error).split()))

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
        self.said = ""  # what came of the last action, until the next key
        self.results: list[str] = []  # what came of all of them
        self._actions: list[Callable[[], str]] = []
        # Each is written by one thread only: actions ordered, done, and done before the last answer.
        self._ordered = self._done = self._answered = 0
        self._hurry = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def hurry(self) -> None:
        """Asks now."""
        self._hurry.set()

    def act(self, action: Callable[[], str]) -> None:
        """Do something before the next question, which is asked now."""
        self._ordered += 1
        self._actions.append(action)
        self._hurry.set()

    @property
    def acting(self) -> bool:
        """Return whether an action is not done yet."""
        return self._ordered > self._done and self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Return whether an action is not done yet, or what is seen is older than it."""
        return self._ordered > self._answered and self._thread.is_alive()

    def stop(self) -> None:
        """Ends when all actions are done, however long that takes; without waiting for an answer that is on
        its way for long: nothing of it is lost, since the next command asks again."""
        self._over = True
        self._hurry.set()
        self._thread.join(timeout=None if self.acting else 2.0)

    def _work(self) -> None:
        while True:
            self._hurry.wait(self._interval_s)
            self._hurry.clear()
            over = self._over  # before the actions: none is ordered after it
            while self._actions:
                self._act(self._actions.pop(0))
            if over:
                return
            done = self._done
            self.seen = self._next()
            self._answered = done
            if not self._over:  # else nobody listens any more
                self._ring()

    def _act(self, action: Callable[[], str]) -> None:
        from ddqjobs.base.errors import DdqjobsError

        try:
            said = action()
        except (DdqjobsError, OSError) as error:
            said = " ".join(str(error).split())
        self.said = said
        self.results.append(said)
        self._done += 1
        self._ring()

    def _next(self) -> Seen:
        from ddqjobs.base.errors import DdqjobsError

        try:
            return self._ask()
        except (DdqjobsError, OSError) as error:
            return self.seen._replace(note=" ".join(str(error).split()))
