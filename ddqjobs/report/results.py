"""Products become rows, rows become a pandas table: one row per run, finished or not.

AP columns are in AP points (100 x the fraction that detectors print); ``ap_quanta`` is the same AP as an
integer number of 0.1 points, the unit that verdicts compare (:mod:`ddqjobs.report.verdict`). A number
that is not there has a reason that is: ``says`` for runs, ``metric_notes`` for metrics.

Rows are plain Python throughout: 10,000 runs take a fraction of a second, and only :func:`frame` imports
pandas, which alone takes longer than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.report import ran, repeats
from ddqjobs.report.alignment import alignment
from ddqjobs.report.columns import GRID, Row, cells_of, columns_of
from ddqjobs.report.hours import Spent
from ddqjobs.report.verdict import EMPTY_CLASS, quanta
from ddqjobs.spec.experiment import Experiment, metric_of
from ddqjobs.spec.metric import BOX_AP, METRICS, OF_BOXES, Metric, found_as
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Product, Status, TaskKind

if TYPE_CHECKING:
    import pandas as pd

NAN = "nan"  # the metric was printed, and is no number: the training diverged
MISSING = "missing"  # the run is done and the metric is not in its product
OPTIONAL = "optional"  # the run is not asked for, and was not submitted
NO_OBJECTS = "no such objects"  # -1: the data set has no object of this class of size


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one product: quanta, or the word that stands in for them."""

    quanta: int | None = None
    note: str = ""
    per_unit: int = BOX_AP.quanta

    @property
    def points(self) -> float | None:
        """The metric in its unit, AP in points; None if it is no number."""
        return None if self.quanta is None else self.quanta / self.per_unit


def score(product: Product, metric: Metric = BOX_AP) -> Score:
    """Return a metric of a product. NaN is null in a product file (docs/reference/job-contract.md)."""
    key = found_as(metric.key, product.metrics)
    if key is None:
        return Score(note=MISSING)
    value = product.metrics[key]
    if value is None or not math.isfinite(value):
        return Score(note=NAN)
    if value == EMPTY_CLASS and metric.is_fraction:
        return Score(note=NO_OBJECTS)
    try:
        return Score(quanta=quanta(value, metric), per_unit=metric.quanta)
    except ValueError:  # a negative fraction is no AP, whoever wrote it
        return Score(note=MISSING)


def say(planned: PlannedRun, progress: Progress | None = None) -> str:
    """Return the words of a run without a number in its stead: ``running (epoch 3/12)``, ``failed: code``,
    ..."""
    if planned.status is Status.DONE:
        return "done"
    if planned.cancelled:
        return planned.word
    if planned.status is Status.FAILED:
        return f"failed: {planned.failure.value if planned.failure else 'unknown'}"
    if planned.status is Status.ACTIVE:
        if planned.state is JobState.RUNNING:
            return f"running{_how_far(progress)}"
        labels = {
            JobState.QUEUED: "queued",
            JobState.HELD: "held",
            JobState.STOPPED: "suspended",
            JobState.ENDED: "ending",
        }
        return "submitted" if planned.state is None else labels.get(planned.state, "state unknown")
    return OPTIONAL if planned.run.optional else planned.status.value


def _how_far(progress: Progress | None) -> str:
    if progress is None:
        return ""
    if progress.epoch is not None:
        total = f"/{progress.epochs}" if progress.epochs else ""
        return f" (epoch {progress.epoch}{total})"
    total = f"/{progress.iterations}" if progress.iterations else ""
    return f" (iteration {progress.iteration}{total})" if progress.iteration is not None else ""


_INTEGERS = (
    "seed",
    "attempt",
    "repeated_iterations",
    "ap_quanta",
    "unmatched",
    "loss_iterations",
    "loss_first_difference",
)
_DIFFERENCES = ("box_difference", "score_difference", "loss_relative_difference")
_COSTS = ("seconds_per_iteration", "gpu_busy", "peak_memory_mb", "gpu_hours_used", "gpu_hours_to_come")
_FLOATS = (*METRICS, *_DIFFERENCES, *_COSTS, "wall_hours", "gpu_hours", "finished_at", "value")


def rows(
    experiment: Experiment,
    plan: Plan,
    products: Mapping[str, Product],
    progress: Mapping[str, Progress] | None = None,
    hours: Mapping[str, Spent] | None = None,
) -> list[Row]:
    """One row per run of the plan, in its order. A done run without a product *says* ``product missing``."""
    known, proven = progress or {}, repeats.proofs(plan, products)
    table = [
        _row(planned, products.get(planned.run.name), known.get(planned.run.name)) for planned in plan.runs
    ]
    for row in table:
        judged_by = metric_of(experiment, row.model)
        if judged_by != BOX_AP:
            product = products.get(row.run) if row.status == Status.DONE.value else None
            row.metric, row.unit, row.direction = judged_by.name, judged_by.unit, judged_by.direction
            found_score = Score() if product is None else score(product, judged_by)
            row.value = found_score.points
            if product is not None and METRICS["AP"] not in product.metrics:
                row.metric_notes = f"{judged_by.name}: {found_score.note}" if found_score.note else ""
        row.repeats = proven.get(row.run, "")
        spent = hours.get(row.run) if hours else None
        row.wall_hours = (spent.wall or None) if spent else None
    return table


