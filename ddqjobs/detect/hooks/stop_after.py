"""Ends a training after a number of iterations."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..job import stopping


@HOOKS.register_module(force=True)
class StopAfterHook(Hook):  # type: ignore[misc]
    """Raises :class:`..stopping.Stopped` once ``iterations`` are done and logged; saves nothing."""

    priority = "LOWEST"

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Count."""
        if runner.iter + 1 >= self.iterations:
            raise stopping.Stopped(f"{self.iterations} iterations are done")
