"""The row of a run in a report, its columns, and those that only some reports have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Parameters = dict[str, bool | int | float | str | None]  # parameters of a grid's variant


class Row(msgspec.Struct, kw_only=True):
    """One run, flat: the columns of :func:`frame` and of the CSV report, in this order."""

    run: str
    """Name of the run. Example: p3-train.ddq-detr-4scale"""
    phase: str
    """Name of the phase; empty if its task has none. Example: '3'"""
    task: str
    """Name of the task in the experiment file. Example: p3-train"""
    kind: str
    """Kind of the task, for example `train` or `test`. Example: train"""
    model: str
    """Name of the model; empty if its task has none. Example: ddq-detr-4scale"""
    implementation: str
    """Name of the implementation; empty if its task has none. Example: legacy"""
    variant: str
    """Name of the variant; `default` if the experiment declares none. Example: default"""
    seed: int | None
    """Seed of the run; null if the experiment declares none. Example: 7"""
    deterministic: bool
    """True if the run has the deterministic flag. Example: true"""
    optional: bool
    """True if the run is optional: it is not needed for a complete report. Example: false"""
    status: str
    """Status in the plan: `done`, `active`, `eligible`, `waiting` or `failed`. Example: waiting"""
    says: str
    """The status in the report's words (`done`, `running (epoch 3/12)`, `failed: code`, `optional`). Example:
    waiting"""
    reason: str
    """Reason for the status, as text. Example: needs release.s2023, which is waiting"""
    failure: str
    """Class of the failure, for example `out-of-memory`; empty if the run did not fail. Example:
    out-of-memory"""
    adopted: bool
    """True if the result was adopted with `ddqjobs adopt`. Example: false"""
    adopted_from: str
    """Place that an adopted result was taken from; empty if it was not adopted. Example:
    work_dirs/ddq-detr-4scale"""
    stale: str
    """Reason why the result is not of the run's current digest; empty if it is. Example: 'stale:
    configuration changed since it ran'"""
    accepted: str
    """User who declared a stale or different result valid, date and reason; empty if nobody did. Example: 'by
    erika on 2026-11-30, though configuration changed: the work folder only'"""
    attempts: int
    """Number of attempts that the job recorded. Example: 2"""
    attempt: int | None
    """Number of the attempt that made the product; null without a product. Example: 2"""
    repeated_iterations: int | None
    """Iterations that the training ran again after an attempt was cut off; null if not known. Example: 0"""
    seconds_per_iteration: float | None = None
    """Seconds per iteration, the median in the training's log; null if not known. Example: 0.41"""
    gpu_busy: float | None = None
    """Mean share of the time in which a kernel ran on a GPU, as a fraction; null if not known. Example:
    0.93"""
    peak_memory_mb: float | None = None
    """Peak memory of a GPU, in MB; null if not known. Example: 9120"""
    gpu_hours_used: float | None = None
    """GPU hours used, as the training counted them, so far while it runs; null if not known. Example: 30.5"""
    gpu_hours_to_come: float | None = None
    """GPU hours that a running training still needs; null if it does not run or this is not known. Example:
    58.1"""
    wall_hours: float | None = None
    """Wall-clock hours of all jobs of the run; null before one started, or if hours were not computed.
    Example: 11.1"""
    repeats: str = ""
    """Result of repeating a training that has the deterministic flag (`bit-equal over 50 iterations`); empty
    for other runs. Example: bit-equal over 50 iterations"""
    AP: float | None = None
    """Box AP, mean over overlaps of 0.50 to 0.95, in points; null if not measured or not a number. Example:
    51.3"""
    AP50: float | None = None
    """AP at an overlap of 0.50, in points; null like `AP`. Example: 68.9"""
    AP75: float | None = None
    """AP at an overlap of 0.75, in points; null like `AP`. Example: 56.2"""
    APs: float | None = None
    """AP of small objects, in points; null like `AP`, or without such objects. Example: 33.8"""
    APm: float | None = None
    """AP of medium objects, in points; null like `AP`, or without such objects. Example: 54.7"""
    APl: float | None = None
    """AP of large objects, in points; null like `AP`, or without such objects. Example: 66.1"""
    ap_quanta: int | None = None
    """`AP` as a whole number of 0.1 points, the unit in which verdicts compare; null like `AP`. Example:
    513"""
    metric_notes: str = ""
    """Reason why a metric is not a number (`AP: nan; APs: no such objects`); empty if all are. Example: 'APs:
    no such objects'"""
    box_difference: float | None = None
    """Of an align run: largest difference of coordinates of matched boxes, in pixels; null if not measured or
    not finite. Example: 0.0"""
    score_difference: float | None = None
    """Of an align run: largest difference of scores of matched boxes, 0 to 1; null if not measured or not
    finite. Example: 0.0"""
    unmatched: int | None = None
    """Of an align run: number of boxes of either side without a match; null if not measured. Example: 0"""
    loss_iterations: int | None = None
    """Of an align run: number of iterations whose losses were compared; null if none were. Example: 50"""
    loss_first_difference: int | None = None
    """Of an align run: first iteration whose losses differ; null if none does or none were compared. Example:
    17"""
    loss_relative_difference: float | None = None
    """Of an align run: largest relative difference of losses, as a fraction; null if not measured or not
    finite. Example: 1.2e-05"""
    gpu_hours: float | None = None
    """GPU hours that the experiment declares for the run; null if it declares none. Example: 88.0"""
    finished_at: float | None = None
    """End of the run, in seconds since 1970-01-01 UTC; null if not known. Example: 1796030103.4"""
    code: str = ""
    """Name of the code in the experiment file; empty if the task has none. Example: L"""
    environment: str = ""
    """Name of the environment; empty if the task has none. Example: legacy-detr"""
    config: str = ""
    """Path of the configuration file; empty if the task has none. Example:
    configs/ddq/ddq_detr_4scale_r50_12e.py"""
    log: str = ""
    """Path of the log, below the run's folder; empty without a product. Example:
    attempts/2/work_dir/log.json"""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint, in hexadecimal digits; empty if there is none. Example:
    c1b2a3f4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80"""
    job: str = ""
    """ID of the job in the scheduler; empty if there is none. Example: '4711'"""
    node: str = ""
    """Name of the node that the job ran on; empty if not known. Example: gpu7"""
    digest: str = ""
    """Digest that the result was made by; without a result, the run's own. Example:
    '2:ac7eaa0340bf-78a5a8c0b72f-6bc3f2c2f014-24a5cc1a4879-4b90ba849ff7-8724b8b0e1b4'"""
    ran: str = ""
    """Versions of Python and packages that the result ran with; `not locked` where no lock was compared.
    Example: Python 3.8.18, torch 1.9.0, mmdet 3.0.0rc6"""
    machine: str = ""
    """Processor and GPUs that the result ran on; empty if not recorded. Example: 8 x Tesla V100-SXM2-32GB"""
    metric: str | msgspec.UnsetType = msgspec.UNSET
    """Name of the metric that the model is judged by; absent for box AP with COCO's definition, like the next
    three. Example: bbox_mAP"""
    value: float | msgspec.UnsetType | None = msgspec.UNSET
    """Value of that metric, in `unit`; null if there is none. Example: 51.3"""
    unit: str | msgspec.UnsetType = msgspec.UNSET
    """Unit of `value`; empty if it has none. Example: '%'"""
    direction: str | msgspec.UnsetType = msgspec.UNSET
    """Direction of better values: `higher` or `lower`. Example: higher"""
    grid: Parameters | msgspec.UnsetType = msgspec.UNSET
    """Parameters of the variant by name; absent unless it comes from a grid. Example:
    {optim_wrapper.optimizer.lr: 0.0002}"""


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
