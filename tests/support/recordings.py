"""Recordings of a terminal of 80 columns and 24 rows, as text: ``python -m tests.support.recordings`` writes
``docs/reference/terminal.md``, and a test compares it with what the commands show today."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.support import matrix
from tests.support.cli import Place, Terminal

COLUMNS, ROWS = 80, 24
PAGE = Path(__file__).parents[2] / "docs/reference/terminal.md"
HEAD = """# What a terminal shows

Recorded on a terminal of 80 columns and 24 rows, without colours, by `python -m tests.support.recordings`.
A test compares this page with what the commands show. `ddq` is the shipped plan in an empty project on a
machine without GPUs. `matrix` is a plan of seven models, four phases and three seeds in the middle of its
work: 112 runs, some of which failed. Where a command says more than a screen, its first lines are here.
"""
# What a user of a bare machine has: nothing of this one may show.
BARE = {"HOME": "/home/ada", "PATH": "/nowhere", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONUTF8": "1"}
COMMANDS = (
    ("plan", "ddq"),
    ("plan", "ddq", "--phase", "4", "--model", "ddq-detr-4scale"),
    ("status", "ddq"),
    ("status", "ddq", "--watch"),
    ("report", "ddq"),
    ("plan", "matrix"),
    ("status", "matrix"),
    ("status", "matrix", "--state", "failed"),
    ("status", "matrix", "--watch"),
    ("report", "matrix"),
)


class Empty(Place):
    """A project folder with nothing but an ``experiments`` folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "experiments").mkdir(parents=True, exist_ok=True)


def page(root: Path) -> str:
    """Return the page, from projects that are made below ``root``."""
    matrix.make(root / "matrix", rows=30, distinct=2, terms=1)
    places = {"ddq": Empty(root / "ddq"), "matrix": Empty(root / "matrix")}
    parts = [HEAD]
    for command in COMMANDS:
        record = watched if command[-1] == "--watch" else shown
        text = "\n".join(record(places[command[1]], command))
        parts.append(f"## {' '.join(command)}\n```\n$ ddqjobs {' '.join(command)}\n{text}\n```\n")
    return "\n".join(parts)


def shown(place: Place, command: tuple[str, ...]) -> list[str]:
    """Return the first lines that a command shows."""
    code, text = Terminal(place, *command, columns=COLUMNS, rows=ROWS, **BARE).close()
    assert code == 0, text
    lines = [line.rstrip() for line in plain(text).splitlines()]
    more = len(lines) - (ROWS - 1)
    return lines if more <= 1 else [*lines[: ROWS - 1], f"[{more} more lines]"]


def watched(place: Place, command: tuple[str, ...]) -> list[str]:
    """Return the screen of ``--watch``."""
    terminal = Terminal(place, *command, columns=COLUMNS, rows=ROWS, **BARE)
    drawn = terminal.read_until("q leaves")
    terminal.type("q")
    assert terminal.close()[0] == 0
    screen = [""] * ROWS
    for row, line in re.findall(r"\x1b\[(\d+);1H(.*?)\x1b\[K", drawn + "\x1b[K", re.DOTALL):
        screen[int(row) - 1] = plain(line).rstrip()
    return [re.sub(r"as of \d\d:\d\d:\d\d", "as of 12:00:00", line) for line in screen]


def plain(text: str) -> str:
    """Return text without what colours and moves."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(Path(folder)))
