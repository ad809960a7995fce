"""A measured training's records: seconds from the end of each iteration to that of the next as the host sees
them (so the first are those of iteration 2), peak memory, a profile."""

from __future__ import annotations

import collections
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests.bench.gpu import regions

PROFILED = 3


@HOOKS.register_module(force=True)
class BenchHook(Hook):  # type: ignore[misc]
    """Writes ``bench.json`` in the work_dir. ``BENCH_PROFILE`` names the iteration at which a profile begins,
    ``BENCH_TRACE`` a folder for its trace, if that is wanted."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.profile_at = int(os.environ.get("BENCH_PROFILE", "-1"))
        self.ends: list[float] = []
        self.profiler: Any = None
        self.summary: dict[str, Any] = {}

    def before_train_iter(self, runner: Any, **_: Any) -> None:
        if runner.iter == self.profile_at:
            regions.mark(runner.model, runner.optim_wrapper)
            _wait()
            kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
            self.profiler = torch.profiler.profile(activities=kinds)
            self.profiler.__enter__()

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        self.ends.append(time.perf_counter())
        if self.profiler is not None and runner.iter == self.profile_at + PROFILED - 1:
            _wait()
            self.profiler.__exit__(None, None, None)
            self.summary = summary(self.profiler, PROFILED)
            self.summary["regions"] = regions.table(self.profiler.events(), PROFILED)
            if folder := os.environ.get("BENCH_TRACE"):
                self.profiler.export_chrome_trace(f"{folder}/{Path(runner.work_dir).name}.json.gz")
            self.profiler = None

    def after_train(self, runner: Any) -> None:
        _wait()
        steps = [b - a for a, b in zip(self.ends, self.ends[1:])]
        record = {
            "seconds": steps,
            "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
            "profile": self.summary,
        }
        (Path(runner.work_dir) / "bench.json").write_text(json.dumps(record))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summary(profiler: Any, iterations: int) -> dict[str, Any]:
    """Per iteration: launches, waits, milliseconds in which a kernel runs, the longest kernels and
    operators."""
    spans, names, calls = [], collections.Counter(), collections.Counter()
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            if getattr(event, "is_user_annotation", False) or event.name.startswith(regions.MARK):
                continue  # a part's whole span
            spans.append((event.time_range.start, event.time_range.end))
            names[event.name[:90]] += event.time_range.elapsed_us()
        else:
            calls[event.name] += 1
    busy, last = 0.0, 0.0
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, last))
        last = max(last, end)
    launches = sum(n for name, n in calls.items() if "LaunchKernel" in name or name == "cuLaunchKernel")
    return {
        "launches": launches / iterations,
        "waits": sum(calls[name] for name in regions.WAITS) / iterations,
        "items": calls["aten::item"] / iterations,
        "nonzero": calls["aten::nonzero"] / iterations,
        "busy_ms": busy / 1000 / iterations,
        "kernels": [(name, us / 1000 / iterations) for name, us in names.most_common(30)],
        "operators": [(n, c / iterations) for n, c in calls.most_common(40)],
    }
