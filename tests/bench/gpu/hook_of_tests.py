"""A measured test's record: pace of its loop, how busy the GPU is, seconds of the evaluation."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect.job import nvml

FIRST = 100  # images that are not counted: processes start, kernels are compiled, graphs are made
SAMPLE_S = 0.25


@HOOKS.register_module(force=True)
class TestHook(Hook):  # type: ignore[misc]
    """Writes ``test.json`` in the work_dir."""

    __test__ = False  # pytest: not a test class
    priority = "VERY_LOW"

    def before_test_epoch(self, runner: Any) -> None:
        self.ends: list[float] = []
        self.busy: list[float] = []
        self.sampled = 0.0
        self.meter = nvml.meter(0) if torch.cuda.is_available() else lambda: None

    def after_test_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        now = time.perf_counter()
        self.ends.append(now)
        if now - self.sampled >= SAMPLE_S and batch_idx >= FIRST:
            self.sampled = now
            share = self.meter()
            self.busy += [share] if share is not None else []

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        evaluated = time.perf_counter() - self.ends[-1]
        counted = self.ends[min(FIRST, len(self.ends) // 2) :]
        record = {
            "images": len(self.ends),
            "images/s": round((len(counted) - 1) / (counted[-1] - counted[0]), 2),
            "GPU busy": round(statistics.mean(self.busy), 3) if self.busy else None,
            "evaluation s": round(evaluated, 2),
        }
        (Path(runner.work_dir) / "test.json").write_text(json.dumps(record))
