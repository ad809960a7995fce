"""Record how far an attempt of a training is, to the iteration; and what interruptions have cost. Standard
library only.

``work_dir/progress.json`` is rewritten in place after every iteration: ``start``, the iterations that were
done when the attempt began, and ``iter``, those that are done now. It costs one small write and no flush,
so a node that dies may take the last seconds with it; a process that dies takes nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Callable, Iterable, NamedTuple

from . import claim

NAME = "progress.json"
_LINE = '{{"start":{:12d},"iter":{:12d}}}\n'


class Stretch(NamedTuple):
    """Iterations of one attempt: done before it, and done at its end; over all epochs."""

    start: int
    end: int


class Progress:
    """Writes the file. Not an error if it cannot: a training does not end for a counter."""

    def __init__(self, work_dir: Path, start: int) -> None:
        self.start = start
        try:
            self._file = os.open(str(work_dir / NAME), os.O_WRONLY | os.O_CREAT, 0o666)
        except OSError:
            self._file = -1
        self.done(start)

    def done(self, iterations: int) -> None:
        """So many iterations are done. The same number again still is a sign of life."""
        try:
            os.pwrite(self._file, _LINE.format(self.start, iterations).encode(), 0)
        except OSError:
            pass


def read(work_dir: Path) -> Stretch | None:
    """Return what the file says; None without one."""
    try:
        value = json.loads((work_dir / NAME).read_text(encoding="utf-8"))
        return Stretch(int(value["start"]), int(value["iter"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def repeated(stretches: Iterable[Stretch]) -> int:
    """Iterations that were done more than once, of the attempts in their order."""
    total = reached = 0
    for stretch in stretches:
        total += max(0, min(reached, stretch.end) - stretch.start)
        reached = max(reached, stretch.end)
    return total


def account(run_dir: Path, attempt: int, digests: Callable[[int], str]) -> dict[str, int]:
    """Return what a training has cost: its attempts up to this one, of the same digest, and
    ``repeated_iterations``."""
    numbers = [n for n in claim.attempts(run_dir) if n <= attempt and digests(n) == digests(attempt)]
    stretches = [read(run_dir / "attempts" / str(n) / "work_dir") for n in numbers]
    return {
        "attempts": len(numbers),
        "repeated_iterations": repeated(stretch for stretch in stretches if stretch),
    }
