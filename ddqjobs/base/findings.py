"""Findings: lines with a level and a remedy, as `ddqjobs doctor` and `ddqjobs data` report them."""

from __future__ import annotations

from enum import Enum

from ddqjobs.base.frozen import Frozen


class Level(str, Enum):
    """The degrees of a finding."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Line(Frozen, frozen=True, kw_only=True):
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def ok(what: str, found: str) -> Line:
    """Return a line without need for action."""
    return Line(level=Level.OK, what=what, found=found)


def warning(what: str, found: str, remedy: str) -> Line:
    """Return a line that may explain trouble to come."""
    return Line(level=Level.WARNING, what=what, found=found, remedy=remedy)


def error(what: str, found: str, remedy: str) -> Line:
    """Return a line that will stop runs."""
    return Line(level=Level.ERROR, what=what, found=found, remedy=remedy)
