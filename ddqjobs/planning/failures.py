"""Tell why an attempt failed, by its exit code and the end of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ddqjobs.detect.job import exit_codes
from ddqjobs.planning import causes, endings
from ddqjobs.planning.endings import Standing
from ddqjobs.planning.known import errnos
from ddqjobs.planning.known.cause import Cause, Weight
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
# Launchers, which themselves exit with 1, name the signals of their processes.
_SIGNAL_OF_RANK = re.compile(
    r"^ *exitcode +: -(\d+) |Signal (\d+) \(SIG\w+\) received by PID|\(exitcode: -(\d+)\)|"
    r"exited on signal (\d+)",
    re.MULTILINE,
)
_TERMINATED = 15  # those that are left are ended by it
_KILLED = 9
# Signals that say why, as the number of bash's exit code or of a launcher's table.
SIGNALS: dict[int, tuple[FailureClass, str]] = {
    4: (FailureClass.ENVIRONMENT, "ended by signal 4 (illegal instruction), built for another processor"),
    7: (FailureClass.LIMIT, "ended by signal 7, shared memory (/dev/shm) is full"),
    9: (FailureClass.UNKNOWN, "killed (signal 9), out of memory or ended by the system"),
    10: (FailureClass.PREEMPTED, "ended from outside by signal 10"),
    12: (FailureClass.PREEMPTED, "ended from outside by signal 12"),
    24: (FailureClass.LIMIT, "ended by signal 24, over its limit of processor time"),
    25: (FailureClass.LIMIT, "ended by signal 25, a file over the limit of size"),
}
_NOT_EXECUTED = frozenset({126, 127})  # bash's: not executable, not found
# Of a step whose task ended by itself Slurm ends the rest.
_EXITED = re.compile(r"Exited with exit code [1-9]|exitcode +: [1-9]|Non-zero exit code")
# A program that writes, by the lines of its traceback or by its name.
_WRITES = re.compile(
    r"torch\.save|save_checkpoint|\bmk(?:dirs?|temp|stemp|dtemp)|\.dump\(|"
    r"open\([^)]*,\s*(?:mode=)?['\"][wax]|\.write(?:_\w+)?\(|"
    r"to_csv|savefig|imwrite|copy(?:file|tree|2)?\(|\.move\(|rmtree|os\.(?:rename|replace|remove|unlink|"
    r"link|symlink)|"
    r"FileHandler|SummaryWriter|event_file_writer|\.symlink_to|\.touch\("
)
_WRITES_IN_SHELL = re.compile(
    r"\b(?:mkdir|touch|tee|mv|ln|rsync|install|rm|dd): |cannot create|error writing|cannot (?:touch|"
    r"remove|move)|failed to (?:write|create|save)"
)
_SHORT = re.compile(r"No space left on device")  # of room, or of inodes: the disk itself says which
_THROWN = re.compile(r"^  what\(\): +(.+)", re.MULTILINE)  # what a C++ program says before it aborts

_Shown = tuple[Cause, str]  # a cause, and the line that shows it

# Classes that an exception's type or a lost connection stands for: what stands beside it may know more.
_LOOSE = frozenset({FailureClass.NETWORK, FailureClass.NODE, FailureClass.PREEMPTED, FailureClass.HANG})

NOT_SAVED = f"ended with code {exit_codes.STOPPED}, and without a new checkpoint"

# Exit codes of the launch script itself. A task may end with any of them and mean something else.
EXIT_CODES: dict[int, tuple[FailureClass, str]] = {
    exit_codes.NO_INPUT: (FailureClass.DATA, "an input is missing"),
    exit_codes.NO_ENVIRONMENT: (
        FailureClass.ENVIRONMENT,
        "a setup line or a module of the site failed, or the environment's interpreter is missing",
    ),
    exit_codes.NO_ROOM: (
        FailureClass.STORAGE,
        "the results folder could not be written, look at its room, inodes, quota (`df -h`, `df -i`) and "
        "permissions, and whether its file system knows hard links",
    ),
    exit_codes.BROKEN: (FailureClass.NO_PRODUCT, "it exited 0 without leaving its product"),
    exit_codes.STOPPED: (FailureClass.TIMEOUT, "stopped before its time limit or by preemption"),
    exit_codes.NOT_MINE: (FailureClass.CANCELLED, "its ticket was voided before it started"),
    exit_codes.CHANGED: (FailureClass.CODE, "the code tree has changed since the run was submitted"),
}


def no_room(tail: str, disk: str) -> str:
    """Return why a script could not write the results, by the ``tail`` of its output; where that does not
    tell by the state of the ``disk`` now; else all that it may be."""
    generic = EXIT_CODES[exit_codes.NO_ROOM][1]
    what = generic.partition(":")[0]
    line = next((line for line in reversed(tail.splitlines()) if line.strip()), "").strip(": ")
    if "no hard link can be made" in line:
        return f"{what}: no hard links there, choose a file system that has them (site key `results:`)"
    cause = errnos.of(line, writes=True)
    if cause is None or (disk and _SHORT.search(line)):
        return f"{what}: {disk}" if disk else generic
    return f"{what}: {cause.begin}: {line[:160]}"


def classify(exit_code: int, log_tail: str) -> tuple[FailureClass, str]:
    """(class, reason in words) of a task that ended with a non-zero ``exit_code``.

    137 is the kernel's or a scheduler's KILL.
    """
    # What the job says when it looks for the product of a task that failed is no reason. The task may have
    # left its last line open.
    log_tail = re.sub(r"product: none: .*\n?", "\n", log_tail)[-_TAIL:]
    ending = endings.find(log_tail)
    cause, line = _cause(ending, exit_code)
    who = f"exit {exit_code}" if ending.rank is None else f"exit {exit_code}, rank {ending.rank} first"
    reason = _reason("" if cause is None else cause.begin, who, line)
    if exit_code in _NOT_EXECUTED and not ending.lines and (cause is None or cause.weight < Weight.SURE):
        return FailureClass.ENVIRONMENT, _reason("", who, line)
    signal = _signal(exit_code, log_tail)
    by_itself = bool(ending.lines) and ending.standing is Standing.FIRST_HAND
    lost = cause is None or cause.failure is FailureClass.UNKNOWN or cause.pattern is causes.LOST.pattern
    if by_itself or not (signal and lost):
        return FailureClass.CODE if cause is None else cause.failure, reason
    thrown = _THROWN.findall(log_tail)
    if signal not in SIGNALS and thrown:
        return FailureClass.CODE, _reason("", who, thrown[-1].strip())
    return SIGNALS.get(signal, (FailureClass.UNKNOWN, signal_words(128 + signal)))


def _reason(begin: str, who: str, line: str) -> str:
    """Return the words of a reason. They have no colon: one stands between a class and its reason, and lines
    that are quoted have their own."""
    return ", ".join(filter(None, (f"{begin} ({who})" if begin else who, line[:160])))


def _signal(exit_code: int, log_tail: str) -> int:
    """The signal that ended a task or the first of its processes; 0 for none."""
    ranks = [int(next(filter(None, groups))) for groups in _SIGNAL_OF_RANK.findall(log_tail)]
    first = next((signal for signal in ranks if signal != _TERMINATED), ranks[0] if ranks else 0)
    if exit_code < 0:
        return -exit_code
    return exit_code - 128 if by_signal(exit_code) else first


def _cause(ending: endings.Ending, exit_code: int) -> tuple[Cause | None, str]:
    """The cause and the line that shows it; without a cause the line that ended the task.

    What schedulers, the kernel and hardware say counts before all else (who was killed fails in odd ways),
    then the exception itself, by its words, by where it was raised and by its type, and of what stands beside
    it only what nothing takes back. An exception that is a consequence counts after what stands beside it.
    """
    beside = (*ending.after, *ending.before)
    sure = _heaviest(beside, Weight.SURE) or _heaviest(ending.lines, Weight.SURE)
    if sure is not None:
        return sure
    if not ending.lines:
        return _nearest(ending.before)
    if ending.standing is Standing.CAUGHT and by_signal(exit_code):
        return _nearest(beside)
    own = _own(ending)
    if own is not None and (ending.standing is Standing.FIRST_HAND or not by_signal(exit_code)):
        return own if ending.standing is Standing.FIRST_HAND else _heaviest(beside, Weight.PLAIN) or own
    weak = _weak(ending)
    if ending.standing is Standing.FIRST_HAND and weak is None:
        return _heaviest(beside, Weight.FIRM) or (None, ending.lines[0])
    return _consequence(ending, weak)


def _consequence(ending: endings.Ending, weak: _Shown | None) -> _Shown | tuple[None, str]:
    """The cause beside an exception that is a consequence, or tells only by its type."""
    beside = (*ending.after, *ending.before)
    near = _heaviest(beside, Weight.PLAIN if weak is None or weak[0].failure in _LOOSE else Weight.FIRM)
    if near is not None:
        return near
    other = _heaviest(beside, Weight.WEAK)
    if other is not None and (weak is None or other[0].failure is FailureClass.HANG):
        return other
    return weak or _last(beside) or (None, ending.lines[0])


def _own(ending: endings.Ending) -> _Shown | None:
    """The cause that the words of an exception tell, or the place where it was raised."""
    writes = any(_WRITES.search(frame) for frame in ending.frames)
    placed = causes.of_place(ending.lines[0], ending.frames)
    if placed is not None:
        return placed, ending.lines[0]
    return _heaviest((*ending.lines, *ending.cause), Weight.PLAIN, writes=writes)


def _weak(ending: endings.Ending) -> _Shown | None:
    """The cause that an exception tells as a consequence, or by its type alone."""
    shown = _heaviest(ending.lines, Weight.LAST)
    by_kind = causes.of_kind(ending.lines[0])
    return shown or (None if by_kind is None else (by_kind, ending.lines[0]))


def _nearest(lines: Sequence[str]) -> _Shown | tuple[None, str]:
    """The cause that lines without a traceback tell, the last first."""
    kinds = ((causes.of_kind(line), line) for line in lines)
    by_kind = next(((kind, line) for kind, line in kinds if kind is not None), None)
    shown = _heaviest(lines, Weight.PLAIN) or _heaviest(lines, Weight.WEAK) or by_kind or _last(lines)
    return shown or (None, next(iter(lines), ""))


def _last(lines: Sequence[str]) -> _Shown | None:
    """Return what was done to a task from outside, unless it ended by itself before."""
    return None if any(_EXITED.search(line) for line in lines) else _heaviest(lines, Weight.LAST)


def _heaviest(lines: Iterable[str], least: Weight, *, writes: bool = False) -> _Shown | None:
    """The first line that tells a cause of at least some weight."""
    for line in lines:
        cause = causes.meaning(line, writes=writes or _WRITES_IN_SHELL.search(line) is not None)
        if cause is not None and cause.weight >= least:
            return cause, line
    return None


def by_signal(exit_code: int) -> bool:
    """Return whether bash means a signal by it: 129 to 159. ``sys.exit(-1)`` is 255."""
    return 128 < exit_code <= 128 + 31


def signal_words(exit_code: int) -> str:
    """``"ended by signal 15"`` for an exit code that means a signal."""
    return f"ended by signal {exit_code - 128}"
