"""Seeds every epoch from the run's seed and the epoch's number."""

from __future__ import annotations

import random
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class EpochSeedHook(Hook):  # type: ignore[misc]
    """Makes what an epoch draws (flips, denoising queries) depend on seed and epoch only.

    So two versions of mmengine, which draw differently while they build and initialise, see the same
    numbers; and an epoch that a resumed attempt repeats is the one that was interrupted.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed Python, NumPy and torch."""
        import numpy as np
        import torch

        seed = (runner.seed + 1_000_003 * runner.epoch) % (1 << 32)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
