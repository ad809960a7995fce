"""Answers of Donau's commands in files of the project, without names (docs/reference/donau.md has what each
settles)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ddqjobs.base.masking import masked, masked_row
from ddqjobs.base.process import Completed
from ddqjobs.base.version import VERSION
from ddqjobs.schedulers.donau.options import DonauDialect, DonauQuestion
from ddqjobs.schedulers.donau.tables import cell, table

_HEADER = re.compile(r"\s*[A-Z][A-Z0-9_]*(?:\s+[A-Z][A-Z0-9_]*)+\s*")
_NUMBER = re.compile(r"(?<!\S)\d+(?!\S)")


class Asked(NamedTuple):
    """A command line as the site file writes it, the question behind it (None: help), the job that it is
    about (empty: none), and the answer."""

    written: str
    question: DonauQuestion | None
    job: str
    done: Completed


def write(
    folder: Path, asked: Sequence[Asked], dialect: DonauDialect, names: Sequence[str], belief: str
) -> Path:
    """A new folder below ``folder``, named by the time; it is there whole or not at all. Raises OSError."""
    known = vocabulary(asked, dialect)
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        for one in asked:
            (part / file_name(one.written)).write_text(_text(one, dialect, names, known), encoding="utf-8")
        (part / "about.txt").write_text(masked(_about(asked, belief), names), encoding="utf-8")
        part.chmod(0o755)
        return _in_place(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def file_name(written: str) -> str:
    """``djob -L {job}.0`` is recorded in ``djob_-L_JOB.0.txt``."""
    shouted = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), written)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", shouted) + ".txt"


def vocabulary(asked: Sequence[Asked], dialect: DonauDialect) -> set[str]:
    """Words that are no names: those of the help, and the words of states."""
    known = set(dialect.states)
    for one in asked:
        if one.question is None:
            known.update(re.findall(r"[^\W\d_]+", one.done.stdout + " " + one.done.stderr))
        else:
            rows = table(one.done.stdout, [dialect.columns.job])
            known.update(cell(row, dialect.columns.state) for row in (rows.rows if rows else ()))
    return known


def _in_place(part: Path, folder: Path) -> Path:
    name, number = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), 1
    while True:
        place = folder / (name if number == 1 else f"{name}-{number}")
        try:
            part.rename(place)
        except OSError:
            if not place.exists():
                raise
            number += 1
        else:
            return place


def _about(asked: Sequence[Asked], belief: str) -> str:
    commands = dict.fromkeys(one.done.argv[0] for one in asked)
    where = "".join(f"{name}: {shutil.which(name) or 'not on PATH'}\n" for name in commands)
    variables = sorted(name for name in os.environ if name.startswith(("CCS", "BATCH_", "DONAU")))
    return (
        f"ddqjobs {VERSION}\ngeneration: {belief}\n{where}"
        f"variables that are set (names only): {', '.join(variables) or 'none'}\n"
    )


def _text(one: Asked, dialect: DonauDialect, names: Sequence[str], known: Collection[str]) -> str:
    done = one.done
    ended = "no end within its time" if done.timed_out else f"exit code {done.code}"
    out = masked(done.stdout, names)
    if one.question is not None:
        out = "".join(_lines(done.stdout, one.question, dialect, names, known))
    return (
        f"{masked(' '.join(done.argv), names)}\n{ended}\n--- stdout\n{out}\n"
        f"--- stderr\n{masked(done.stderr, names)}\n"
    )


def _lines(
    text: str, question: DonauQuestion, dialect: DonauDialect, names: Sequence[str], known: Collection[str]
) -> Iterator[str]:
    """Headers and messages without names; of rows only what is known to be no name."""
    patterns = dialect.patterns
    said = [patterns.accepted, *patterns.refused, *patterns.login, *patterns.nothing]
    in_table = False
    for line in text.splitlines(keepends=True):
        message = any(re.search(pattern, line, re.IGNORECASE) for pattern in said)
        if _HEADER.fullmatch(line):
            in_table = True
            yield masked(line, names)
        elif question.form == "details" and not message:
            key = re.match(r"\s*\S*", line)
            at = key.end() if key else 0
            yield masked(line[:at], names) + masked_row(line[at:], names, known)
        elif message or not (in_table or _NUMBER.search(line)):
            yield masked(line, names)
        else:
            yield masked_row(line, names, known)