def _row(planned: PlannedRun, product: Product | None, progress: Progress | None) -> Row:
    run, done = planned.run, planned.status is Status.DONE
    row = Row(
        run=run.name,
        phase=run.phase,
        task=run.task,
        kind=run.kind.value,
        model=run.model,
        implementation=run.implementation,
        variant=run.variant,
        seed=run.seed,
        deterministic=run.deterministic,
        optional=run.optional,
        status=planned.status.value,
        says=say(planned, progress) if product or not done else "product missing",
        reason=planned.reason,
        failure=planned.failure.value if planned.failure else "",
        adopted=False,
        adopted_from="",
        stale=planned.stale,
        accepted=planned.accepted,
        attempts=planned.attempts,
        attempt=None,
        repeated_iterations=None,
        gpu_hours=run.gpu_hours,
        code=run.code,
        environment=run.environment,
        config=run.config,
        job=planned.job,
        node=planned.node,
        digest=run.digest,
        grid=dict(run.grid) or msgspec.UNSET,
    )
    if product is not None and done:
        _fill(row, product)
    elif progress is not None and planned.status is Status.ACTIVE:
        row.gpu_busy, row.gpu_hours_used = progress.gpu_busy, progress.gpu_hours
        row.gpu_hours_to_come = progress.gpu_hours_to_come
    return row


def _fill(row: Row, product: Product) -> None:
    """Adds what a product says; only a done run's product speaks for it."""
    row.adopted, row.adopted_from = bool(product.adopted_from), product.adopted_from
    row.attempt, row.digest = product.attempt, product.digest or row.digest
    repeated = product.report.get("repeated_iterations")
    row.repeated_iterations = repeated if isinstance(repeated, int) else None
    costs = product.report.get("costs")
    if isinstance(costs, dict):
        row.seconds_per_iteration = _figure(costs.get("seconds_per_iteration"))
        row.gpu_busy, row.peak_memory_mb = (
            _figure(costs.get("gpu_busy")),
            _figure(costs.get("peak_memory_mb")),
        )
        row.gpu_hours_used = _figure(costs.get("gpu_hours"))
    row.finished_at = product.finished_at or None
    if product.ran is not None:
        row.ran, row.machine = ran.versions(product.ran), ran.machine(product.ran)
    row.log = product.artifacts.get("log", "")
    row.checkpoint_sha256 = product.sha256.get("checkpoint", "")
    if product.kind is TaskKind.ALIGN:
        findings = alignment(product)
        row.box_difference, row.score_difference = findings.box, findings.score
        row.unmatched, row.loss_iterations = findings.unmatched, findings.iterations
        row.loss_first_difference, row.loss_relative_difference = findings.first_difference, findings.loss
    elif product.kind in (TaskKind.TEST, TaskKind.TRAIN) or METRICS["AP"] in product.metrics:
        notes = []
        for name, metric in OF_BOXES.items():
            found_score = score(product, metric)
            setattr(row, name, found_score.points)
            if found_score.note:
                notes.append(f"{name}: {found_score.note}")
            elif name == "AP":
                row.ap_quanta = found_score.quanta
        row.metric_notes = "; ".join(notes)


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _are_numbers(values: Iterable[object]) -> bool:
    """Tell a column of numbers; texts, booleans and lists of both stay as they are."""
    return all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values)


def frame(
    experiment: Experiment,
    plan: Plan,
    products: Mapping[str, Product],
    progress: Mapping[str, Progress] | None = None,
) -> pd.DataFrame:
    """The rows as a table with the columns :data:`COLUMNS`. Phase, model and implementation are ordered
    categories in the experiment's order, so that sorting and grouping give the report's order; integers are
    nullable; a number that is not there is NaN or <NA>. A grid's parameters follow as ``grid.KEY``."""
    import pandas as pd

    run_rows = rows(experiment, plan, products, progress)
    columns = columns_of(run_rows)
    table_cells = [cells_of(row, columns) for row in run_rows]
    orders: dict[str, Mapping[str, object]] = {
        "phase": experiment.phases,
        "model": experiment.models,
        "implementation": experiment.implementations,
    }
    data: dict[str, Any] = {}
    for i, column in enumerate(columns):
        values: list[Any] = [cells[i] for cells in table_cells]
        if column in _INTEGERS:
            data[column] = pd.array(values, dtype="Int64")
        elif column in _FLOATS or (column.startswith(GRID) and _are_numbers(values)):
            data[column] = pd.Series([math.nan if v is None else v for v in values], dtype="float64")
        elif column in orders:
            order = dict.fromkeys([*orders[column], *values])
            data[column] = pd.Categorical(values, categories=list(order), ordered=True)
        else:
            data[column] = values
    table: pd.DataFrame = pd.DataFrame(data, columns=list(columns))
    return table
