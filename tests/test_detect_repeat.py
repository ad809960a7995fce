"""A real training repeated, with and without what makes it repeat. Needs the environment mini-new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmcv")

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py"
DATASET = ["--images-train", "8", "--images-val", "2", "--size", "96x64", "--classes", "3"]


def run(folder: Path, *words: object) -> tuple[int, str]:
    variables = {"PYTHONPATH": str(ROOT), "DDQJOBS_INPUT_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", *map(str, words)]
    output = subprocess.STDOUT
    done = subprocess.run(
        argv, env={**os.environ, **variables}, text=True, stdout=subprocess.PIPE, stderr=output
    )
    return done.returncode, done.stdout


@pytest.mark.training
def test_first_iterations_twice(tmp_path: Path) -> None:
    assert run(tmp_path, "ddqjobs.detect.prepare", "dataset", "--out", tmp_path / "data", *DATASET)[0] == 0
    words = ["ddqjobs.detect.repeat", CONFIG, "--work-dir", tmp_path / "w", "--out", tmp_path / "align.json"]
    seeded = ["--cfg-options", "randomness.seed=7", "randomness.deterministic=True"]
    code, text = run(tmp_path, *words, "--iterations", 3, *seeded)
    assert code == 0, text
    assert "repeat: bit-equal over 3 iterations" in text
    found = json.loads((tmp_path / "align.json").read_text())
    assert (found["bit_equal"], found["repeat"], found["metrics"]["iterations"]) == (True, True, 3)

    code, text = run(tmp_path, *words, "--iterations", 3)
    assert code == 2
    assert "only with a seed" in text
