"""GPU usage that a real training logs: of two that are counted for it, half busy, of none, and of a real
one. Needs the environment mini-new, or one for a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmcv")

from ddqjobs.detect.job import costs, live, logs
from tests.support import processor
from tests.support.paths import ROOT

CONFIG = ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py"
DATASET = ["--images-train", "8", "--images-val", "2", "--size", "96x64", "--classes", "3"]
COUNTED = """
_base_ = {base!r}
custom_imports = dict(imports=['counted'], allow_failed_imports=False)
custom_hooks = [dict(type='Counted')]
"""
HOOK = """
from mmengine.registry import HOOKS
from ddqjobs.detect.hooks import usage

usage.SAMPLE_S = 0.0

@HOOKS.register_module(force=True)
class Counted(usage.UsageHook):
    def before_train(self, runner):
        if runner.iter == 0:
            runner.message_hub.update_scalar("train/gpu_hours", 99.0)  # of no checkpoint: does not count
        self.start(runner, 2, lambda: 0.5)
"""


def run(folder: Path, *arguments: object, where: dict[str, str] = processor.ON_THE_CPU) -> None:
    variables = processor.variables(where, ROOT, folder) | {"DDQJOBS_INPUT_DATA": str(folder / "data")}
    argv = [sys.executable, "-m", *map(str, arguments)]
    subprocess.run(argv, env=variables, check=True)


def test_lines_of_a_training_say_what_its_gpus_do(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(HOOK)
    config = tmp_path / "config.py"
    config.write_text(COUNTED.format(base=str(CONFIG)))
    run(tmp_path, "ddqjobs.detect.prepare", "dataset", "--out", tmp_path / "data", *DATASET)
    run(tmp_path, "ddqjobs.detect.train", config, "--work-dir", tmp_path / "w")

    rows = [row.values for row in logs.read(tmp_path / "w").train]
    hours = [row["gpu_hours"] for row in rows]
    assert {row["gpu_busy"] for row in rows} == {0.5}
    assert hours == sorted(hours)
    assert hours[-1] * 3600 >= 2 * sum(row["time"] for row in rows[1:])  # two GPUs, validations too
    assert hours[-1] < 1
    assert rows[0]["gpu_hours_to_come"] > rows[-1]["gpu_hours_to_come"] == 0.0
    progress = live.progress(tmp_path / "w")
    assert (progress.gpu_busy, progress.gpu_hours_to_come) == (0.5, 0.0)
    taken = costs.of(logs.read(tmp_path / "w"))
    assert (taken["gpu_busy"], taken["peak_memory_mb"]) == (0.5, None)
    assert taken["gpu_hours"] == float(f"{hours[-1]:.4g}")


@pytest.mark.long
def test_without_a_gpu_nothing_is_claimed(tmp_path: Path) -> None:
    run(tmp_path, "ddqjobs.detect.prepare", "dataset", "--out", tmp_path / "data", *DATASET)
    run(tmp_path, "ddqjobs.detect.train", CONFIG, "--work-dir", tmp_path / "w")
    log = logs.read(tmp_path / "w")
    assert not [key for row in log.train for key in row.values if key.startswith("gpu_")]
    taken = costs.of(log)
    assert taken["seconds_per_iteration"]
    assert (taken["gpu_busy"], taken["gpu_hours"]) == (None, None)


@pytest.mark.gpu
def test_a_training_on_a_gpu_says_what_it_costs(tmp_path: Path) -> None:
    import torch

    processor.require(processor.ON_A_GPU)
    run(tmp_path, "ddqjobs.detect.prepare", "dataset", "--out", tmp_path / "data", *DATASET)
    run(tmp_path, "ddqjobs.detect.train", CONFIG, "--work-dir", tmp_path / "w", where=processor.ON_A_GPU)
    log = logs.read(tmp_path / "w")
    assert all(0 < row.values["gpu_hours"] < 1 for row in log.train)
    assert log.train[-1].values["gpu_hours_to_come"] == 0.0
    busy = [row.values["gpu_busy"] for row in log.train if "gpu_busy" in row.values]
    assert all(0 <= share <= 1 for share in busy)
    taken = costs.of(log)
    assert (taken["gpu_hours"] or 0) > 0
    weights = torch.load(tmp_path / "w" / "epoch_2.pth", weights_only=False)["state_dict"].values()
    assert (taken["peak_memory_mb"] or 0) > sum(w.numel() * w.element_size() for w in weights) / 2**20
