"""Find in the end of a log the line that ended a task: the last exception, of the first rank that died. Pure.

Left out are warnings, what launchers say of their processes, and what one process says when another is gone.
Of chained exceptions the last counts, of a loader's worker the one that it had.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

# What srun --label, torch (from 2.3) and torchrun put before a process's lines.
_RANK = re.compile(r"^(?:\[(?:rank|default)(\d+)\]:? ?|(\d+): (?=[A-Z \[]))")
_TRACEBACK = re.compile(r"^\s*(?:Original )?Traceback \(most recent call last\):$")
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:: .*|:)?$")
_CHAIN = re.compile(
    r"^(?:During handling of the above exception|The above exception was the direct cause of the following)"
)
_CAUSE = re.compile(r"^The above exception was the direct cause of the following")
_WARNING = re.compile(
    r"\b[A-Z]\w*Warning\b|(?:^|[\s\[-])(?:WARNING|warning)(?:[\s:\]-]|$)|^\[W\d*[ :]|^W\d{4} "
)
# An exception's message may have several lines; of each exception so many are looked at.
_MOST = 40
_LONGEST = 2000  # characters of a line that are looked at: configurations are printed in errors
_NEAR = 100  # other lines that are looked at
# torchrun's table: the rank that failed first.
_ROOT = re.compile(r"Root Cause \(first observed failure\):\n\[0\]:\n(?:.*\n){0,2}? +rank +: (\d+)")
# What a launcher says, or a process whose partner died: a consequence, no cause while there is another.
_SECOND_HAND = re.compile(
    r"ChildFailedError|CalledProcessError|ProcessRaisedException|ProcessExitedException|"
    r"Connection (?:closed|reset) by (?:remote )?peer|ncclRemoteError|remote process exited|"
    r"SignalException|Broken ?[Pp]ipe|died with <Signals"
)


class Ending(NamedTuple):
    """The end of a task. ``lines``: those of the exception, its type first; empty without one. ``cause``:
    those of the exception that it was raised from. ``after``: lines behind it, the last first. ``before``:
    other lines, the last first. No warnings among them."""

    lines: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    rank: int | None = None  # that died first, of several
    cause: tuple[str, ...] = ()


class _Raised(NamedTuple):
    lines: tuple[str, ...]
    rank: int | None
    end: int  # number of the line after it
    cause: tuple[str, ...] = ()  # lines of the exception that it was raised from, if its author says so


def find(log: str) -> Ending:
    """Return what ended a task, from the end of its log."""
    lines = [_shown(line) for line in log.split("\n")]
    ranks = [_split(line) for line in lines]
    found = _raised(ranks)
    kept = [text for _, text in ranks]
    root = _ROOT.search("\n".join(kept))
    first = int(root.group(1)) if root else None
    chosen = _choose(found, first)
    if chosen is None:
        return Ending((), (), _said(kept), first)
    many = first is not None or len({r.rank for r in found}) > 1
    rank = chosen.rank if chosen.rank is not None else first
    after, before = kept[chosen.end :], kept[: max(0, chosen.end - len(chosen.lines))]
    return Ending(chosen.lines, _said(after), _said(before), rank if many else None, chosen.cause)


def _shown(line: str) -> str:
    """Return what a terminal would show: progress bars return to the beginning of their line."""
    parts = [part for part in line.rstrip().split("\r") if part.strip()]
    return parts[-1][:_LONGEST] if parts else ""


def _split(line: str) -> tuple[int | None, str]:
    match = _RANK.match(line)
    if match is None:
        return None, line
    return int(match.group(1) or match.group(2)), line[match.end() :]


def _said(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines, the last first, without blank ones and warnings."""
    said = (line.strip() for line in reversed(lines) if line.strip() and not _WARNING.search(line))
    return tuple(islice(said, _NEAR))


def _raised(lines: Sequence[tuple[int | None, str]]) -> list[_Raised]:
    """Return the exceptions that tracebacks end with, in order; of several ranks each one's own."""
    found: list[_Raised] = []
    open_ranks: dict[int | None, bool] = {}  # rank -> inside a traceback
    causes: dict[int | None, tuple[str, ...]] = {}  # rank -> what its next exception is raised from
    for number, (rank, text) in enumerate(lines):
        if _TRACEBACK.match(text):
            open_ranks[rank] = True
        elif open_ranks.get(rank) and _EXCEPTION.match(text) and not _WARNING.match(text):
            open_ranks[rank] = False
            raised = _whole(lines, number, rank)
            found.append(raised._replace(cause=causes.pop(rank, ())))
        elif _CAUSE.match(text) and found and found[-1].rank == rank:
            causes[rank] = (*found[-1].lines, *found[-1].cause)
    return found


def _whole(lines: Sequence[tuple[int | None, str]], number: int, rank: int | None) -> _Raised:
    """Return an exception with the further lines of its message."""
    message, end = [lines[number][1].strip()], number + 1
    for end in range(number + 1, min(len(lines), number + _MOST)):
        other, text = lines[end]
        if other != rank:
            continue
        if not text.strip() or _TRACEBACK.match(text) or _CHAIN.match(text) or _WARNING.search(text):
            break
        message.append(text.strip())
    else:
        end = min(len(lines), number + _MOST)
    return _Raised(tuple(message), rank, end)


def _choose(found: Sequence[_Raised], first: int | None) -> _Raised | None:
    """The last exception of the rank that died first, else the last that is no consequence of another's."""
    own = [r for r in found if not any(_SECOND_HAND.search(line) for line in r.lines)]
    of_first = [r for r in own if r.rank == first and first is not None]
    if of_first:
        return of_first[-1]
    if not own:
        return found[-1] if found else None
    # Without a launcher's word the first rank that says something is the first that died.
    return [r for r in own if r.rank == own[0].rank][-1]
