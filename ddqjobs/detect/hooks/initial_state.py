"""Starts a training from weights that several implementations share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ddqjobs.detect import runtime


@HOOKS.register_module(force=True)
class InitialStateHook(Hook):  # type: ignore[misc]
    """Loads every weight of the model from ``path`` after mmengine has initialised it its own way,
    unless the training goes on from a checkpoint."""

    priority = "VERY_HIGH"

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def before_train(self, runner: Any) -> None:
        """Raises CannotLoad if the file's keys or shapes are not exactly the model's."""
        if runner.iter:
            return  # it goes on from a checkpoint
        state = runtime.load_checkpoint(self.path)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        try:
            model.load_state_dict(state.get("state_dict", state), strict=True)
        except RuntimeError as error:
            short = " ".join(str(error).split())[:300]
            raise runtime.CannotLoad(f"{self.path} does not fit the model: {short}") from error
        runner.logger.info(f"Initial state loaded from {self.path}")
