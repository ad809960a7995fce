"""Ends a training when a stop was asked for, and keeps attempts that were given up from writing."""

from __future__ import annotations

from typing import Any

from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect import claim


class Stopped(Exception):
    """The training ended before its time; the message says why."""


@HOOKS.register_module(force=True)
class StopFileHook(Hook):  # type: ignore[misc]
    """Raises :class:`Stopped` once ``$DDQJOBS_STOP`` exists or the claim is void.

    It saves nothing: mmengine restarts an interrupted epoch, so the last epoch's checkpoint is all that a
    resumed attempt can use. Before every checkpoint it makes sure that this attempt still speaks for the run.
    """

    # Before CheckpointHook (VERY_LOW), so that nothing is written on the way out.
    priority = "LOW"

    def __init__(self) -> None:
        self.job = claim.from_environment()

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        """Look for the stop file; all ranks stop in the same iteration."""
        why = self.job.must_stop()
        if is_distributed():
            import torch

            flag = torch.tensor([float(bool(why))], device=next(runner.model.parameters()).device)
            all_reduce(flag, "max")
            why = why or ("another rank has to stop" if bool(flag.item()) else "")
        if why:
            raise Stopped(f"{why}, at epoch {runner.epoch + 1}, iteration {runner.iter + 1}")

    def before_save_checkpoint(self, _runner: Any, **_: Any) -> None:
        """Write no checkpoint for an attempt that was given up."""
        why = self.job.lost()
        if why:
            raise Stopped(f"no checkpoint is written: {why}")
