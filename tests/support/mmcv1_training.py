"""A tiny training with mmcv 1.x's runner, as mmdet 2.x makes one: a program of
tests/training/test_resume_mmcv1.py.

    python mmcv1_training.py WORK_DIR WORKERS WHAT AT ITERATIONS

WHAT happens to the process after iteration AT: ``stop``, ``kill`` or ``nothing``. With ITERATIONS, if not 0,
it has so many and no epochs.
"""

from __future__ import annotations

import importlib.machinery
import itertools
import os
import random
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

# mmcv's runner looks for weights of torchvision's models, and imports it for no other reason.
stand_in: Any = types.ModuleType("torchvision")
stand_in.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
sys.modules["torchvision"] = stand_in

from mmcv.runner import HOOKS, BaseRunner, EpochBasedRunner, Hook, IterBasedRunner  # noqa: E402
from mmcv.utils import get_logger, import_modules_from_strings  # noqa: E402

IMAGES, BATCH, EPOCHS = 12, 2, 2


class Noise(torch.utils.data.Dataset):  # type: ignore[misc]
    """Numbers, augmented."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Any:
        return index / IMAGES * random.random() + torch.randn(6) + float(np.random.normal())


class Shuffled(torch.utils.data.Sampler):  # type: ignore[misc]
    """Draws from NumPy's generator, as mmdet 2.x's GroupSampler does."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return IMAGES

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.permutation(IMAGES).tolist())


class EndlessBatches:
    """Draws by itself, as mmdet 2.x's InfiniteBatchSampler does."""

    def __init__(self) -> None:
        self.seed = random.randrange(1 << 31)
        self.indices = self._endless()

    def __len__(self) -> int:
        return IMAGES

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield list(itertools.islice(self.indices, BATCH))

    def set_epoch(self, epoch: int) -> None:
        raise NotImplementedError

    def _endless(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        while True:
            yield from torch.randperm(IMAGES, generator=generator).tolist()


class Model(torch.nn.Module):  # type: ignore[misc]
    """Two layers and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
        )

    def train_step(self, batch: Any, _optimizer: Any, **_: Any) -> dict[str, Any]:
        loss = self.layers(batch).abs().mean()
        return {"loss": loss, "log_vars": {"loss": loss.item()}, "num_samples": len(batch)}


@HOOKS.register_module()
class Interrupt(Hook):  # type: ignore[misc]
    """See the module."""

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at

    def after_train_iter(self, runner: Any) -> None:
        messages = runner.meta.setdefault("hook_msgs", {})  # where mmcv's hooks keep the best score
        messages["best"] = min(messages.get("best", 1e9), runner.outputs["log_vars"]["loss"])
        if runner.iter + 1 == self.at and self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if runner.iter + 1 == self.at and self.what == "stop":
            Path(os.environ["DDQJOBS_STOP"]).touch()


class OwnRunner(BaseRunner):  # type: ignore[misc]
    """Trains as somebody thought fit."""

    def run(self, *_: Any, **__: Any) -> None:
        self.call_hook("before_run")

    train = val = save_checkpoint = run


def main(work_dir: str, workers: int, what: str, at: int, iterations: int) -> None:
    import_modules_from_strings(["ddqjobs.detect.hooks.resume_mmcv1"])
    torch.set_num_threads(1)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    order: dict[str, Any] = {"batch_size": BATCH, "sampler": Shuffled()}
    if iterations:
        order = {"batch_sampler": EndlessBatches()}
    loader = torch.utils.data.DataLoader(Noise(), num_workers=workers, **order)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    logger = get_logger("mmcv1", log_level="INFO")
    kind, length = EpochBasedRunner, {"max_epochs": EPOCHS}
    if iterations:
        kind, length = IterBasedRunner, {"max_iters": iterations}
    if what == "own runner":
        kind = OwnRunner
    runner = kind(model, optimizer=optimizer, work_dir=work_dir, logger=logger, meta={"seed": 1}, **length)
    runner.timestamp = time.strftime("%Y%m%d_%H%M%S", time.localtime())
    runner.register_training_hooks(
        lr_config={"policy": "step", "step": [1], "warmup": "linear", "warmup_iters": 5, "warmup_ratio": 0.1},
        optimizer_config={"grad_clip": {"max_norm": 1.0}},
        checkpoint_config={"interval": 1},
        log_config={"interval": 2, "hooks": [{"type": "TextLoggerHook", "by_epoch": not iterations}]},
        custom_hooks_config=[
            {"type": "ResumeHook", "priority": "VERY_HIGH", "every": 4},
            {"type": "Interrupt", "what": what, "at": at, "priority": "VERY_LOW"},
        ],
    )
    runner.run([loader], [("train", 1)])
    print("best", runner.meta["hook_msgs"]["best"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
