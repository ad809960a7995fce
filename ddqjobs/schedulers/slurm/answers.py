"""Turn the output of Slurm's commands into rows. Pure, and strict: an answer that is cut short, or that is
not what was asked for, is no answer. Rows that cannot be of a job of ours are passed over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from ddqjobs.base.errors import SchedulerError

# Between columns: `sacct -P` does not escape its own `|`.
SEPARATOR = "\x1f"
# What `squeue` and `sacct` are asked for. The header line is asked for too: it proves that there is an answer
# where there is no row, which silence does not. Name and comment come last: other people's scripts may put
# anything into both, even line ends.
QUEUE_FORMAT = SEPARATOR.join(("%i", "%T", "%r", "%N", "%j", "%k"))
QUEUE_HEADER = SEPARATOR.join(("JOBID", "STATE", "REASON", "NODELIST", "NAME", "COMMENT"))
WAITING_FORMAT = SEPARATOR.join(("%i", "%E", "%j", "%k"))
WAITING_HEADER = SEPARATOR.join(("JOBID", "DEPENDENCY", "NAME", "COMMENT"))
ACCOUNTING_FIELDS = ("JobID", "State", "Reason", "NodeList", "ExitCode", "JobName", "Comment")

JOB = re.compile(r"(\d+)(?:_(\d+))?")
_ARRAY = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
# Accounting cuts a long list of waiting elements short where SLURM_BITSTR_LEN is not 0.
_CUT_SHORT = re.compile(r"(\d+)_\[[\d,:-]*\.\.\..*")
_TOKEN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")  # of a submission of ours
_ACCEPTED = re.compile(r"(\d+)(?:;[\w.-]+)?")
_NO_NODE = ("", "None assigned", "(null)")
_NAMELESS = ("", "allocation")  # accounting's name of a job whose submission it has not heard of yet


class Row(NamedTuple):
    """The words of one command about one job."""

    state: str  # in Slurm's words
    reason: str
    node: str  # a node list; empty before the job has one
    exit: str = ""  # CODE:SIGNAL
    name: str = ""
    comment: str = ""

    @property
    def marks(self) -> tuple[str, str]:
        """The words that may be the token of its submission: the comment, and the end of the name. Accounting
        keeps comments only where it was told to (``AccountingStoreFlags=job_comment``), and what a site does
        at submission may change either."""
        return self.comment, self.name.rpartition(".")[2]

    @property
    def nameless(self) -> bool:
        """Return whether accounting does not say yet whose job it is."""
        return self.name in _NAMELESS and not self.comment


class UnreadableError(SchedulerError):
    """The command succeeded and said something else than it was asked for."""


def accepted(text: str) -> str | None:
    """The job id that ``sbatch --parsable`` printed, also behind a site's greeting; None if it printed none
    or several."""
    matches = [match for line in text.splitlines() if (match := _ACCEPTED.fullmatch(line.strip()))]
    return matches[0][1] if len(matches) == 1 else None


def queue(text: str) -> dict[str, Row]:
    """Job -> row of ``squeue --array`` with QUEUE_FORMAT. Raises UnreadableError."""
    rows: dict[str, Row] = {}
    for jobs, (state, reason, node, name, comment) in _table(text, QUEUE_HEADER, "squeue", width=5):
        row = Row(state, reason, "" if node in _NO_NODE else node, "", name, comment)
        rows.update(dict.fromkeys(jobs, row))
    return rows


def waiting(text: str) -> dict[str, Row]:
    """Job -> row of ``squeue --array`` with WAITING_FORMAT; the reason is what it waits for, empty for
    nothing. Raises UnreadableError."""
    rows: dict[str, Row] = {}
    for jobs, (after, name, comment) in _table(text, WAITING_HEADER, "squeue", width=3):
        row = Row("PENDING", "" if after == "(null)" else after, "", "", name, comment)
        rows.update(dict.fromkeys(jobs, row))
    return rows


def accounting(text: str) -> dict[str, Row]:
    """Job -> row of ``sacct -X -P`` with ACCOUNTING_FIELDS. Raises UnreadableError."""
    rows: dict[str, Row] = {}
    header = SEPARATOR.join(ACCOUNTING_FIELDS)
    for jobs, (state, reason, node, code, name, comment) in _table(text, header, "sacct", width=6):
        row = Row(state, reason, "" if node in _NO_NODE else node, code, name, comment)
        rows.update(dict.fromkeys(jobs, row))
    return rows


def row_of(rows: Mapping[str, Row], job: str) -> Row | None:
    """Return what is said of a job. The bare number of an array covers its elements that have no row: so an
    array is shown that was cancelled before any of them started."""
    row = rows.get(job)
    return rows.get(job.partition("_")[0]) if row is None else row


def with_token(rows: Mapping[str, Row], token: str) -> list[str]:
    """Return the jobs that carry exactly this token."""
    return [job for job, row in rows.items() if token in row.marks]


def twins(rows: Mapping[str, Row], jobs: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return job -> other jobs of the same token and element: a site's own ``sbatch`` may submit twice."""
    alike: dict[tuple[str, str], list[str]] = {}
    for job, row in rows.items():
        token = next((mark for mark in row.marks if _TOKEN.fullmatch(mark)), "")
        if token:
            alike.setdefault((token, job.partition("_")[2]), []).append(job)
    several = [group for group in alike.values() if len(group) > 1]
    return {job: tuple(j for j in group if j != job) for group in several for job in group if job in jobs}


def expand(job: str) -> list[str]:
    """Single jobs of a job or array expression: ``20_[2-3,7%4]`` -> ``20_2``, ``20_3``, ``20_7``. None for
    what ddqjobs never submits: components of heterogeneous jobs (``123+0``), steps, ``?``."""
    if JOB.fullmatch(job):
        return [job]
    array = _ARRAY.fullmatch(job)
    if array is not None:
        return [f"{array[1]}_{index}" for index in _indices(array[2])]
    cut = _CUT_SHORT.fullmatch(job)
    return [cut[1]] if cut else []


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


def _table(text: str, header: str, command: str, *, width: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (jobs, the other columns) of each row that may be ours. A name with a line end, which is never
    ours, hides the comment, so that the last column may be missing."""
    for line in _lines(text, header, command):
        job, *fields = line.split(SEPARATOR, width)
        jobs = expand(job)
        if jobs and len(fields) < width - 1:
            raise UnreadableError(f"{command}: the answer cannot be read: {line[:80]!r}")
        if jobs:
            yield jobs, [*fields, ""][:width]
