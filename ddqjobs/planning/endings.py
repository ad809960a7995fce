"""Find in the end of a log the line that ended a task: the last exception, of the first rank that died. Pure.

Left out are warnings, what launchers say of their processes, and what one process says when another is gone.
Of chained exceptions the last counts, of a loader's worker the one that it had.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
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
    r"\b[A-Z]\w*Warning\b|(?:^|[\s\[-])(?:WARNING|warning)(?:[\s:\]-]|$)|^\[W\d*[ :]|^W\d{4} |"
    r" (?:INFO|DEBUG)\b|^(?:INFO|DEBUG)\b|^\[I\d*[ :]|^I\d{4} |^Exception ignored"
)
# A traceback behind such a line ended nothing: destructors, and what runs when an interpreter ends.
_HARMLESS = re.compile(r"^(?:Exception ignored|--- Logging error|Error in (?:atexit|sys\.excepthook))")
_FRAME = re.compile(r'^\s+File ".*", line \d+, in ')
# What a training prints as it goes on: an exception so many such lines before the end was caught.
_PROGRESS = re.compile(
    r"(?:Epoch|Iter)\((?:train|val|test)\)|\b(?:Epoch|Iter)\b[ :]*\[\d+\]?[\[/]|\b(?:loss|"
    r"acc)\w*[:=] ?\d.*\b(?:lr|eta|time)\b"
)
_SURVIVED = 3
# The first words of other programs, which are no part of an exception's message.
_OTHERS = re.compile(
    r"^(?:\S*srun: |slurmstepd: |sbatch: |mpirun|prterun|bash: |\S+: line \d+: |terminate called|"
    r"  what\(\): |\[[EFWI]\d* ?|"
    r"[EFWI]\d{4} |\*\*\*|={5}|-{5}|\d{4}[-/]\d\d[-/]\d\d[ T]|\d\d/\d\d \d\d:|Fatal Python|Aborted|"
    r"Segmentation|Killed|FATAL:|"
    r"During handling of the above|The above exception was|\s*(?:Original )?Traceback \(most recent|"
    r"ERROR:|\[?rank\d|Exception (?:ignored|in thread)|\S+:\d+:\d+ \[\d\] NCCL|NVRM|kernel: |"
    r"\[ *\d+\.\d+\] )"
)
# Warnings that tell of an end all the same.
_ENDS = re.compile(r"\bhang\b|preempted|heartbeat|SIGKILL|death signal")
# An exception's message may have several lines; of each exception so many are looked at.
_MOST = 40
_LONGEST = 2000  # characters of a line that are looked at: configurations are printed in errors
_FRAMES = 12  # lines of a traceback that are looked at
_NEAR = 100  # other lines that are looked at
# torchrun's table: the rank that failed first.
_ROOT = re.compile(r"Root Cause \(first observed failure\):\n\[0\]:\n(?:.*\n){0,2}? +rank +: (\d+)")
# What a launcher says, or a process whose partner died: a consequence, no cause while there is another.
_LAUNCHER = re.compile(
    r"ChildFailedError|CalledProcessError|ProcessRaisedException|ProcessExitedException|SignalException|"
    r"died with <Signals|^KeyboardInterrupt|^SystemExit|(?:after|at) interpreter shutdown|"
    r"driver shutting down|"
    r"killed by signal: (?:Terminated|Aborted)"
)
_PEER = re.compile(
    r"Connection (?:closed|reset) by (?:remote )?peer|ncclRemoteError|remote process exited|Broken ?[Pp]ipe|"
    r"ConnectionResetError|communicator was aborted|recvValue failed|sendBytes failed|got 0 bytes|"
    r"Connection was likely closed|ncclUniqueId|DistStoreError|Rendezvous(?:Closed|Timeout|Connection|"
    r"Graceful)|"
    r"wait timeout after|Timed out waiting \d+ms|[Ww]atchdog|"
    r"DataLoader worker .*(?:exited unexpectedly|is killed by signal)|pin memory thread exited"
)
_EMPTY = re.compile(r"^(?:_?queue\.)?Empty$")  # what a loader waits for


class Standing(IntEnum):
    """Rank of an exception among those that may have ended the task."""

    CAUGHT = 0  # another was raised while it was handled, or the training went on
    LAUNCHER = 1  # says of another process that it failed
    PEER = 2  # what a process says when another one is gone
    FIRST_HAND = 3


class Ending(NamedTuple):
    """The end of a task. ``lines``: those of the exception, its type first; empty without one. ``cause``:
    those of the exception that it was raised from. ``after``: lines behind it, the last first. ``before``:
    other lines, the last first. No warnings among them."""

    lines: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    rank: int | None = None  # that died first, of several
    cause: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()  # the last lines of its traceback
    standing: Standing = Standing.FIRST_HAND


class _Raised(NamedTuple):
    lines: tuple[str, ...]
    rank: int | None
    start: int  # number of its traceback's first line
    end: int  # number of the line after it
    cause: tuple[str, ...] = ()  # lines of the exception that it was raised from, if its author says so
    frames: tuple[str, ...] = ()
    standing: Standing = Standing.FIRST_HAND
    chained: bool = False  # raised while the one before was handled


def find(log: str) -> Ending:
    """Return what ended a task, from the end of its log."""
    lines = [_shown(line) for line in log.split("\n")]
    ranks = [_split(line) for line in lines]
    raised = _raised(ranks)
    kept = [text for _, text in ranks]
    root = _ROOT.search("\n".join(kept))
    first = int(root.group(1)) if root else None
    chosen = _choose(raised, first)
    if chosen is None:
        return Ending((), (), _said(kept), first)
    many = first is not None or len({r.rank for r in raised}) > 1
    rank = chosen.rank if chosen.rank is not None else first
    for other in raised:  # what was caught, or ended another process, does not stand beside it
        kept[other.start : other.end] = [""] * (other.end - other.start)
    after, before = kept[chosen.end :], kept[: chosen.end]
    return Ending(
        chosen.lines,
        _said(after),
        _said(before),
        rank if many else None,
        chosen.cause,
        chosen.frames,
        chosen.standing,
    )


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
    last = (line.strip() for line in reversed(lines) if line.strip() and not _noise(line))
    return tuple(islice(last, _NEAR))


def _noise(line: str) -> bool:
    """Return whether a line tells nothing of an end: a warning, or what a training prints as it goes on."""
    warns = _WARNING.search(line) is not None and not _ENDS.search(line)
    return warns or _PROGRESS.search(line) is not None


def _raised(lines: Sequence[tuple[int | None, str]]) -> list[_Raised]:
    """Return the exceptions that tracebacks end with, in order; of several ranks each one's own."""
    endings: list[_Raised] = []
    begun: dict[int | None, int] = {}  # rank -> where the traceback begins that it is inside
    causes: dict[int | None, tuple[str, ...]] = {}  # rank -> what its next exception is raised from
    chained: set[int | None] = set()  # ranks whose next exception was raised while another was handled
    for number, (rank, text) in enumerate(lines):
        if _TRACEBACK.match(text):
            begun[rank] = number
        elif _FRAME.match(text):
            begun.setdefault(rank, number)
        elif rank in begun and _EXCEPTION.match(text) and not _WARNING.match(text):
            start = begun.pop(rank)
            raised = _whole(lines, start, number, rank)
            if not start or not _HARMLESS.match(lines[start - 1][1]):
                endings.append(raised._replace(cause=causes.pop(rank, ()), chained=rank in chained))
            chained.discard(rank)
        elif _CHAIN.match(text) and endings and endings[-1].rank == rank:
            chained.add(rank)
            if _CAUSE.match(text):
                causes[rank] = (*endings[-1].lines, *endings[-1].cause)
    return _judged(endings, lines)


