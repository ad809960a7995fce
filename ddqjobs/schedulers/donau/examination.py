"""Examine Donau's commands and their answers about jobs, for `ddqjobs doctor`. Nothing is submitted or
changed.

Each answer settles something that docs/reference/donau.md only infers or assumes. So all are recorded in the
project, without names (:mod:`~ddqjobs.schedulers.donau.record`), and compared with what the site file says.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ddqjobs.base import process
from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.base.masking import masked
from ddqjobs.schedulers.backend import Surroundings
from ddqjobs.schedulers.donau import answers, generation, record
from ddqjobs.schedulers.donau.options import DonauDialect, of
from ddqjobs.schedulers.donau.record import Asked
from ddqjobs.schedulers.donau.scheduler import commands_are_here, environment
from ddqjobs.schedulers.donau.tables import cell
from ddqjobs.schedulers.pace import Pace
from ddqjobs.spec.site import Site

_ASK_S = 60.0
_NO_TOKEN = "20000101-000000-00000000"  # of no submission: what does djob say of a job that is not there?
_AGAIN = "then run `ddqjobs doctor` again"


class Context(NamedTuple):
    """Facts of the project: the site, the dialects of all sites by their names, names that nobody else needs
    to see, and the jobs that were submitted to this site (id -> token, the newest last)."""

    site: Site
    dialects: Mapping[str, DonauDialect]
    names: Sequence[str]
    jobs: Mapping[str, str]

    @property
    def dialect(self) -> DonauDialect:
        """The site's own."""
        return self.dialects[self.site.name]


def context(site: Site, surroundings: Surroundings) -> Context:
    """Return what is needed to examine a site."""
    dialects = {site.name: of(site).dialect}
    for name, other in surroundings.sites().items():
        dialects.setdefault(name, of(other).dialect)
    me, host = surroundings.user, socket.gethostname()
    names = (me, host, host.partition(".")[0], of(site).account.replace("{user}", me))
    spoken = {name: dialect for name, dialect in dialects.items() if dialect is not None}
    return Context(site, spoken, names, surroundings.jobs())


def examine(context: Context, folder: Path) -> Iterator[Line]:
    """Asks, says what does not fit, and records the answers in a new folder below ``folder``."""
    if not commands_are_here():
        yield error(
            "scheduler", "there is no djob here, so this is no login node of a Donau cluster",
            "load Donau's commands, or choose another --site",
        )  # fmt: skip
        return
    began = time.monotonic()
    asked = list(_ask(context))
    belief = generation.believed(list(context.dialects.values()), _helps(context, asked))
    yield _reachable(context, asked, time.monotonic() - began)
    yield _generation(context, belief)
    yield from _options(context, asked)
    about_jobs = [one for one in asked if one.question is not None and not _over(context, one)]
    wrong = [line for one in about_jobs for line in _unread(context, one)]
    yield from dict.fromkeys(wrong)
    if about_jobs and not wrong:
        yield ok("answers", f"{len(about_jobs)} answers about jobs can be read")
    yield warning(
        "limits", "queue, limits and nodes cannot be asked of Donau",
        "compare the site file with `ddqjobs docs donau`; `submit --dry-run` shows the scripts",
    )  # fmt: skip
    yield _record(context, folder, asked, _generation(context, belief).found)


def _ask(context: Context) -> Iterator[Asked]:
    """All answers; one that is late, or that asks for a login, is the last."""
    for one in _questions(context):
        yield one
        if _over(context, one):
            return


def _questions(context: Context) -> Iterator[Asked]:
    dialect, pace = context.dialect, Pace(context.site.limits.calls_per_minute)
    signs = [line.split() for other in context.dialects.values() for line in other.signs]
    helps = [*dialect.help, *(argv for argv in signs if "--help" in argv)]
    for argv in dict.fromkeys(tuple(argv) for argv in helps):
        pace.wait()
        yield Asked(" ".join(argv), None, "", process.run(argv, timeout=_ASK_S, env=environment()))
    job, before = "", set[str]()
    for question in (dialect.all, *dialect.find, *dialect.ask):
        text = " ".join(question.argv)
        if text in before or (not job and "{job" in text):
            continue
        before.add(text)
        values = {"{job}": job, "{jobs}": job, "{token}": context.jobs.get(job, _NO_TOKEN)}
        argv = tuple(_filled(word, values) for word in question.argv)
        pace.wait()
        one = Asked(text, question, job, process.run(argv, timeout=_ASK_S, env=environment()))
        yield one
        if question is dialect.all:
            job = _example(context, one.done)


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _example(context: Context, listed: process.Completed) -> str:
    """A job to ask about: ours that is listed, any that is listed, ours; empty if there is none."""
    rows = answers.rows(listed, context.dialect, context.dialect.columns.state) or []
    shown = [cell(row, context.dialect.columns.job) for row in rows]
    shown = [job for job in shown if answers.JOB.fullmatch(job)]
    ours = [job for job in context.jobs if job in shown]
    return next((jobs[-1] for jobs in (ours, shown, list(context.jobs)) if jobs), "")


