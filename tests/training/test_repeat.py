"""Real trainings repeated: one that repeats, one that does not. Needs the environment mini-new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import processor
from tests.support.paths import ROOT

pytest.importorskip("torch")
pytest.importorskip("mmcv")

CONFIG = ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py"
DATASET = ["--images-train", "8", "--images-val", "2", "--size", "96x64", "--classes", "3"]
SEEDED = ["--cfg-options", "randomness.seed=7", "randomness.deterministic=True"]
# A training whose second iteration draws from the machine's own entropy, as an unordered sum on a GPU would.
RESTLESS = """
_base_ = {base!r}
custom_imports = dict(imports=['restless'], allow_failed_imports=False)
custom_hooks = [dict(type='Restless')]
"""
HOOK = """
import os
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class Restless(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            with torch.no_grad():
                for parameter in runner.model.parameters():
                    parameter *= 1 + int.from_bytes(os.urandom(2), "big") / 2**20
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    argv = [
        sys.executable,
        "-m",
        "ddqjobs.detect.prepare",
        "dataset",
        "--out",
        str(folder / "data"),
        *DATASET,
    ]
    subprocess.run(argv, env=processor.variables(processor.ON_THE_CPU, ROOT), check=True)
    return folder / "data"


def repeat(
    data: Path,
    folder: Path,
    config: Path,
    *arguments: str,
    start: tuple[str, ...] = (),
    where: dict[str, str] = processor.ON_THE_CPU,
) -> tuple[int, str]:
    variables = processor.variables(where, ROOT, folder) | {"DDQJOBS_INPUT_DATA": str(data)}
    argv = [sys.executable, *start, "-m", "ddqjobs.detect.align", "repeat", str(config)]
    argv += ["--work-dir", str(folder / "w"), "--out", str(folder / "align.json"), *arguments]
    output = subprocess.STDOUT
    done = subprocess.run(argv, env=variables, text=True, stdout=subprocess.PIPE, stderr=output)
    return done.returncode, done.stdout


@pytest.mark.bits
@pytest.mark.parametrize("where", processor.EACH)
def test_first_iterations_twice(where: dict[str, str], data: Path, tmp_path: Path) -> None:
    processor.require(where)
    code, text = repeat(data, tmp_path, CONFIG, "--iterations", "3", *SEEDED, where=where)
    assert code == 0, text
    assert "align: bit-equal over 3 iterations" in text
    report = json.loads((tmp_path / "align.json").read_text())
    assert (report["bit_equal"], report["kind"], report["metrics"]["iterations"]) == (True, "repeat", 3)
    assert "grad_norm" in report["terms"]


@pytest.mark.bits
@pytest.mark.long
def test_two_processes_repeat_too(data: Path, tmp_path: Path) -> None:
    """Over gloo: NCCL refuses two processes on one GPU."""
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    code, text = repeat(data, tmp_path, CONFIG, "--iterations", "2", *SEEDED, start=start)
    assert code == 0, text
    assert text.count("align: bit-equal over 2 iterations") == 1


def test_a_training_that_does_not_repeat(data: Path, tmp_path: Path) -> None:
    (tmp_path / "restless.py").write_text(HOOK)
    config = tmp_path / "config.py"
    config.write_text(RESTLESS.format(base=str(CONFIG)))
    code, text = repeat(data, tmp_path, config, "--iterations", "3", *SEEDED)
    assert code == 0, text
    assert "align: differs from iteration 2" in text
    report = json.loads((tmp_path / "align.json").read_text())
    assert (report["bit_equal"], report["metrics"]["first_difference"]) == (False, 2)


def test_what_cannot_be_repeated(data: Path, tmp_path: Path) -> None:
    code, text = repeat(data, tmp_path, CONFIG, "--iterations", "3")
    assert (code, "only with a seed" in text) == (2, True)
    code, text = repeat(data, tmp_path, CONFIG, "--iterations", "0", *SEEDED)
    assert (code, text) == (2, "align: --iterations: at least 1\n")
    assert not (tmp_path / "align.json").exists()
