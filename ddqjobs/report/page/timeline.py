"""Attempts on a time line. Pure; places in percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ddqjobs.base.units import clock
from ddqjobs.report.page.facts import Facts
from ddqjobs.report.page.words import moment, sane
from ddqjobs.spec.model import Attempt, PlannedRun, Status


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on the time line, positions in percent of the whole."""

    number: int
    left: float
    width: float
    state: str  # done, failed, stopped or running
    start: str
    length: str
    host: str
    end: str
    odd: str = ""  # what is wrong with its clock


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """All attempts of all runs that were started."""

    first: str
    last: str
    rows: tuple[tuple[str, tuple[Bar, ...]], ...]


def time_line(plan: Iterable[PlannedRun], facts: Facts, now: float) -> TimeLine | None:
    """None if nothing was started."""
    known = [
        (planned, facts.runs[planned.run.name].attempts, facts.runs[planned.run.name].ends)
        for planned in plan
        if planned.run.name in facts.runs
    ]
    times = [t for _, attempts, _ in known for a in attempts for t in (a.started_at, a.ended_at) if sane(t)]
    known_times = [t for t in times if t is not None]
    if not known_times:
        return None
    low, high = min(known_times), max(*known_times, min(known_times) + 1)
    rows = tuple(
        (
            planned.run.name,
            tuple(_bar(planned, a, (low, high), now, a is attempts[-1], ends) for a in attempts),
        )
        for planned, attempts, ends in known
        if attempts
    )
    return TimeLine(first=moment(low), last=moment(high), rows=rows)


def _bar(
    planned: PlannedRun,
    a: Attempt,
    span: tuple[float, float],
    now: float,
    newest: bool,
    ends: Mapping[int, str],
) -> Bar:
    low, high = span
    odd = ""
    start, end = a.started_at, a.ended_at
    if not sane(start) or (end is not None and not sane(end)):
        odd = "its clock was wrong"
        start, end = (start if sane(start) else low), (end if sane(end) else None)
    running = end is None and newest and planned.status is Status.ACTIVE
    begin = start if start is not None else low
    stop = end if end is not None else min(max(now, begin), high) if running else begin
    if stop < begin:
        odd = f"its clock went back by {clock(begin - stop)}"
    state = "running" if running else "done" if a.exit_code == 0 else "stopped" if a.stopped else "failed"
    how = {"running": "running", "done": "ended well", "stopped": "asked to stop"}.get(state, "")
    if state == "failed":
        code = f"exit {a.exit_code}" if a.exit_code else "left no last word"
        how = ends.get(a.number) or (a.failure.value if a.failure else code)
    return Bar(
        number=a.number,
        left=round(100 * (begin - low) / (high - low), 2),
        width=round(max(0.0, 100 * (stop - begin) / (high - low)), 2),
        state=state,
        start=moment(begin),
        length="" if odd else clock(stop - begin),
        host=a.host,
        end=", ".join(filter(None, (how, a.note))),
        odd=odd,
    )
