"""The form of what is known: a pattern of lines that end tasks, its class, and how much it weighs."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from ddqjobs.spec.model import FailureClass


class Weight(IntEnum):
    """The strength of a cause against others that the end of a log names too."""

    LAST = 0  # what is done to the tasks that are left when one fails, or to all from outside
    WEAK = 1  # a type without words, or a consequence of others: only where nothing else is said
    PLAIN = 2  # decides where it ended the task
    FIRM = 3  # also beside an exception that says nothing of its own
    SURE = 4  # decides wherever it stands: schedulers, the kernel and hardware take nothing back


class Cause(NamedTuple):
    """The meaning of a line. ``begin``: how the reason begins, without a colon and with the
    remedy if there is one."""

    failure: FailureClass
    begin: str
    pattern: re.Pattern[str]
    weight: Weight = Weight.PLAIN


def cause(failure: FailureClass, begin: str, *patterns: str, weight: Weight = Weight.PLAIN) -> Cause:
    """Return the cause that any of some regular expressions shows."""
    return Cause(failure, begin, re.compile("|".join(patterns)), weight)


def phrases(texts: str) -> str:
    """Return a regular expression of texts, one a line; an empty one may not match everything."""
    lines = [line.strip() for line in texts.splitlines() if line.strip()]
    return "|".join(re.escape(line) for line in lines)


def of(line: str, known: tuple[Cause, ...]) -> Cause | None:
    """Return the first cause that fits a line."""
    return next((c for c in known if c.pattern.search(line)), None)
