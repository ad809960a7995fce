"""Read what a training took from its log: mmengine's or mmcv 1.x's, with or without what our hook adds.
Standard library only."""

from __future__ import annotations

import math
from typing import Any

from . import logs


def of(log: logs.Log) -> dict[str, float | None]:
    """``seconds_per_iteration`` (the median of the logged ones), ``gpu_busy`` (mean share, 0 to 1),
    ``peak_memory_mb`` of a GPU, ``gpu_hours`` (of all attempts, as far as their checkpoints know); None where
    the log does not tell."""
    column = {name: _column(log, name) for name in ("time", "gpu_busy", "memory", "gpu_hours")}
    seconds, busy = sorted(column["time"]), column["gpu_busy"]
    return {
        "seconds_per_iteration": _short(seconds[len(seconds) // 2]) if seconds else None,
        "gpu_busy": _short(math.fsum(busy) / len(busy)) if busy else None,
        "peak_memory_mb": max(column["memory"], default=None),
        "gpu_hours": _short(max(column["gpu_hours"])) if column["gpu_hours"] else None,
    }


def _column(log: logs.Log, name: str) -> list[float]:
    values: list[Any] = [row.values.get(name) for row in log.train]
    return [v for v in values if v is not None and math.isfinite(v) and v >= 0]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
