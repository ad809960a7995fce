"""A training so small that it takes a blink, with everything that a resume can get wrong; run as real
processes.

Images of two aspect ratios, augmentations that draw from Python, NumPy and torch, dropout, batch norm,
momentum, schedulers by iteration and by epoch, a moving average of the weights, values smoothed over three
iterations, a validation, a best checkpoint. Each attempt is a process of its own, forked from a parent that
has torch loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner

from ddqjobs.detect import runtime
from ddqjobs.detect.hooks import epoch_seed, resume  # noqa: F401  (registers them)
from ddqjobs.detect.job import exit_codes, logs

IMAGES, BATCH, EPOCHS = 14, 2, 2
PER_EPOCH = IMAGES // BATCH
ITERATIONS, BETWEEN_VALIDATIONS = 11, 5  # of a training by iterations
runtime.set_up()
if get_device() != "cpu":  # attempts are forked, which a process that uses a GPU must not be
    pytest.skip("this process uses a GPU: run tests/training/test_resume.py alone", allow_module_level=True)
torch.set_num_threads(1)  # and nothing may have used more: attempts are forked
NOISE = ("time", "data_time", "eta", "memory")


@DATASETS.register_module(force=True)
class Noise(torch.utils.data.Dataset):  # type: ignore[misc]
    """Images of noise, wide ones and tall ones; what a sample looks like is drawn anew each time."""

    def __init__(self, length: int = IMAGES) -> None:
        self.length = length
        self.metainfo = {"classes": ("noise",)}

    def __len__(self) -> int:
        return self.length

    def get_data_info(self, index: int) -> dict[str, int]:
        return {"width": 8 if index % 3 else 6, "height": 6 if index % 3 else 8}

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = self.get_data_info(index)
        image = torch.full((1, info["height"], info["width"]), index / self.length)
        image = image * random.uniform(0.5, 1.5) + float(np.random.normal()) + torch.randn(image.shape) / 4
        return {"image": image, "target": torch.tensor([index / self.length])}


@MODELS.register_module(force=True)
class Tiny(BaseModel):  # type: ignore[misc]
    """A convolution, batch norm, dropout, a mean. ``poison``: the loss is NaN from this iteration on."""

    def __init__(self, poison: int = 0, width: int = 4) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width), torch.nn.Dropout(0.3)
        )
        self.head = torch.nn.Sequential(torch.nn.Linear(width, 40), torch.nn.Linear(40, 1))
        self.poison, self.calls = poison, 0

    def forward(self, image: Any, target: Any, mode: str = "tensor") -> Any:
        padded = [torch.nn.functional.pad(i, (0, 8 - i.shape[2], 0, 8 - i.shape[1])) for i in image]
        batch, truth = torch.stack(padded), torch.stack(list(target))
        out = self.head(self.body(batch).mean((2, 3)))
        if mode != "loss":
            return list(out.detach() - truth)
        self.calls += 1
        factor = float("nan") if self.poison and self.calls >= self.poison else 1.0
        return {"loss": factor * (out + 0.1 * torch.randn(out.shape) - truth).abs().mean()}


@METRICS.register_module(force=True)
class Error(BaseMetric):  # type: ignore[misc]
    """Mean absolute error, under the name of what a product needs."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(sample.abs()) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"bbox_mAP": sum(results) / len(results)}


@HOOKS.register_module(force=True)
class Interrupt(Hook):  # type: ignore[misc]
    """Does something to this very process after a training or validation iteration: asks it to ``stop``,
    lets it ``kill`` itself, ``fill`` the disk but for a little or ``free`` it, or gives the attempt up by a
    ``newer attempt`` or a ``void claim``."""

    def __init__(self, what: str, at: int = 0, validation: int = 0) -> None:
        self.what, self.at, self.validation, self.validated = what, at, validation, 0

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        if runner.iter + 1 == self.at:
            self.strike()

    def after_val_iter(self, runner: Any, **_: Any) -> None:
        self.validated += 1
        if self.validated == self.validation:
            self.strike()

    def strike(self) -> None:
        if os.environ.get("RANK", "0") != "0":
            return
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        run = Path(os.environ["DDQJOBS_RUN_DIR"])
        if self.what == "newer attempt":
            (run / "attempts" / "99").mkdir()
        elif self.what == "fill":
            with contextlib.suppress(OSError):
                (run / "big").write_bytes(bytes(1 << 24))
            os.truncate(run / "big", (run / "big").stat().st_size - (1 << 14))  # for lines of the log
        elif self.what == "free":
            (run / "big").unlink()
        elif self.what == "void claim":
            (run / "claim").write_text("void\n")
        else:
            Path(os.environ["DDQJOBS_STOP"]).touch()


def config(work_dir: Path, workers: int, **model: Any) -> Config:
    """The training as a configuration."""
    shuffled = {"type": "DefaultSampler", "shuffle": True}
    loader = {"num_workers": workers, "persistent_workers": bool(workers)}
    train = {"batch_size": BATCH, "sampler": shuffled, "dataset": {"type": "Noise"}}
    steps = [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 9},
        {"type": "MultiStepLR", "by_epoch": True, "milestones": [1], "gamma": 0.5},
    ]
    sgd = {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    best = {"type": "CheckpointHook", "interval": 1, "save_best": "bbox_mAP", "rule": "less"}
    return Config({
        "model": {"type": "Tiny", **model},
        "work_dir": str(work_dir),
        "train_dataloader": {**loader, **train, "batch_sampler": {"type": "mmdet.AspectRatioBatchSampler"}},
        "val_dataloader": {"batch_size": 2, "num_workers": 0, "dataset": {"type": "Noise", "length": 6},
                           "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "train_cfg": {"by_epoch": True, "max_epochs": EPOCHS, "val_interval": 1},
        "val_cfg": {}, "val_evaluator": {"type": "Error"},
        "optim_wrapper": {"optimizer": sgd}, "param_scheduler": steps,
        "default_hooks": {"logger": {"type": "LoggerHook", "interval": 1}, "checkpoint": best},
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.1}],
        "log_processor": {"window_size": 3}, "log_level": "WARNING", "default_scope": "mmengine",
        "env_cfg": {"dist_cfg": {"backend": "gloo"}},
        "randomness": {"seed": 3},
        "model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None},
    })  # fmt: skip


