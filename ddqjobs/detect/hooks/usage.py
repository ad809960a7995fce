"""Says in each logged line of a training how busy its GPUs are and what they have cost."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Callable

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect.job import nvml

SAMPLES = 60
SAMPLE_S = 1.0  # NVML's figure is of the last sixth of a second to second


@HOOKS.register_module(force=True)
class UsageHook(Hook):  # type: ignore[misc]
    """Adds to the log, beside mmengine's ``time`` (seconds per iteration) and ``memory`` (MB, peak):

    ``gpu_busy``: share of the time in which a kernel ran on this process's GPU, as NVML says, mean of the
    last minute's samples, one a second; ``gpu_hours``: wall clock of this attempt and of those that its
    checkpoint has, validations included, times the number of processes; ``gpu_hours_to_come``: what is left
    of the iterations at this attempt's pace. Without a GPU it adds nothing.
    """

    priority = "NORMAL"  # before the logger

    def __init__(self) -> None:
        self.busy: Callable[[], float | None] = lambda: None
        self.samples: deque[float] = deque(maxlen=SAMPLES)
        self.gpus = 0
        self.before = 0.0  # GPU hours of earlier attempts
        self.first = 0
        self.began = self.sampled = 0.0

    def before_train(self, runner: Any) -> None:
        """Find this process's GPU, and what earlier attempts have cost."""
        import torch

        if torch.cuda.is_available():
            self.start(runner, get_world_size(), nvml.meter(torch.cuda.current_device()))

    def start(self, runner: Any, gpus: int, busy: Callable[[], float | None]) -> None:
        """Count ``gpus`` from now on; ``busy`` samples the share of one of them, None if it cannot tell."""
        scalars = runner.message_hub.log_scalars
        known = scalars.get("train/gpu_hours") if runner.iter else None
        self.before = float(known.current()) if known is not None else 0.0
        self.gpus, self.busy, self.first = gpus, busy, runner.iter
        self.began = self.sampled = time.monotonic()

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Sample; and, before the logger writes a line, put what it shall hold where it looks."""
        if not self.gpus:
            return
        now = time.monotonic()
        if now - self.sampled >= SAMPLE_S:
            share, self.sampled = self.busy(), now
            if share is not None:
                self.samples.append(share)
        done = runner.iter + 1 - self.first
        hours = (now - self.began) / 3600 * self.gpus
        hub = runner.message_hub
        hub.update_scalar("train/gpu_hours", self.before + hours)
        hub.update_scalar("train/gpu_hours_to_come", hours / done * (runner.max_iters - runner.iter - 1))
        if self.samples:
            hub.update_scalar("train/gpu_busy", sum(self.samples) / len(self.samples))
