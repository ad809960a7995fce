"""The row of a run in a report, its columns, and those that only some reports have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Parameters = dict[str, bool | int | float | str | None]  # parameters of a grid's variant


class Row(msgspec.Struct, kw_only=True):
    """One run, flat: the columns of :func:`frame` and of the CSV report, in this order."""

    run: str
    """Name of the run."""
    phase: str
    """Name of the phase; empty if its task has none."""
    task: str
    """Name of the task in the experiment file."""
    kind: str
    """Kind of the task, for example `train` or `test`."""
    model: str
    """Name of the model; empty if its task has none."""
    implementation: str
    """Name of the implementation; empty if its task has none."""
    variant: str
    """Name of the variant; `default` if the experiment declares none."""
    seed: int | None
    """Seed of the run; null if the experiment declares none."""
    deterministic: bool
    """True if the run has the deterministic flag."""
    optional: bool
    """True if the run is optional: it is not needed for a complete report."""
    status: str
    """Status in the plan: `done`, `active`, `eligible`, `waiting` or `failed`."""
    says: str
    """The status in the report's words (`done`, `running (epoch 3/12)`, `failed: code`, `optional`)."""
    reason: str
    """Reason for the status, as text."""
    failure: str
    """Class of the failure, for example `out-of-memory`; empty if the run did not fail."""
    adopted: bool
    """True if the result was taken in by `ddqjobs adopt`."""
    adopted_from: str
    """Place that an adopted result was taken from; empty if it was not adopted."""
    stale: str
    """Reason why the result is not of the run's current digest; empty if it is."""
    accepted: str
    """User who declared a stale or different result valid, date and reason; empty if nobody did."""
    attempts: int
    """Number of attempts that the job recorded."""
    attempt: int | None
    """Number of the attempt that made the product; null without a product."""
    repeated_iterations: int | None
    """Iterations that the training ran again after an attempt was cut off; null if not known."""
    seconds_per_iteration: float | None = None
    """Seconds per iteration, the median in the training's log; null if not known."""
    gpu_busy: float | None = None
    """Mean share of the time in which a kernel ran on a GPU, as a fraction; null if not known."""
    peak_memory_mb: float | None = None
    """Peak memory of a GPU, in MB; null if not known."""
    gpu_hours_used: float | None = None
    """GPU hours used, as the training counted them, so far while it runs; null if not known."""
    gpu_hours_to_come: float | None = None
    """GPU hours that a running training still needs; null if it does not run or this is not known."""
    wall_hours: float | None = None
    """Wall-clock hours of all jobs of the run; null before one started, or if hours were not computed."""
    repeats: str = ""
    """Result of repeating a training that has the deterministic flag (`bit-equal over 50 iterations`); empty
    for other runs."""
    AP: float | None = None
    """Box AP, mean over overlaps of 0.50 to 0.95, in points; null if not measured or not a number."""
    AP50: float | None = None
    """AP at an overlap of 0.50, in points; null like `AP`."""
    AP75: float | None = None
    """AP at an overlap of 0.75, in points; null like `AP`."""
    APs: float | None = None
    """AP of small objects, in points; null like `AP`, or without such objects."""
    APm: float | None = None
    """AP of medium objects, in points; null like `AP`, or without such objects."""
    APl: float | None = None
    """AP of large objects, in points; null like `AP`, or without such objects."""
    ap_quanta: int | None = None
    """`AP` as a whole number of 0.1 points, the unit in which verdicts compare; null like `AP`."""
    metric_notes: str = ""
    """Reason why a metric is not a number (`AP: nan; APs: no such objects`); empty if all are."""
    box_difference: float | None = None
    """Of an align run: largest difference of coordinates of matched boxes, in pixels; null if not measured or
    not finite."""
    score_difference: float | None = None
    """Of an align run: largest difference of scores of matched boxes, 0 to 1; null if not measured or not
    finite."""
    unmatched: int | None = None
    """Of an align run: number of boxes of either side without a match; null if not measured."""
    loss_iterations: int | None = None
    """Of an align run: number of iterations whose losses were compared; null if none were."""
    loss_first_difference: int | None = None
    """Of an align run: first iteration whose losses differ; null if none does or none were compared."""
    loss_relative_difference: float | None = None
    """Of an align run: largest relative difference of losses, as a fraction; null if not measured or not
    finite."""
    gpu_hours: float | None = None
    """GPU hours that the experiment declares for the run; null if it declares none."""
    finished_at: float | None = None
    """End of the run, in seconds since 1970-01-01 UTC; null if not known."""
    code: str = ""
    """Name of the code in the experiment file; empty if the task has none."""
    environment: str = ""
    """Name of the environment; empty if the task has none."""
    config: str = ""
    """Path of the configuration file; empty if the task has none."""
    log: str = ""
    """Path of the log, below the run's folder; empty without a product."""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint, in hexadecimal digits; empty if there is none."""
    job: str = ""
    """ID of the job in the scheduler; empty if there is none."""
    node: str = ""
    """Name of the node that the job ran on; empty if not known."""
    digest: str = ""
    """Digest that the result was made by; without a result, the run's own."""
    ran: str = ""
    """Versions of Python and packages that the result ran with; `not locked` where no lock was compared."""
    machine: str = ""
    """Processor and GPUs that the result ran on; empty if not recorded."""
    metric: str | msgspec.UnsetType = msgspec.UNSET
    """Name of the metric that the model is judged by; absent for box AP with COCO's definition, like the next
    three."""
    value: float | msgspec.UnsetType | None = msgspec.UNSET
    """Value of that metric, in `unit`; null if there is none."""
    unit: str | msgspec.UnsetType = msgspec.UNSET
    """Unit of `value`; empty if it has none."""
    direction: str | msgspec.UnsetType = msgspec.UNSET
    """Direction of better values: `higher` or `lower`."""
    grid: Parameters | msgspec.UnsetType = msgspec.UNSET
    """Parameters of the variant by name; absent unless it comes from a grid."""


_OTHER = ("metric", "value", "unit", "direction")  # columns that only reports of other metrics have
GRID = "grid."
COLUMNS: tuple[str, ...] = tuple(name for name in Row.__struct_fields__ if name not in (*_OTHER, "grid"))


def columns_of(table: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that a table of rows has."""
    listed = list(table)
    other = _OTHER if any(row.metric is not msgspec.UNSET for row in listed) else ()
    return (*COLUMNS, *other, *(f"{GRID}{key}" for key in parameters(row.grid for row in listed)))


def parameters(grids: Iterable[Parameters | msgspec.UnsetType]) -> tuple[str, ...]:
    """Return the keys of all grids, in their order."""
    return tuple(dict.fromkeys(key for grid in grids if grid is not msgspec.UNSET for key in grid))


def cells_of(row: Row, columns: Iterable[str]) -> tuple[Any, ...]:
    """Return a row's values; None for what it does not have."""
    grid = {} if row.grid is msgspec.UNSET else row.grid
    values = (grid.get(c.removeprefix(GRID)) if c.startswith(GRID) else getattr(row, c) for c in columns)
    return tuple(None if value is msgspec.UNSET else value for value in values)
