"""The alternate screen of a terminal, drawn over in one write where something has changed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

# Alternate screen, no cursor, no wrapping; and back. 2026: terminals that know it show a frame at once.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_FRAME, _CLEAR, _SHOW = "\x1b[?2026h", "\x1b[2J", "\x1b[?2026l"


def changes(before: Sequence[str], lines: Sequence[str]) -> str:
    """Return what brings a screen that shows ``before`` to show ``lines``: nothing is written that is
    there."""
    pairs = itertools.zip_longest(lines, before[: len(lines)])
    return "".join(f"\x1b[{n};1H{line}\x1b[K" for n, (line, old) in enumerate(pairs, 1) if line != old)


def show(before: Sequence[str], lines: Sequence[str]) -> None:
    """Bring a terminal that shows ``before`` (empty: anything) to show ``lines``, in one write."""
    changed = changes(before, lines)
    if changed:
        _put(_FRAME + ("" if before else _CLEAR) + changed + _SHOW)


@contextlib.contextmanager
def alternate_screen() -> Iterator[None]:
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


def suspend() -> None:
    """Give the screen back for as long as we are stopped."""
    _put(_LEAVE)
    os.kill(os.getpid(), signal.SIGSTOP)
    _put(_ENTER)
    with contextlib.suppress(termios.error):
        tty.setcbreak(sys.stdin.fileno())


def _put(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    data = text.encode(encoding, "backslashreplace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
