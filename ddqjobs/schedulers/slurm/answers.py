"""What Slurm's commands print becomes rows. Pure, and strict: an answer that is cut short, or that is not
what was asked for, is no answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ddqjobs.base.errors import SchedulerError

# Between columns: it cannot occur in what we ask for, and `sacct -P` does not escape its own `|`.
SEPARATOR = "\x1f"
# What `squeue` and `sacct` are asked for. The header line is asked for too: it proves that there is an answer
# where there is no row, which silence does not.
QUEUE_FORMAT = SEPARATOR.join(("%i", "%T", "%r", "%N"))
QUEUE_HEADER = SEPARATOR.join(("JOBID", "STATE", "REASON", "NODELIST"))
TOKENS_FORMAT = SEPARATOR.join(("%i", "%j", "%k"))
TOKENS_HEADER = SEPARATOR.join(("JOBID", "NAME", "COMMENT"))
ACCOUNTING_FIELDS = ("JobID", "State", "Reason", "NodeList", "ExitCode")
TOKEN_FIELDS = ("JobID", "JobName", "Comment")

JOB = re.compile(r"(\d+)(?:_(\d+))?")
_ARRAY = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_ACCEPTED = re.compile(r"(\d+)(?:;[\w.-]+)?\n?")
_NO_NODE = ("", "None assigned", "(null)")


class Row(NamedTuple):
    """What one command says of one job."""

    state: str  # in Slurm's words
    reason: str
    node: str  # a node list; empty before the job has one
    exit: str = ""  # CODE:SIGNAL


class UnreadableError(SchedulerError):
    """The command succeeded and said something else than it was asked for."""


def accepted(text: str) -> str | None:
    """The job id that ``sbatch --parsable`` printed; None if it printed anything else."""
    match = _ACCEPTED.fullmatch(text)
    return match[1] if match else None


def queue(text: str) -> dict[str, Row]:
    """Job -> row of ``squeue --array`` with QUEUE_FORMAT. Raises UnreadableError."""
    rows: dict[str, Row] = {}
    for job, state, reason, node in _table(text, QUEUE_HEADER, "squeue"):
        for one in expand(job):
            rows[one] = Row(state, reason, "" if node in _NO_NODE else node)
    return rows


def accounting(text: str) -> dict[str, Row]:
    """Job -> row of ``sacct -X -P`` with ACCOUNTING_FIELDS. Raises UnreadableError."""
    rows: dict[str, Row] = {}
    for job, state, reason, node, code in _table(text, SEPARATOR.join(ACCOUNTING_FIELDS), "sacct"):
        for one in expand(job):
            rows[one] = Row(state, reason, "" if node in _NO_NODE else node, code)
    return rows


def with_token(text: str, token: str, header: str, command: str) -> list[str]:
    """Jobs whose comment is exactly this token, or whose name ends with it: accounting keeps comments only
    where it was told to (``AccountingStoreFlags=job_comment``), and what a site does at submission may change
    either. Other people's scripts may put anything into both, even line ends, so that only the header is held
    to its form. Raises UnreadableError."""
    rows = (line.split(SEPARATOR, 2) for line in _lines(text, header, command))
    return [job for row in rows if _has(row, token) for job in _ours(row[0])]


def _has(row: list[str], token: str) -> bool:
    """Whether a row of (job, name, comment) has the token."""
    return len(row) == 3 and (row[2] == token or row[1].rpartition(".")[2] == token)


def _ours(job: str) -> list[str]:
    try:
        return expand(job)
    except UnreadableError:  # the second line of somebody's comment
        return []


def expand(job: str) -> list[str]:
    """Single jobs of a job or array expression: ``20_[2-3,7%4]`` -> ``20_2``, ``20_3``, ``20_7``.

    Raises UnreadableError for anything else.
    """
    if JOB.fullmatch(job):
        return [job]
    array = _ARRAY.fullmatch(job)
    if array is None:
        raise UnreadableError(f"{job[:80]!r} is no job id")
    return [f"{array[1]}_{index}" for index in _indices(array[2])]


def _indices(text: str) -> Iterator[int]:
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is None:
            raise UnreadableError(f"{text[:80]!r} is no list of array indices")
        first, last, step = match[1], match[2] or match[1], match[3] or "1"
        yield from range(int(first), int(last) + 1, max(1, int(step)))


def _lines(text: str, header: str, command: str) -> list[str]:
    """The lines below the header. One that is not ended was cut off."""
    if not text.endswith("\n"):
        raise UnreadableError(f"{command}: the answer is cut off or empty: {text[-80:]!r}")
    first, *rest = text.split("\n")[:-1]
    if first != header:
        raise UnreadableError(f"{command}: the answer cannot be read: it begins with {first[:80]!r}")
    return rest


def _table(text: str, header: str, command: str) -> Iterator[list[str]]:
    width = header.count(SEPARATOR) + 1
    for line in _lines(text, header, command):
        fields = line.split(SEPARATOR)
        if len(fields) != width:
            raise UnreadableError(f"{command}: the answer cannot be read: {line[:80]!r}")
        yield fields
