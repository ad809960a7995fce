"""The form of what is known: a pattern of lines that end tasks, its class, and how much it weighs."""

from __future__ import annotations

import functools
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
    """The meaning of a line. ``begin``: how the reason begins, without a colon and with the remedy if there
    is one. ``pattern``: a regular expression."""

    failure: FailureClass
    begin: str
    pattern: str
    weight: Weight = Weight.PLAIN


def cause(failure: FailureClass, begin: str, *patterns: str, weight: Weight = Weight.PLAIN) -> Cause:
    """Return the cause that any of some regular expressions shows."""
    return Cause(failure, begin, "|".join(patterns), weight)


def phrases(texts: str) -> str:
    """Return a regular expression of texts, one a line; an empty one may not match everything."""
    lines = [line.strip() for line in texts.splitlines() if line.strip()]
    return "|".join(re.escape(line) for line in lines)


class Table:
    """Causes, of which the first that fits a line counts.

    Nearly every branch of their patterns has some characters that a line must contain. Only branches whose
    characters a line has are searched for, and compiled when they first are.
    """

    def __init__(self, *causes: Cause) -> None:
        self.causes = causes

    @functools.cached_property
    def _branches(self) -> dict[str | None, list[tuple[int, str]]]:
        by_gram: dict[str | None, list[tuple[int, str]]] = {}
        for i, known in enumerate(self.causes):
            for branch in branches(known.pattern):
                by_gram.setdefault(gram(branch), []).append((i, branch))
        return by_gram

    def first(self, line: str) -> Cause | None:
        """Return the first cause that fits a line."""
        grams = {line[i : i + n] for n in _LENGTHS for i in range(len(line) - n + 1)}
        near = [*self._branches.get(None, ())]
        for shared in grams & self._branches.keys():
            near += self._branches[shared]
        return next((self.causes[i] for i, branch in sorted(near) if _compiled(branch).search(line)), None)


_LENGTHS = (4, 3)  # of the characters that decide whether a branch is searched for
_LITERAL = frozenset(chr(c) for c in range(32, 127)) - frozenset("\\[](){}?*+|^$.")
_compiled = functools.cache(re.compile)


def branches(pattern: str) -> list[str]:
    """Return the alternatives of a pattern."""
    alternatives, depth = [""], 0
    for token in _tokens(pattern):
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            alternatives.append("")
        else:
            alternatives[-1] += token
    return alternatives


def gram(branch: str) -> str | None:
    """Return characters that whatever fits a branch contains; None if nothing is long enough."""
    runs, depth = [""], 0
    for token in _tokens(branch):
        depth -= token == ")"
        literal = token[-1] if len(token) == 2 and not token[1].isalnum() else token
        if token[0] in "?*{" and not depth:
            runs[-1] = runs[-1][:-1]  # may be absent
        if not depth and (token in _LITERAL or (len(token) == 2 and literal != token)):
            runs[-1] += literal
        else:
            runs.append("")
        depth += token == "("
    longest = max(runs, key=len)
    return next((longest[-n:] for n in _LENGTHS if len(longest) >= n), None)


def _tokens(pattern: str) -> list[str]:
    """Return escapes, classes and single characters of a pattern."""
    return re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|\{[\d,]*\}|.", pattern, re.DOTALL)
