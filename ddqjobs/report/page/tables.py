"""The AP of each phase as a table, and the runs with their evidence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.columns import Row
from ddqjobs.report.document import Report
from ddqjobs.report.lookup import REFERENCE, Column, label
from ddqjobs.report.page.facts import Facts, RunFacts
from ddqjobs.report.page.glance import anchor
from ddqjobs.report.page.strips import Scale, Strip, scale, strip
from ddqjobs.report.page.words import metrics
from ddqjobs.spec.experiment import Experiment, metric_of
from ddqjobs.spec.model import PlannedRun, Product, Status


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A model's result in one phase."""

    row: ModelRow
    cell: Cell
    strip: Strip | None
    says: str  # what a screen reader hears of the strip
    anchor: str
    base: str = ""  # run whose configuration the difference is against
    differences: tuple[str, ...] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One phase in one implementation."""

    name: str
    title: str
    against: str
    scale: Scale | None
    lines: tuple[Line, ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One run; ``facts`` is None where a page of very many runs leaves its evidence out."""

    planned: PlannedRun
    row: Row
    facts: RunFacts | None
    product: Product | None
    metrics: list[tuple[str, str]]


class RunGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one phase."""

    title: str
    counts: str
    failed: bool
    entries: tuple[Entry, ...]


def column_name(column: Column) -> str:
    """Return ``phase 3 legacy``, and the task where a phase has several."""
    return " ".join(filter(None, (label(column.phase), column.implementation, column.task)))


def tables(report: Report, facts: Facts, planned: Mapping[str, PlannedRun]) -> list[Table]:
    """Return one table per column of the report."""
    drawn = []
    for i, column in enumerate(report.columns):
        on = scale([row.cells[i] for row in report.models])
        lines = tuple(
            _line(row, cell, on, anchor(i, number), facts, planned)
            for number, row in enumerate(report.models)
            if (cell := row.cells[i]) is not None
        )
        against = (
            f"the published {report.metrics[0]}" if column.against == REFERENCE else label(column.against)
        )
        drawn.append(
            Table(name=column_name(column), title=column.title, against=against, scale=on, lines=lines)
        )
    return drawn


def _line(
    row: ModelRow, cell: Cell, on: Scale | None, name: str, facts: Facts, planned: Mapping[str, PlannedRun]
) -> Line:
    base, differences = _configuration(cell, facts, planned)
    description = ""
    if cell.tolerance is not None and cell.reference is not None:
        description = f"{cell.value.text} against {cell.reference:g} ± {cell.tolerance:g}"
    return Line(
        row=row,
        cell=cell,
        strip=strip(cell, on),
        says=description,
        anchor=name,
        base=base,
        differences=differences,
    )


def _configuration(
    cell: Cell, facts: Facts, planned: Mapping[str, PlannedRun]
) -> tuple[str, tuple[str, ...]]:
    """Return how the configuration of the cell's first training, else test, differs from the other code's."""
    tests = [name for name in cell.runs if name in planned]
    trained = [n for name in tests for n in planned[name].run.upstream if n in planned]
    for name in (*trained, *tests):
        known = facts.runs.get(name)
        base = planned.get(known.base) if known is not None else None
        if known and base and base.run.implementation != planned[name].run.implementation:
            return known.base, known.differences
    return "", ()


def run_groups(
    experiment: Experiment,
    report: Report,
    picked: Sequence[PlannedRun],
    facts: Facts,
    products: Mapping[str, Product],
) -> list[RunGroup]:
    """Return the runs by phase, those of none last."""
    rows = {row.run: row for row in report.runs}
    by_phase: dict[str, list[PlannedRun]] = {phase: [] for phase in experiment.phases}
    for planned in picked:
        by_phase.setdefault(planned.run.phase, []).append(planned)
    groups = []
    for phase, runs in sorted(by_phase.items(), key=lambda item: not item[0]):
        if runs:
            entries = tuple(_entries(experiment, runs, rows, facts, products))
            counts = ", ".join(_counted(runs))
            failed = any(planned.status is Status.FAILED for planned in runs)
            title = label(phase) if phase else "no phase"
            groups.append(RunGroup(title=title, counts=counts, failed=failed, entries=entries))
    return groups


def _counted(runs: Sequence[PlannedRun]) -> Iterator[str]:
    yield f"{len(runs)} run{'s' if len(runs) != 1 else ''}"
    for status in Status:
        if count := sum(planned.status is status for planned in runs):
            yield f"{count} {status.value}"


def _entries(
    experiment: Experiment,
    runs: Iterable[PlannedRun],
    rows: Mapping[str, Row],
    facts: Facts,
    products: Mapping[str, Product],
) -> Iterator[Entry]:
    for planned in runs:
        name = planned.run.name
        product = products.get(name)
        known = facts.runs.get(name)
        yield Entry(
            planned=planned,
            row=rows[name],
            facts=known,
            product=product if known is not None else None,
            metrics=metrics(product, metric_of(experiment, planned.run.model))
            if product is not None and known is not None
            else [],
        )