def by_iterations(cfg: Config, sampler: str) -> Config:
    """The same without epochs, with mmengine's sampler of this name."""
    cfg.train_cfg = {"by_epoch": False, "max_iters": ITERATIONS, "val_interval": BETWEEN_VALIDATIONS}
    cfg.train_dataloader.sampler = {"type": sampler, "shuffle": True}
    cfg.param_scheduler[1].by_epoch = False
    cfg.param_scheduler[1].milestones = [8]
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=4)
    return cfg


class Training:
    """A run of this training in attempts, as the launch script would start them; ``sampler``, by iterations
    with this one."""

    def __init__(self, root: Path, workers: int = 0, processes: int = 1, **options: Any) -> None:
        self.root, self.workers, self.processes = root, workers, processes
        self.every = str(options.pop("every", 1000))
        self.sampler = str(options.pop("sampler", ""))
        self.train_cfg = options.pop("train_cfg", None)
        self.options = options
        self.attempts = 0
        root.mkdir()
        (root / "claim").write_text("run 1\n")

    def folder(self, attempt: int) -> Path:
        return self.root / "attempts" / str(attempt)

    @property
    def work_dir(self) -> Path:
        return self.folder(self.attempts) / "work_dir"

    def attempt(self, *hooks: dict[str, Any]) -> int:
        """Trains, interrupted as the hooks say; the exit code, or minus the signal, of the first process."""
        self.attempts += 1
        self.work_dir.mkdir(parents=True)
        pids = [fork(lambda rank=rank: self.train(rank, hooks)) for rank in range(self.processes)]  # type: ignore[misc]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        return codes[0]

    def train(self, rank: int, hooks: tuple[dict[str, Any], ...]) -> None:
        """In the process of an attempt."""
        warnings.simplefilter("ignore")  # torch's and mmengine's own
        Config.pretty_text = property(lambda self: f"{dict(self)!r}\n")  # yapf takes longer than a training
        self.environment(rank)
        cfg = config(self.work_dir, self.workers, **self.options)
        if self.sampler:
            cfg = by_iterations(cfg, self.sampler)
        cfg.train_cfg = self.train_cfg or cfg.train_cfg
        cfg.custom_hooks += [{"type": "ResumeHook", "every": self.every, "keep": 2}, *hooks]
        if self.processes > 1:
            cfg.launcher = "pytorch"
            store = f"file://{self.folder(self.attempts)}/store"
            torch.distributed.init_process_group("gloo", store, rank=rank, world_size=self.processes)
        Runner.from_cfg(cfg).train()

    def environment(self, rank: int) -> None:
        folder = self.folder(self.attempts)
        os.environ.update({
            "DDQJOBS_RUN_DIR": str(self.root), "DDQJOBS_ATTEMPT": str(self.attempts),
            "DDQJOBS_ATTEMPT_DIR": str(folder), "DDQJOBS_CLAIM": str(self.root / "claim"),
            "DDQJOBS_STOP": str(folder / "stop"), "RANK": str(rank), "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.processes),
        })  # fmt: skip

    def until_done_but_for(self, *interruptions: dict[str, Any]) -> None:
        """One attempt per interruption."""
        for interruption in interruptions:
            expected = -signal.SIGKILL if interruption["what"] == "kill" else exit_codes.STOPPED
            assert self.attempt({"type": "Interrupt", **interruption}) == expected

    def until_done(self, *interruptions: dict[str, Any]) -> Training:
        """One attempt per interruption, and a last one that nothing disturbs."""
        self.until_done_but_for(*interruptions)
        assert self.attempt() == 0
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Every line that was ever logged, in order of writing; without what clocks decide."""
        rows = []
        for path in logs.log_files(self.work_dir):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            rows += [{k: v for k, v in line.items() if k not in NOISE} for line in lines]
        return rows


class Outcome(NamedTuple):
    """The part of a training's result that must not depend on interruptions."""

    rows: list[dict[str, Any]]
    weights: dict[str, Any]
    best: list[str]


def outcome(training: Training) -> Outcome:
    """The logged lines, the last checkpoint's weights, and which epoch was the best."""
    name = f"iter_{ITERATIONS}.pth" if training.sampler else f"epoch_{EPOCHS}.pth"
    last = torch.load(training.work_dir / name, map_location="cpu", weights_only=False)
    weights = {**last["state_dict"], **{f"ema.{k}": v for k, v in last["ema_state_dict"].items()}}
    return Outcome(training.rows(), weights, sorted(path.name for path in training.work_dir.glob("best_*")))


def assert_same(left: Outcome, right: Outcome) -> None:
    """Bit for bit."""
    assert left.rows == right.rows
    assert left.best == right.best
    assert left.weights.keys() == right.weights.keys()
    assert all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)


def fork(action: Callable[[], object]) -> int:
    """Another process that does something, without an interpreter's start; its pid. It must be waited for."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
