"""Compare the variants of one model in one phase and code with one of them, the baseline. Pure.

Compared are the variants of a grid, with the experiment's `baseline` or else the grid's first; without a grid
only what an experiment with a `baseline` has. Tolerance and rules are those of comparisons between phases
(:mod:`ddqjobs.report.verdict`). A search for the better setting fails nothing: these verdicts do not count
for `report --check`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.report import verdict
from ddqjobs.report.cells import Value, cell_of
from ddqjobs.report.columns import Parameters
from ddqjobs.report.lookup import Column, Desk, Side
from ddqjobs.report.verdict import Judgement
from ddqjobs.spec.model import PlannedRun

BASELINE = "the baseline"


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A variant beside the baseline of its model, phase and code. AP and differences are in points, other
    metrics in their unit."""

    phase: str
    """Name of the phase. Example: '4'"""
    implementation: str
    """Name of the implementation. Example: new"""
    task: str
    """Name of the test task; empty unless the phase has several test tasks in this implementation. Example:
    p4-test"""
    model: str
    """Name of the model. Example: ddq-detr-4scale"""
    title: str
    """Title of the model, or its name if it declares none. Example: DDQ DETR 4scale"""
    variant: str
    """Name of the variant. Example: lr-0.0002"""
    baseline: str
    """Name of the variant that it is compared with. Example: lr-0.0001"""
    grid: Parameters
    """Parameters of the variant by name; empty unless it comes from a grid. Example:
    {optim_wrapper.optimizer.lr: 0.0002}"""
    metric: str
    """Name of the metric compared. Example: AP"""
    value: Value
    """Value of the variant."""
    difference: float | None
    """Variant minus baseline, in the metric's unit (AP in points); null for the baseline, or if one of them
    is not there. Example: 0.4"""
    difference_text: str
    """The difference as text, with its sign; empty if there is none. Example: '+0.4'"""
    judgement: Judgement
    """Verdict on the difference. It does not count for `ok`."""
    runs: tuple[str, ...]
    """Names of the runs of the variant. Example: [p4-test.ddq-detr-4scale.lr-0.0002]"""
    others: tuple[str, ...]
    """Names of the runs of the baseline. Example: [p4-test.ddq-detr-4scale.lr-0.0001]"""


def variant_rows(desk: Desk, columns: Sequence[Column], wanted: Collection[str]) -> tuple[VariantRow, ...]:
    """Return a row per variant, the baseline included, by model and column, in the plan's order."""
    if not desk.grids and desk.experiment.baseline is None:
        return ()
    by_model: dict[str, dict[tuple[str, str], dict[str, list[PlannedRun]]]] = {}
    for (phase, implementation, model, variant), runs in desk.places.items():
        by_model.setdefault(model, {}).setdefault((phase, implementation), {})[variant] = runs
    return tuple(
        row
        for places in by_model.values()
        for column in columns
        for row in _rows(desk, column, places.get((column.phase, column.implementation), {}), wanted)
    )


def _rows(
    desk: Desk, column: Column, place: Mapping[str, list[PlannedRun]], wanted: Collection[str]
) -> Iterator[VariantRow]:
    ours = {
        v: [planned for planned in runs if column.task in ("", planned.run.task)] for v, runs in place.items()
    }
    variants = {variant: runs for variant, runs in ours.items() if runs}
    baseline = _baseline(desk, variants)
    shown = {v: runs for v, runs in variants.items() if any(planned.run.name in wanted for planned in runs)}
    if baseline and any(variant != baseline for variant in shown):
        for variant, runs in shown.items():
            yield _row(desk, column, (variant, runs), (baseline, variants[baseline]))


def _baseline(desk: Desk, variants: Collection[str]) -> str:
    """Return the variant that the others are compared with; empty where nothing is compared."""
    if desk.experiment.baseline is not None:
        return desk.experiment.baseline if desk.experiment.baseline in variants else ""
    return next((variant for variant in variants if variant in desk.grids), "")


def _row(
    desk: Desk, column: Column, ours: tuple[str, list[PlannedRun]], theirs: tuple[str, list[PlannedRun]]
) -> VariantRow:
    (variant, runs), (baseline, others) = ours, theirs
    model = runs[0].run.model
    section, metric = desk.experiment.models.get(model), desk.metric(model)
    side = (
        Side(name="", absent=BASELINE)
        if variant == baseline
        else desk.side(others, f"the other variant, {baseline}", metric)
    )
    cell = cell_of(desk, runs, side)
    return VariantRow(
        phase=column.phase,
        implementation=column.implementation,
        task=column.task,
        model=model,
        title=(section.title if section else "") or model,
        variant=variant,
        baseline=baseline,
        grid=desk.grids.get(variant, {}),
        metric=metric.name,
        value=cell.value,
        difference=cell.difference,
        difference_text=cell.difference_text,
        judgement=verdict.unjudged(BASELINE) if variant == baseline else cell.judgement,
        runs=cell.runs,
        others=tuple(planned.run.name for planned in others),
    )
