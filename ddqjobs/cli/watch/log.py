"""The end of a run's log, as a screen."""

from __future__ import annotations

import os
from pathlib import Path

from ddqjobs.base.narrow import pieces
from ddqjobs.base.text import clean, fit
from ddqjobs.cli.output import style
from ddqjobs.cli.watch.board import Size

ROOM = 1 << 16  # bytes of the end that are read


def tail(path: Path) -> list[str]:
    """Return the last lines of a log, without what a terminal might act upon. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - ROOM))
        text = file.read(ROOM).decode(errors="replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [clean(line) for line in (lines[1:] if size > ROOM else lines)]


def draw(title: str, lines: list[str], size: Size, *, note: str = "") -> list[str]:
    """Return the lines of a screen: a title, as much of the end as fits, long lines broken, and the keys."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    room = size.rows - 2 - bool(note)
    body = [part for line in lines[-room:] for part in pieces(line, size.columns)][-room:]
    keys = "q leaves, jobs go on   Enter, Esc: back to the runs   r asks now"
    return [
        style(fit(clean(title), size.columns), bold=True),
        *body,
        *[""] * (room - len(body)),
        *([style(fit(clean(note), size.columns), fg="yellow")] if note else []),
        style(fit(keys.ljust(size.columns), size.columns), reverse=True),
    ][-size.rows :]
