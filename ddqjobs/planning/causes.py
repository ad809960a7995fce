"""Map lines that end tasks to a class, and to what the reason begins with. Pure.

The tables are in :mod:`ddqjobs.planning.known`, by subject: what each says is a fact of another program.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ddqjobs.planning.known import errnos
from ddqjobs.planning.known.cause import Cause, Table, Weight
from ddqjobs.planning.known.gpus import GPUS
from ddqjobs.planning.known.processes import LOST, PROCESSES
from ddqjobs.planning.known.programs import DOWNLOADS, NAMES, PROGRAMS
from ddqjobs.planning.known.python import CODE, KINDS, LIBRARIES, PLACES
from ddqjobs.planning.known.python import DATA as FILES
from ddqjobs.planning.known.schedulers import SCHEDULERS, SIGNALS

__all__ = ["AFTER_NUMBERS", "BEFORE_NUMBERS", "LOST", "meaning", "of_kind", "of_place"]

# Of a line the first that fits: from what one program says in one case only to what many say. Error numbers
# are between them, since their words are part of longer ones, and say more than the names of files.
BEFORE_NUMBERS = Table(*SCHEDULERS, *GPUS, *CODE, *DOWNLOADS, *PROGRAMS, *PROCESSES, *NAMES, *LIBRARIES)
AFTER_NUMBERS = Table(*FILES, *SIGNALS)
_KINDS = Table(*KINDS)


@functools.lru_cache(maxsize=4096)
def meaning(line: str, *, writes: bool = False) -> Cause | None:
    """Return what a line means; None for one that means nothing of its own. ``writes``: the program was
    writing a file."""
    first = BEFORE_NUMBERS.first(line)
    if first is not None and first.weight > Weight.WEAK:
        return first
    return errnos.of(line, writes=writes) or first or AFTER_NUMBERS.first(line)


def of_place(line: str, frames: Iterable[str]) -> Cause | None:
    """Return what the type of an exception means by the lines of its traceback."""
    near = "\n".join(frames)
    return next((c for kind, place, c in PLACES if kind.search(line) and place.search(near)), None)


def of_kind(line: str) -> Cause | None:
    """Return what the type of an exception means without its words."""
    return _KINDS.first(line)