def _helps(context: Context, asked: Sequence[Asked]) -> dict[str, process.Completed]:
    """Command line -> answer, of those that may bear signs."""
    listing = context.dialect.all
    return {one.written: one.done for one in asked if one.question is None or one.question is listing}


def _over(context: Context, one: Asked) -> bool:
    return one.done.timed_out or bool(answers.login(one.done, context.dialect))


def _reachable(context: Context, asked: Sequence[Asked], took_s: float) -> Line:
    last = asked[-1].done
    login = answers.login(last, context.dialect)
    if login:
        how = f" with `{context.dialect.login}`" if context.dialect.login else ""
        message = f"Donau's access token is not accepted ({masked(login, context.names)})"
        return error("scheduler", message, f"log in again{how}, {_AGAIN}")
    if last.timed_out:
        return error("scheduler", f"{last.argv[0]}: no answer within {_ASK_S:g} s", f"wait a while, {_AGAIN}")
    return ok("scheduler", f"Donau answers {len(asked)} questions in {took_s:.1f} s")


def _generation(context: Context, belief: generation.Belief) -> Line:
    name, declared = context.site.name, context.dialect.generation
    against = f" (but {belief.against})" if belief.against else ""
    if not belief.generation:
        message = f"cannot be told; site {name} says {declared}{against}"
        return warning(
            "generation", message, "look at the recorded help; `ddqjobs docs donau` tells them apart"
        )
    message = f"{belief.generation}: {belief.reasons}{against}"
    if belief.generation == declared:
        return ok("generation", message)
    other = next(
        site for site, dialect in context.dialects.items() if dialect.generation == belief.generation
    )
    remedy = f"use --site {other}, or let the site file inherit from it: `base: {other}`"
    return warning("generation", f"site {name} says {declared}, but this looks like {message}", remedy)


def _options(context: Context, asked: Sequence[Asked]) -> Iterator[Line]:
    """Yield a line about options of the site file that the help does not name."""
    missing = generation.missing_options(context.dialect, _helps(context, asked))
    if missing is None:
        remedy = "look at the recorded help, and compare it with donau.dialect of the site file"
        yield warning("options", "no help that can be read, so it does not tell", remedy)
        return
    for command, options in missing.items():
        remedy = "see what the recorded help has instead; donau.dialect of the site file says what is used"
        yield warning("options", f"the help of {command} does not name {', '.join(options)}", remedy)
    if not missing:
        yield ok("options", "the help names all that the site file uses")


def _unread(context: Context, one: Asked) -> Iterator[Line]:
    """Yield the parts of an answer about jobs that would not be understood."""
    question, dialect, columns = one.question, context.dialect, context.dialect.columns
    assert question is not None
    details = question.form == "details"  # of a job that runs they need not have an exit code
    by_name, why = "{token}" in one.written, question.about == "failed" and not details
    needed = columns.name if by_name else columns.exit_code if why else columns.state
    rows = answers.rows(one.done, dialect, needed)
    if details:
        cells = answers.details_of(one.done, one.job, dialect)
        rows = [cells] if cell(cells, needed) else [] if answers.nothing(one.done, dialect) else None
    if rows is None:
        line = masked(answers.first_line(one.done), context.names)
        wanted = f"{' or '.join(columns.job)}, and {' or '.join(needed)}"
        message = f"`{one.written}` cannot be read: {line!r}; it needs {wanted}"
        yield warning("answers", message, "name them in donau.dialect.columns or patterns of the site file")
        return
    for word in dict.fromkeys(cell(row, columns.state) for row in rows):
        if word and word not in dialect.states:
            message = f"`{one.written}` says {word!r} of a job, which means nothing here"
            yield warning("answers", message, "say in donau.dialect.states what it means, once you know")
    for row in rows if by_name else ():
        job = cell(row, columns.job)
        if job in context.jobs and not cell(row, columns.name).endswith(context.jobs[job]):
            message = f"`{one.written}` does not show the whole name of job {job}"
            yield warning("answers", message, "a lost submission cannot be found: see donau.dialect.find")


def _record(context: Context, folder: Path, asked: Sequence[Asked], belief: str) -> Line:
    try:
        place = record.write(folder, asked, context.dialect, context.names, belief)
    except OSError as problem:
        message = f"the answers cannot be recorded: {problem.filename or folder}: {problem.strerror}"
        return error("facts", message, f"make room, or fix its permissions, {_AGAIN}")
    message = f"{len(asked)} answers are in {place}; names are masked, but read them before you pass them on"
    if any(one.job for one in asked):
        return ok("facts", message)
    return warning(
        "facts", f"{message}; no job was there to ask about", "run it again while a job is queued or runs"
    )
