"""Record logs of real trainings of a toy model with the installed mmengine or mmcv 1.x.

    python record.py OUT SHAPE...

A loss is its iteration, and an AP the thousandth of the iteration at which it was measured: so a log itself
tells the right place of each of its rows, in whatever way its library counts. Run it with each version's
interpreter; README.md beside it names them.
"""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import torch

# Both libraries look for weights of torchvision's models, and import it for no other reason.
stand_in: Any = types.ModuleType("torchvision")
stand_in.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
sys.modules.setdefault("torchvision", stand_in)

NOW: dict[str, Any] = {}  # the runner, and the last iteration trained


class Numbers(torch.utils.data.Dataset):  # type: ignore[misc]
    """Twelve numbers: six iterations an epoch."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return {"x": torch.ones(1)}

    def evaluate(self, results: Any, logger: Any = None, **_more: Any) -> dict[str, Any]:
        """Return metrics as mmdet 2.x does."""
        ap = NOW["trained"] / 1000
        return {"bbox_mAP": ap, "bbox_mAP_50": 2 * ap, "bbox_mAP_copypaste": f"{ap} {2 * ap}"}


def mmengine(shape: str, out: Path) -> None:
    """Train as ``shape`` says. Epochs have six iterations."""
    from mmengine.evaluator import BaseMetric
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Model(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, mode: str = "loss", **_more: Any) -> Any:
            if mode != "loss":
                return [0]
            place = NOW["runner"].iter + 1
            if "killed" in shape and place == NOW["kill"]:
                raise KeyboardInterrupt
            NOW["trained"] = place
            return {"loss_cls": self.weight.sum() * 0 + place}

    class Metric(BaseMetric):  # type: ignore[misc]
        def __init__(self, prefix: str, factor: int = 1) -> None:
            super().__init__(prefix=prefix)
            self.factor = factor

        def process(self, data_batch: Any, data_samples: Any) -> None:
            self.results.append(1)

        def compute_metrics(self, results: Any) -> dict[str, float]:
            ap = NOW.get("trained", 18) / 1000
            return {"bbox_mAP": self.factor * ap, "bbox_mAP_50": 2 * ap, "bbox_mAP_l": -1.0}

    loader = {"batch_size": 2, "num_workers": 0, "dataset": Numbers()}
    loader["sampler"] = {"type": "DefaultSampler", "shuffle": False}
    evaluator = [Metric(prefix, n + 1) for n, prefix in enumerate(_prefixes(shape))]
    loop, logger, processor, every = _settings(shape)
    for resume, kill in [(False, 11), (True, 0)] if "killed" in shape else [(False, 0)]:
        NOW["kill"] = kill
        runner = Runner(
            Model(),
            str(out),
            train_dataloader=loader,
            train_cfg=loop,
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
            val_dataloader=loader,
            val_cfg={"type": "ValLoop"},
            val_evaluator=evaluator,
            test_dataloader=loader,
            test_cfg={"type": "TestLoop"},
            test_evaluator=evaluator,
            default_hooks={"logger": logger, "checkpoint": {"type": "CheckpointHook", **every}},
            log_processor=processor,
            resume=resume,
            log_level="WARNING",
            experiment_name=f"{shape}{resume}",
            cfg={"work_dir": str(out)},
        )
        NOW["runner"] = runner
        try:
            runner.test() if "test" in shape else runner.train()
        except KeyboardInterrupt:
            pass


def _prefixes(shape: str) -> list[str]:
    named = {"two": ["A/coco", "B/coco"], "foreign": ["cityscapes"]}
    return next((prefixes for word, prefixes in named.items() if word in shape), ["coco"])


def _settings(shape: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Loop, logger, log processor and intervals of checkpoints."""
    iterations = "iter" in shape
    loop: dict[str, Any] = {"type": "EpochBasedTrainLoop", "max_epochs": 3, "val_interval": 1}
    if iterations:
        loop = {"type": "IterBasedTrainLoop", "max_iters": 20, "val_interval": 5}
    logger: dict[str, Any] = {"type": "LoggerHook", "interval": 50 if "sparse" in shape else 2}
    if "step" in shape:
        logger["log_metric_by_epoch"] = False
    processor: dict[str, Any] = {"by_epoch": not iterations or "asepoch" in shape, "window_size": 1}
    if "tree" in shape:
        processor["log_with_hierarchy"] = True
    every = {"by_epoch": False, "interval": 4} if iterations else {"by_epoch": True, "interval": 1}
    return loop, logger, processor, every


def mmcv(shape: str, out: Path) -> None:
    """Train with mmcv 1.x as mmdet 2.x does."""
    from mmcv.runner import EpochBasedRunner, EvalHook, IterBasedRunner
    from mmcv.utils import get_logger

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, *_batch: Any, **_more: Any) -> Any:
            return [0]

        def train_step(self, _batch: Any, _optimizer: Any, **_more: Any) -> Any:
            place = NOW["runner"].iter + 1
            if "killed" in shape and place == NOW["kill"]:
                raise KeyboardInterrupt
            NOW["trained"] = place
            loss = self.weight.sum() * 0 + place
            return {"loss": loss, "log_vars": {"loss": float(place)}, "num_samples": 2}

        def val_step(self, batch: Any, optimizer: Any, **_more: Any) -> Any:
            return {**self.train_step(batch, optimizer)}

    iterations = "iter" in shape
    kind = IterBasedRunner if iterations else EpochBasedRunner
    length = {"max_iters": 20} if iterations else {"max_epochs": 3}
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=2)
    for number, kill in enumerate([11, 0] if "killed" in shape else [0]):
        NOW["kill"] = kill
        model, stamp = Model(), f"2022010{number + 1}_000000"
        runner = kind(
            model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
            work_dir=str(out),
            logger=get_logger(f"{shape}{number}", str(out / f"{stamp}.log"), "ERROR"),
            meta={"env_info": "x", "seed": 0, "exp_name": "toy.py"},
            **length,
        )
        runner.timestamp = stamp
        NOW["runner"] = runner
        by_epoch = not iterations
        every = {"interval": 4 if iterations else 1, "by_epoch": by_epoch, "create_symlink": False}
        runner.register_training_hooks(
            lr_config={"policy": "fixed", "by_epoch": by_epoch},
            optimizer_config={"grad_clip": None},
            checkpoint_config=every,
            log_config={"interval": 2, "hooks": [{"type": "TextLoggerHook", "by_epoch": by_epoch}]},
        )
        inside = iterations or "inside" in shape
        evaluation = EvalHook(loader, interval=4 if inside else 1, by_epoch=not inside)
        runner.register_hook(evaluation, priority="LOW")
        if number:
            runner.resume(str(out / ("iter_8.pth" if iterations else "epoch_1.pth")), map_location="cpu")
        flow, loaders = [("train", 1)], [loader]
        if "flow" in shape:
            flow, loaders = [("train", 1), ("val", 1)], [loader, loader]
        try:
            runner.run(loaders, flow)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    for shape in sys.argv[2:]:
        out = Path(sys.argv[1]) / shape
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        NOW.clear()
        (mmcv if shape.startswith("mmcv") else mmengine)(shape, out)
