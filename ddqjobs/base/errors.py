"""Every error that ddqjobs raises on purpose.

::

    DdqjobsError                exit code
    ├── InputError                  2      something the user wrote is wrong; one line per Problem
    ├── MissingError                2      something named does not exist (a run, a log, a file)
    ├── StateError                  2      what is on disk forbids the command (no ledger beside runs, ...)
    ├── EnvironmentNotReadyError    2      an environment is not built or not verified
    ├── TransferError               1      a file could not be brought, or is not what it must be
    ├── RunsFailedError             1      --wait or --check found a failed run or a verdict that is short
    └── SchedulerError              3      the scheduler could not be asked, or its answer could not be read

Each message says what is wrong, where, and what to do next; the command line prints it on stderr as it
is, without a traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MOST_PROBLEMS = 50  # lines that a user can be expected to read; whoever searches for problems may stop there
_MOST_WORDS = 1000  # that one unknown word is compared with
_LONGEST_WORD = 100  # characters of a word that is likened to others


class DdqjobsError(Exception):
    """Base of all errors meant for the user. ``exit_code`` is what the command line returns."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file: ``file:line: message``. ``line`` counts from 1; 0 means none."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}"


class InputError(DdqjobsError):
    """All problems found in what the user gave, one line each."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        super().__init__(problems if isinstance(problems, str) else _lines(self.problems))


def _lines(problems: Sequence[Problem]) -> str:
    """Return a line for each of the first problems, and how many more there are."""
    more = len(problems) - MOST_PROBLEMS
    rest = f"{problems[-1].file}: and {more} more problems"
    return "\n".join([*map(str, problems[:MOST_PROBLEMS]), *([rest] if more > 0 else [])])


class MissingError(DdqjobsError):
    """Something that was named does not exist."""


class StateError(DdqjobsError):
    """The state on disk does not allow what was asked."""


class EnvironmentNotReadyError(DdqjobsError):
    """An environment that a run needs is not ready; the message names the command that mends it."""


class TransferError(DdqjobsError):
    """A file could not be brought, or what came is not what it must be. Nothing was put in its place."""

    exit_code = 1


class RunsFailedError(DdqjobsError):
    """A run failed or a verdict is short, and the user asked to be told by the exit code."""

    exit_code = 1


class SchedulerError(DdqjobsError):
    """The scheduler could not be asked. Nothing is concluded from it about any job."""

    exit_code = 3


def nearest(word: str, valid: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the valid word nearest to ``word``, or an empty string."""
    match = nearest_word(word, valid)
    return f"; did you mean '{match}'?" if match else ""


def nearest_word(word: str, valid: Iterable[str]) -> str:
    """The valid word that ``word`` was probably meant to be, or an empty string."""
    candidates = list(islice(valid, _MOST_WORDS))
    if len(word) > _LONGEST_WORD:
        return ""
    same = [other for other in candidates if other.lower() == word.lower()]
    return next(iter(same or difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)), "")


def listed(items: Iterable[str], most: int = 50) -> str:
    """Return items separated by commas: the first ones, and how many more there are."""
    names = list(items)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _without_inodes(folder: Path) -> bool:
    """Return whether the file system of a folder counts inodes, and has none left."""
    try:
        seen = os.statvfs(folder)
    except OSError:
        return False
    return seen.f_files > 0 and seen.f_favail == 0


_THAT = "fix that"
# What file systems without hard links answer.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def mend(error: OSError, folder: Path | None = None) -> str:
    """Return what to do about a ``folder`` that could not be written, as the operating system says why."""
    if error.filename2 is not None and error.errno in _NO_LINKS:
        return "choose a results folder on a file system that knows hard links (site key `results:`)"
    if error.errno == errno.ENOSPC and folder is not None and _without_inodes(folder):
        return "remove files, no inode is left (`df -i`)"
    if error.errno == errno.ENOSPC:
        return "free some space"
    if error.errno == errno.EDQUOT:
        return "free some of your quota (`quota -s`, `lfs quota`), or ask for more"
    if error.errno == errno.ESTALE:
        return "wait for its file server, or have the folder mounted anew"
    if error.errno == errno.EROFS:
        return "have its file system mounted for writing, or go to a machine where it is"
    return "fix its permissions" if error.errno in (errno.EACCES, errno.EPERM) else _THAT


def refusal(error: OSError, folder: Path | None = None) -> str:
    """Return the words of the operating system, with what mends it where that is known."""
    remedy = mend(error, folder)
    said = error.strerror or str(error)
    return said if remedy == _THAT else f"{said}; {remedy}"
