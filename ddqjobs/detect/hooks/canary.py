"""Ends a training after some iterations, and says how they went: for trying a code before many trainings."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect import files

REPORT = "canary.json"


class Enough(Exception):
    """The iterations that were asked for are done; the message says how they went."""


@HOOKS.register_module(force=True)
class CanaryHook(Hook):  # type: ignore[misc]
    """Raises :class:`Enough` after ``iterations``, or at the end of a training that has fewer, and
    FloatingPointError for a loss that is not finite. Leaves ``canary.json`` in the work_dir: ``iterations``,
    ``seconds`` per iteration (the median, which leaves out the slow first ones), first and last ``loss``,
    ``memory_mb`` of the GPU (its peak; null without one).
    """

    priority = "LOWEST"

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self._began = 0.0

    def before_train_iter(self, _runner: Any, **_: Any) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def after_train_iter(self, runner: Any, outputs: Any = None, **_: Any) -> None:
        """Look at the loss, which also waits for the GPU; end after enough."""
        self.losses.append(float(outputs["loss"]))
        self.seconds.append(time.monotonic() - self._began)
        if not math.isfinite(self.losses[-1]):
            raise FloatingPointError(f"loss is {self.losses[-1]} at iteration {len(self.losses)}")
        if len(self.losses) >= self.iterations:
            raise Enough(self._report(runner))

    def after_train(self, runner: Any) -> None:
        """A whole training that is shorter."""
        raise Enough(self._report(runner))

    def _report(self, runner: Any) -> str:
        import torch

        each = sorted(self.seconds)[len(self.seconds) // 2]
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        if is_main_process():
            report = {
                "iterations": len(self.losses),
                "seconds": each,
                "loss": [self.losses[0], self.losses[-1]],
                "memory_mb": None if peak is None else round(peak / 1e6),
            }
            files.replace_json(Path(runner.work_dir) / REPORT, report)
        first, last = self.losses[0], self.losses[-1]
        return f"{len(self.losses)} iterations, {each:.3g} s each, loss {first:.4g} -> {last:.4g}"
