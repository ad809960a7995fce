"""Tell why an attempt failed, by its exit code and the end of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ddqjobs.detect.job import exit_codes
from ddqjobs.planning import causes, endings
from ddqjobs.spec.model import FailureClass

# What a machine does to a run, whatever the run is: no statement about the method. Not among these: an
# unknown reason and the user's own cancelling, which may both hide a result that nobody liked.
INFRASTRUCTURE = frozenset(
    {
        FailureClass.PREEMPTED,
        FailureClass.TIMEOUT,
        FailureClass.NODE,
        FailureClass.STORAGE,
        FailureClass.NETWORK,
        FailureClass.LIMIT,
        FailureClass.HANG,
        FailureClass.OUT_OF_MEMORY,
    }
)

# Failures that may be the fault of a node: two different runs make it one that is kept away from. A port that
# another process has, a file server or a limit of the site are none.
SUSPECT = frozenset({FailureClass.NODE, FailureClass.HANG})

_TAIL = 32 << 10  # characters of a log that are looked at
_BUS_ERROR = 128 + 7
# torchrun's table of failed processes, which itself exits with 1.
_KILLED_RANK = re.compile(
    r"^ *exitcode +: -9 |Signal 9 \(SIGKILL\) received by PID|\(exitcode: -9\)", re.MULTILINE
)
_THROWN = re.compile(r"^  what\(\): +(.+)", re.MULTILINE)  # what a C++ program says before it aborts
_BUS_RANK = re.compile(r"^ *exitcode +: -7 |Signal 7 \(SIGBUS\) received by PID", re.MULTILINE)

NOT_SAVED = f"ended with code {exit_codes.STOPPED}, and without a new checkpoint"

# Exit codes of the launch script itself. A task may end with any of them and mean something else.
EXIT_CODES: dict[int, tuple[FailureClass, str]] = {
    exit_codes.NO_INPUT: (FailureClass.DATA, "an input is missing"),
    exit_codes.NO_ENVIRONMENT: (FailureClass.ENVIRONMENT, "the environment's interpreter is missing"),
    exit_codes.NO_ROOM: (
        FailureClass.STORAGE,
        "the results folder could not be written: look at its room, inodes, quota (`df -h`, `df -i`) and "
        "permissions, and whether its file system knows hard links",
    ),
    exit_codes.BROKEN: (FailureClass.NO_PRODUCT, "it exited 0 without leaving its product"),
    exit_codes.STOPPED: (FailureClass.TIMEOUT, "stopped before its time limit or by preemption"),
    exit_codes.NOT_MINE: (FailureClass.CANCELLED, "its ticket was voided before it started"),
    exit_codes.CHANGED: (FailureClass.CODE, "the code tree has changed since the run was submitted"),
}


def classify(exit_code: int, log_tail: str) -> tuple[FailureClass, str]:
    """(class, reason in words) of a task that ended with a non-zero ``exit_code``.

    137 is the kernel's or a scheduler's KILL.
    """
    # What the job says when it looks for the product of a task that failed is no reason. The task may have
    # left its last line open.
    log_tail = re.sub(r"product: none: .*\n?", "\n", log_tail)[-_TAIL:]
    ending = endings.find(log_tail)
    cause, line = _cause(ending)
    who = f"exit {exit_code}" if ending.rank is None else f"exit {exit_code}, rank {ending.rank} first"
    if cause is not None:
        return cause.failure, f"{cause.begin}{who}: {line[:160]}"
    if exit_code == _BUS_ERROR or _BUS_RANK.search(log_tail):
        return (
            FailureClass.LIMIT,
            "ended by signal 7: shared memory (/dev/shm) is full",
        )
    if exit_code == 137 or _KILLED_RANK.search(log_tail):
        return FailureClass.UNKNOWN, "killed (signal 9): out of memory, or ended by the system"
    thrown = _THROWN.findall(log_tail)
    if thrown:
        return FailureClass.CODE, f"{who}: {thrown[-1].strip()[:160]}"
    if by_signal(exit_code):
        return FailureClass.UNKNOWN, signal_words(exit_code)
    return FailureClass.CODE, f"{who}: {line[:160]}" if line else who


def _cause(ending: endings.Ending) -> tuple[causes.Cause | None, str]:
    """The cause and the line that shows it; without a cause the line that ended the task.

    What a system says behind an exception counts before it (who was killed fails in odd ways), the exception
    itself before what stands above it, and of that only what no later line can take back.
    """
    sure = _sure(ending.after) or _sure(ending.lines) or (None if ending.lines else _sure(ending.before))
    if sure is not None:
        return sure
    if not ending.lines:
        said = ((causes.of(line), line) for line in ending.before)
        return next((s for s in said if s[0] is not None), (None, next(iter(ending.before), "")))
    for line in (*ending.lines, *ending.cause):
        cause = causes.of(line)
        if cause is not None:
            return cause, line
    by_kind = causes.of(ending.lines[0], causes.KINDS)
    return _sure(ending.before) or (by_kind, ending.lines[0])


def _sure(lines: Iterable[str]) -> tuple[causes.Cause, str] | None:
    """The first line that tells a cause whatever else is said."""
    for line in lines:
        cause = causes.of(line)
        if cause is not None and cause.sure:
            return cause, line
    return None


def by_signal(exit_code: int) -> bool:
    """Return whether bash means a signal by it: 129 to 159. ``sys.exit(-1)`` is 255."""
    return 128 < exit_code <= 128 + 31


def signal_words(exit_code: int) -> str:
    """``"ended by signal 15"`` for an exit code that means a signal."""
    return f"ended by signal {exit_code - 128}"
