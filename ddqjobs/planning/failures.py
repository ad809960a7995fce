"""Why an attempt failed, from its exit code and the end of its log; and what is done about it. Pure."""

from __future__ import annotations

import re

from ddqjobs.detect.job import exit_codes
from ddqjobs.spec.model import FailureClass

# How often a run is started again after failures of a class, beyond its first start. A class that says
# that the run itself is wrong (code, data, environment, ...) has none: a retry would only burn GPU hours.
BUDGETS: dict[FailureClass, int] = {
    FailureClass.PREEMPTED: 20,
    FailureClass.TIMEOUT: 10,
    FailureClass.NODE: 3,
    FailureClass.STORAGE: 3,
    FailureClass.HANG: 2,
    FailureClass.UNKNOWN: 1,
    FailureClass.OUT_OF_MEMORY: 0,
    FailureClass.ENVIRONMENT: 0,
    FailureClass.DATA: 0,
    FailureClass.CODE: 0,
    FailureClass.DIVERGED: 0,
    FailureClass.CANCELLED: 0,
    FailureClass.NO_PRODUCT: 0,
}

# What a machine does to a run, whatever the run is: no statement about the method. Not among these: an
# unknown reason and the user's own cancelling, which may both hide a result that nobody liked.
INFRASTRUCTURE = frozenset(
    {
        FailureClass.PREEMPTED,
        FailureClass.TIMEOUT,
        FailureClass.NODE,
        FailureClass.STORAGE,
        FailureClass.HANG,
        FailureClass.OUT_OF_MEMORY,
    }
)

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

# Class, what the reason begins with, and what a line of the log holds; the first that fits.
_PATTERNS: tuple[tuple[FailureClass, str, str], ...] = (
    (
        FailureClass.OUT_OF_MEMORY,
        "GPU memory: ",
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError",
    ),
    (
        FailureClass.OUT_OF_MEMORY,
        "host memory: ",
        r"Cannot allocate memory|MemoryError|oom-kill|Out Of Memory",
    ),
    (
        FailureClass.NODE,
        "",
        r"uncorrectable ECC|no CUDA-capable device|busy or unavailable|GPU is lost|fallen off the bus|"
        r"Input/output error|Transport endpoint is not connected",
    ),
    (FailureClass.STORAGE, "no room on a disk, free some: ", r"No space left on device|\[Errno 28\]"),
    (FailureClass.STORAGE, "over quota, free some space: ", r"[Qq]uota exceeded|\[Errno 122\]"),
    (FailureClass.STORAGE, "a disk is read-only, mount it anew: ", r"Read-only file system|\[Errno 30\]"),
    (
        FailureClass.STORAGE,
        "a lost file server, mount it anew: ",
        r"Stale (?:NFS )?file handle|Errno 116\b",
    ),
    (
        FailureClass.ENVIRONMENT,
        "",
        r"ModuleNotFoundError|ImportError|undefined symbol|cannot open shared object",
    ),
    (FailureClass.DATA, "", r"FileNotFoundError|json\.decoder\.JSONDecodeError|No such file or directory"),
    (
        FailureClass.DIVERGED,
        "",
        r"[Ll]oss is (?:nan|inf)|loss become infinite|FloatingPointError|NaN or Inf|"
        # SciPy, asked to match queries and objects by costs that are no numbers: before there is a loss.
        r"matrix contains invalid numeric entries|cost matrix is infeasible",
    ),
)


# Shared memory, which is no disk of the results.
_IN_MEMORY = re.compile(r"/dev/shm|/torch_\d")

# torchrun's table of failed processes, which itself exits with 1.
_KILLED_RANK = re.compile(r"^ *exitcode +: -9 |Signal 9 \(SIGKILL\) received by PID", re.MULTILINE)


def classify(exit_code: int, log_tail: str) -> tuple[FailureClass, str]:
    """(class, reason in words) of a task that ended with a non-zero ``exit_code``.

    137 is the kernel's or a scheduler's KILL.
    """
    # What the job says when it looks for the product of a task that failed is no reason. The task may have
    # left its last line open.
    log_tail = re.sub(r"product: none: .*\n?", "\n", log_tail)
    for failure, begin, pattern in _PATTERNS:
        lines = re.findall(rf"^.*(?:{pattern}).*$", log_tail[-8192:], re.MULTILINE)
        lines = [line for line in lines if failure is not FailureClass.STORAGE or not _IN_MEMORY.search(line)]
        if lines:
            return failure, f"{begin}exit {exit_code}: {lines[-1].strip()[:160]}"
    if exit_code == 137 or _KILLED_RANK.search(log_tail[-8192:]):
        return FailureClass.UNKNOWN, "killed (signal 9): out of memory, or ended by the system"
    if by_signal(exit_code):
        return FailureClass.UNKNOWN, signal_words(exit_code)
    lines = [line.strip() for line in log_tail.splitlines() if line.strip()]
    last = f": {lines[-1][:160]}" if lines else ""
    return FailureClass.CODE, f"exit {exit_code}{last}"


def by_signal(exit_code: int) -> bool:
    """Whether bash means a signal by it: 129 to 159. ``sys.exit(-1)`` is 255."""
    return 128 < exit_code <= 128 + 31


def signal_words(exit_code: int) -> str:
    """``"ended by signal 15"`` for an exit code that means a signal."""
    return f"ended by signal {exit_code - 128}"
