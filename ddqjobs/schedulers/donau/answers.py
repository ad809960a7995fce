"""Read the answers of ``dsub`` and ``djob``: taken, refused, log in again, or none of these. Pure.

Exit codes of these commands are undocumented and say nothing here; both streams are read.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from enum import Enum

from ddqjobs.base.process import Completed
from ddqjobs.schedulers.donau.options import DonauDialect
from ddqjobs.schedulers.donau.tables import Cells, cell, details, table, whole_lines

JOB = re.compile(r"\d{1,20}")
TOKEN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_SUBMITTED = re.compile(r"\s*JOBID\s+MESSAGE\s*")
_ROW = re.compile(r"\s*(\d+)\s+(\S.*?)\s*")
# In the message of a row, any of these makes it no success.
_ERROR_WORDS = re.compile(
    r"error|fail|invalid|denied|reject|refus|illegal|exceed|cannot|unable|\bnot\b|\bno\b"
    r"|错误|失败|无效|拒绝|超过|不能|无法|不存在|禁止",
    re.IGNORECASE,
)


class Kind(Enum):
    """The kinds of answers of ``dsub``."""

    TAKEN = "taken"
    REFUSED = "refused"
    LOGIN = "login"
    UNKNOWN = "unknown"


def submitted(done: Completed, dialect: DonauDialect) -> tuple[Kind, str]:
    """(kind, the job's id or the telling line). Taken only if the answer holds exactly one id."""
    ids = set(_ids(done, dialect))
    if len(ids) == 1:
        return Kind.TAKEN, ids.pop()
    answer = first_line(done)
    if ids:
        return Kind.UNKNOWN, f"{len(ids)} job ids: {', '.join(sorted(ids))}"
    line = login(done, dialect)
    if line:
        return Kind.LOGIN, line
    line = matching(done, dialect.patterns.refused)
    if line and not done.timed_out:
        return Kind.REFUSED, line
    return Kind.UNKNOWN, answer


def login(done: Completed, dialect: DonauDialect) -> str:
    """The line that says that the token is missing or expired; empty if none does."""
    return matching(done, dialect.patterns.login)


def nothing(done: Completed, dialect: DonauDialect) -> bool:
    """Return whether the answer says that there is no such job (now, here, for us)."""
    return bool(matching(done, dialect.patterns.nothing))


def rows(done: Completed, dialect: DonauDialect, *more: Sequence[str]) -> list[Cells] | None:
    """The rows of a table with a column of job ids and one of each of ``more``; an empty list if the answer
    says that there are none; None for anything else."""
    table_rows = table(done.stdout, [dialect.columns.job, *more])
    if table_rows is not None:
        return list(table_rows.rows)
    return [] if nothing(done, dialect) else None


def by_job(cells: Iterable[Cells], jobs: Sequence[str], dialect: DonauDialect) -> dict[str, Cells]:
    """Job -> its row, by equal id. A job with two rows that differ in its state has none."""
    asked = set(jobs)
    of_job: dict[str, Cells | None] = {}
    for row in cells:
        job = cell(row, dialect.columns.job)
        if job not in asked:
            continue
        same = job not in of_job or of_job[job] == row
        of_job[job] = row if same else None
    return {job: row for job, row in of_job.items() if row is not None}


def details_of(done: Completed, job: str, dialect: DonauDialect) -> Cells:
    """The details of one job; empty if the answer is about another, or about none."""
    fields = details(done.stdout)
    named = cell(fields, dialect.columns.job)
    return fields if named in ("", job) else {}


def named(cells: Iterable[Cells], token: str, dialect: DonauDialect) -> list[str]:
    """Jobs whose name ends with exactly this token. ``djob -n`` searches fuzzily, so it does not decide."""
    jobs = dict.fromkeys(
        cell(row, dialect.columns.job)
        for row in cells
        if cell(row, dialect.columns.name).rpartition(".")[2] == token
    )
    return [job for job in jobs if JOB.fullmatch(job)]


def whole_name(cells: Iterable[Cells], dialect: DonauDialect) -> int:
    """Return the length of the longest name that ends with a token: names are cut nowhere before it."""
    names = (cell(row, dialect.columns.name) for row in cells)
    return max((len(name) for name in names if TOKEN.fullmatch(name.rpartition(".")[2])), default=0)


def marks(cells: Cells, whole: int, dialect: DonauDialect) -> tuple[str, ...]:
    """Return the word of a job's name that is its submission's token, if it is one of ours. Empty where no
    name is shown, or one that may have been cut: without a token and not shorter than ``whole``."""
    name = cell(cells, dialect.columns.name)
    last = name.rpartition(".")[2]
    return (last,) if TOKEN.fullmatch(last) or 0 < len(name) < whole else ()


def matching(done: Completed, patterns: Sequence[str]) -> str:
    """The first line of either stream that one of these patterns is found in; empty if none is."""
    for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]:
        if any(re.search(pattern, line, re.IGNORECASE) for pattern in patterns):
            return line.strip()[:200]
    return ""


def first_line(done: Completed) -> str:
    """The most telling line of what a command said."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    failed = [line for line in lines if _ERROR_WORDS.search(line)]
    return (failed or lines or ["nothing at all"])[0][:200]


def _ids(done: Completed, dialect: DonauDialect) -> Iterable[str]:
    for text in (done.stdout, done.stderr):
        yield from _json_ids(text)
        lines = text.splitlines()
        for line in lines:
            match = re.search(dialect.patterns.accepted, line, re.IGNORECASE)
            if match and JOB.fullmatch(match[1]):
                yield match[1]
        whole = whole_lines(text)
        for header, row in itertools.pairwise(whole):
            match = _ROW.fullmatch(row) if _SUBMITTED.fullmatch(header) else None
            if match and JOB.fullmatch(match[1]) and not _ERROR_WORDS.search(match[2]):
                yield match[1]


def _json_ids(text: str) -> Iterable[str]:
    for line in [text, *text.splitlines()]:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        data = said.get("data") if isinstance(said, dict) and said.get("code") == "success" else None
        job = data.get("jobId") if isinstance(data, dict) else None
        if isinstance(job, str | int) and not isinstance(job, bool) and JOB.fullmatch(str(job)):
            yield str(job)
