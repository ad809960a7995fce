"""Two reports side by side: what became of each AP and each verdict. Pure.

The two may be two experiments, or one experiment as it was known at two times. Rows are matched by model,
variant, phase and implementation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.report import verdict
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.document import MIXED, Report
from ddqjobs.report.grids import Grid, Text
from ddqjobs.report.lookup import label
from ddqjobs.spec.metric import BOX_AP

VERSION = 1
_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One cell on both sides; empty where a side does not have it."""

    model: str
    variant: str
    phase: str
    implementation: str
    ap_a: str
    ap_b: str
    difference: float | None  # b - a, in the metric's unit
    difference_text: str
    verdict_a: str
    verdict_b: str
    outcome_a: verdict.Outcome | None
    outcome_b: verdict.Outcome | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The document. ``version`` changes when a key changes its meaning or goes away."""

    version: int = VERSION
    kind: str = "comparison"
    a: str
    b: str
    overall_a: str
    overall_b: str
    rows: tuple[Compared, ...]
    metric: str | msgspec.UnsetType = msgspec.UNSET  # what is compared, where not AP


Key = tuple[str, str, str, str, str]  # model, variant, phase, implementation, task


def compare(a: Report, b: Report, name_a: str, name_b: str) -> Comparison:
    """Cells of both, in the order of ``a``, then what only ``b`` has."""
    ours, theirs = dict(_cells(a)), dict(_cells(b))
    keys = dict.fromkeys([*ours, *theirs])
    names = {report.metrics[0] for report in (a, b)}
    name = names.pop() if len(names) == 1 else MIXED
    return Comparison(
        a=name_a,
        b=name_b,
        overall_a=a.overall,
        overall_b=b.overall,
        rows=tuple(_row(key, ours.get(key), theirs.get(key)) for key in keys),
        metric=msgspec.UNSET if name == BOX_AP.name else name,
    )


def _cells(report: Report) -> Iterator[tuple[Key, tuple[ModelRow, Cell]]]:
    for row in report.models:
        for column, cell in zip(report.columns, row.cells, strict=True):
            if cell is not None:
                yield (row.model, row.variant, column.phase, column.implementation, column.task), (row, cell)


def _row(key: Key, ours: tuple[ModelRow, Cell] | None, theirs: tuple[ModelRow, Cell] | None) -> Compared:
    a, b = (side[1] if side else None for side in (ours, theirs))
    difference, decimals = None, 1
    # Quanta of another scale, rounding or number of digits are other units, whatever the metric's name.
    if ours and theirs and ours[0].judged_by == theirs[0].judged_by:
        one, two = ours[1].value, theirs[1].value
        decimals = one.digits
        if one.quanta and two.quanta:
            difference = verdict.mean(two.quanta) - verdict.mean(one.quanta)
    model, variant, phase, implementation, task = key
    return Compared(
        model=model,
        variant=variant,
        phase=phase,
        implementation=" ".join(filter(None, (implementation, task))),
        ap_a=a.value.text if a else "",
        ap_b=b.value.text if b else "",
        difference=None if difference is None else verdict.to_points(Fraction(difference), 10**decimals),
        difference_text="" if difference is None else verdict.format_difference(difference, decimals),
        verdict_a=a.judgement.word if a else "",
        verdict_b=b.judgement.word if b else "",
        outcome_a=a.judgement.outcome if a else None,
        outcome_b=b.judgement.outcome if b else None,
    )


def as_text(comparison: Comparison, title: str) -> Text:
    """Return the comparison as a table with a summary of both sides."""
    summary = [f"A, {comparison.a}: {comparison.overall_a}", f"B, {comparison.b}: {comparison.overall_b}"]
    return Text(title=title, grids=(_grid(comparison),), lists=(("Summary", summary),))


def _grid(comparison: Comparison) -> Grid:
    variants = any(row.variant != "default" for row in comparison.rows)
    name = BOX_AP.name if comparison.metric is msgspec.UNSET else comparison.metric
    header = ["model", *(["variant"] if variants else []), "phase", f"{name} A", f"{name} B", "B - A"]
    rows, outcomes = [], {}
    for number, row in enumerate(comparison.rows):
        where = f"{label(row.phase)} {row.implementation}".strip()
        names = [row.model, *([row.variant] if variants else []), where]
        numbers = [row.ap_a, row.ap_b, row.difference_text]
        rows.append((*names, *numbers, row.verdict_a, row.verdict_b))
        for place, outcome in ((-2, row.outcome_a), (-1, row.outcome_b)):
            if outcome is not None:
                outcomes[number, len(rows[-1]) + place] = outcome.value
    return Grid(
        title=f"A: {comparison.a}; B: {comparison.b}",
        header=(*header, "verdict A", "verdict B"),
        rows=tuple(rows),
        align="l" * (len(header) - 3) + "rrrll",
        outcomes=outcomes,
    )


def moment_of(text: str) -> float | None:
    """Seconds since the epoch of a local date or time; a day alone means its end. None if it is neither."""
    for form in _DATES:
        try:
            at = time.strptime(text, form)
        except ValueError:
            continue
        return time.mktime(at) + (86399.999 if form == _DATES[0] else 0)
    return None


def sides(a: str, b: str) -> tuple[float | None, float | None]:
    """(time of A, time of B), both None for two experiments. Raises InputError for one of each."""
    times = (moment_of(a), moment_of(b))
    if (times[0] is None) != (times[1] is None):
        raise InputError(
            "--compare takes two experiments, or two dates like 2026-11-24 or 2026-11-24T10:00, "
            f"not '{a}' and '{b}'"
        )
    return times
