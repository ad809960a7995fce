"""``ddqjobs status --watch`` on a terminal: one question per refresh, keys at any time, no flicker.

A thread asks, so that a scheduler that takes its time does not hold up the keys. The screen is drawn in one
write, over what is there, and only where something has changed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ddqjobs.cli.board import SHOWN, Screen, Size, View, draw

if TYPE_CHECKING:
    from ddqjobs.project import RunState
    from ddqjobs.spec.model import Plan

# Alternate screen, no cursor, no wrapping; and back. 2026: terminals that know it show a frame at once.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_FRAME, _CLEAR, _SHOW = "\x1b[?2026h", "\x1b[2J", "\x1b[?2026l"
_OF_ACTIONS = {
    "quit": ("q",),
    "up": ("\x1b[A", "\x1bOA", "k"),
    "down": ("\x1b[B", "\x1bOB", "j"),
    "page up": ("\x1b[5~", "b"),
    "page down": ("\x1b[6~", " "),
    "home": ("\x1b[H", "\x1bOH", "\x1b[1~", "g"),
    "end": ("\x1b[F", "\x1bOF", "\x1b[4~", "G"),
    "filter": ("f",),
    "refresh": ("r",),
}
KEYS = {key: action for action, several in _OF_ACTIONS.items() for key in several}
_BY_LENGTH = sorted(KEYS, key=len, reverse=True)


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


def keys(text: str) -> list[str]:
    """The actions that typed text means; what means nothing is left out."""
    found: list[str] = []
    while text:
        known = next((key for key in _BY_LENGTH if text.startswith(key)), "")
        if text.startswith("\x1b") and not known:
            return found  # a key that we do not know, and its letters must not be taken for others
        if known:
            found.append(KEYS[known])
        text = text[len(known) or 1 :]
    return found


def moved(view: View, action: str, screen: Screen) -> View:
    """What one looks at after an action."""
    steps = {"up": -1, "down": 1, "page up": -screen.page, "page down": screen.page}
    steps |= {"home": -screen.there, "end": screen.there}
    if action == "filter":
        return View(shown=(view.shown + 1) % len(SHOWN))
    return view._replace(top=max(0, min(view.top + steps.get(action, 0), screen.there - screen.page)))


def changes(before: Sequence[str], lines: Sequence[str]) -> str:
    """What brings a screen that shows ``before`` to show ``lines``: nothing is written that is there."""
    pairs = itertools.zip_longest(lines, before[: len(lines)])
    return "".join(f"\x1b[{n};1H{line}\x1b[K" for n, (line, old) in enumerate(pairs, 1) if line != old)


def watch(ask: Callable[[], Seen], interval_s: float) -> Seen:
    """Shows until nothing is active or the user leaves; returns what was seen last. What the first question
    raises is the caller's; later ones show what went wrong and go on."""
    seen = ask()
    if seen.over:
        return seen
    with _woken() as bell, _terminal():
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
        before = self._shown if self._size == size else []
        changed = changes(before, self._screen.lines)
        self._shown, self._size = self._screen.lines, size
        if changed:
            _put(_FRAME + ("" if before else _CLEAR) + changed + _SHOW)

    def _suspend(self) -> None:
        """Ctrl-Z: gives the screen back for as long as we are stopped."""
        self._bell.suspended = False
        _put(_LEAVE)
        os.kill(os.getpid(), signal.SIGSTOP)
        _put(_ENTER)
        with contextlib.suppress(termios.error):
            tty.setcbreak(sys.stdin.fileno())
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


class Bell:
    """What the loop waits for: keys, an answer, a change of size, Ctrl-Z."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
        self.suspended = False

    def ring(self) -> None:
        """Ends a wait, from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def suspend(self, _number: int, _frame: object) -> None:
        """Ctrl-Z."""
        self.suspended = True

    @property
    def descriptor(self) -> int:
        """Where signals write."""
        return self._write

    def wait(self) -> str:
        """Waits; what was typed meanwhile."""
        sources = select.poll()
        for source in (self._read, self._keyboard):
            if source is not None:
                sources.register(source, select.POLLIN)
        ready = {descriptor for descriptor, _ in sources.poll()}  # a terminal that is gone is "ready" too
        if self._read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)
        if self._keyboard is None or self._keyboard not in ready:
            return ""
        typed = os.read(self._keyboard, 1024)
        if not typed:  # the terminal is gone
            raise KeyboardInterrupt
        return typed.decode(errors="replace")

    def close(self) -> None:
        """Gives its descriptors back."""
        os.close(self._read)
        os.close(self._write)


@contextlib.contextmanager
def _woken() -> Iterator[Bell]:
    """A bell that signals ring, for as long as it is needed."""
    bell = Bell()
    handlers = {
        signal.SIGWINCH: lambda _number, _frame: None,
        signal.SIGTSTP: bell.suspend,
        signal.SIGTERM: _end,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup = signal.set_wakeup_fd(bell.descriptor, warn_on_full_buffer=False)
    try:
        yield bell
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.close()


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # through all the finally: the screen is given back


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """The alternate screen, keys one by one; everything as it was afterwards, whatever happens."""
    keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(keyboard) if keyboard is not None else None
    try:
        if keyboard is not None:
            tty.setcbreak(keyboard)
        _put(_ENTER)
        yield
    finally:
        _put(_LEAVE)
        if keyboard is not None and before is not None:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _put(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    data = text.encode(encoding, "backslashreplace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
