"""Makes up for a validation that a stop took away."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect import logs


@HOOKS.register_module(force=True)
class MissedValidationHook(Hook):  # type: ignore[misc]
    """Validates a resumed checkpoint if the log has no validation of its epoch.

    ``epoch_N.pth`` is written before the validation of epoch N: an attempt that ends in between would lose
    that AP, and with it the result of the whole training if N is the last epoch.
    """

    def before_train(self, runner: Any) -> None:
        """Run the validation loop once if needed."""
        loop = runner.val_loop
        if not runner.epoch or loop is None or runner.epoch % runner.train_loop.val_interval:
            return
        validated = {v.epoch for v in logs.read(runner.work_dir).val if "bbox_mAP" in v.values}
        if runner.epoch not in validated:
            runner.logger.info(f"Epoch {runner.epoch} was not validated before the training stopped")
            loop.run()