def _judged(exceptions: Sequence[_Raised], lines: Sequence[tuple[int | None, str]]) -> list[_Raised]:
    """Return exceptions with their standings: of chained ones the last is what ended a task, unless it only
    says of another process that it is gone."""
    standings = [_standing(raised, lines) for raised in exceptions]
    for i, raised in enumerate(exceptions[1:], 1):
        first_hand = standings[i] is Standing.FIRST_HAND
        if raised.chained and (first_hand or _EMPTY.match(exceptions[i - 1].lines[0])):
            standings[i - 1] = Standing.CAUGHT
    return [
        raised._replace(standing=standing) for raised, standing in zip(exceptions, standings, strict=True)
    ]


def _whole(lines: Sequence[tuple[int | None, str]], start: int, number: int, rank: int | None) -> _Raised:
    """Return an exception with the further lines of its message."""
    message, end = [lines[number][1].strip()], number + 1
    for end in range(number + 1, min(len(lines), number + _MOST)):
        other, text = lines[end]
        if other != rank:
            continue
        if (
            not text.strip()
            or any(pattern.match(text) for pattern in (_TRACEBACK, _CHAIN, _OTHERS))
            or _WARNING.search(text)
        ):
            break
        message.append(text.strip())
    else:
        end = min(len(lines), number + _MOST)
    frames = [text.strip() for other, text in lines[start:number] if other == rank]
    return _Raised(tuple(message), rank, start, end, frames=tuple(frames[-_FRAMES:]))


def _standing(raised: _Raised, lines: Sequence[tuple[int | None, str]]) -> Standing:
    """Return how far an exception can be what ended the task, by its words and what stands behind it."""
    going_on = (text for rank, text in lines[raised.end :] if rank == raised.rank and _PROGRESS.search(text))
    if len(list(islice(going_on, _SURVIVED))) == _SURVIVED:
        return Standing.CAUGHT
    if any(_LAUNCHER.search(line) for line in raised.lines):
        return Standing.LAUNCHER
    return Standing.PEER if any(_PEER.search(line) for line in raised.lines) else Standing.FIRST_HAND


def _choose(exceptions: Sequence[_Raised], first: int | None) -> _Raised | None:
    """The last exception of the rank that died first, of those that may best be what ended the task."""
    if not exceptions:
        return None
    best = max(raised.standing for raised in exceptions)
    own = [raised for raised in exceptions if raised.standing is best]
    of_first = [raised for raised in own if raised.rank == first and first is not None]
    # Without a launcher's word the first rank that says something is the first that died.
    return of_first[-1] if of_first else [raised for raised in own if raised.rank == own[0].rank][-1]
