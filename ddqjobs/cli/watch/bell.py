"""End a wait by a key, an answer or a signal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator


class Bell:
    """The events that the loop waits for: keys, an answer, a change of size, Ctrl-Z."""

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
        """Return the descriptor to which signals write."""
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
def woken() -> Iterator[Bell]:
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
