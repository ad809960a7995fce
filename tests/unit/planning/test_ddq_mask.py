"""experiments/ddq-mask.yaml: its runs, and the scripts that they become on each site."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process

MASKS = ("rows-and-columns", "exact", "rows", "columns")


def ddqjobs(folder: Path, *arguments: str) -> process.Completed:
    done = process.run([sys.executable, "-m", "ddqjobs", *arguments], timeout=300, cwd=folder)
    assert done.code == 0, done.stderr
    return done


def test_each_mask_is_tested_and_trained_three_times(tmp_path: Path) -> None:
    runs = json.loads(ddqjobs(tmp_path, "plan", "ddq-mask", "--json").stdout)["runs"]
    model = "ddq-detr-4scale"
    seeded = [f"{mask}.s{seed}" for mask in MASKS for seed in (7, 1007, 2007)]
    assert {run["run"] for run in runs} == {
        f"convert.{model}",
        *(f"test-released.{model}.{mask}" for mask in MASKS),
        *(f"{task}.{model}.{variant}" for task in ("train", "test") for variant in seeded),
    }


@pytest.mark.parametrize("site", ["slurm", "bscc", "local"])
def test_scripts_say_which_mask(site: str, tmp_path: Path) -> None:
    out = tmp_path / "scripts"
    ddqjobs(tmp_path, "submit", "ddq-mask", "--dry-run", "--site", site, "--out", str(out))
    files = [path for path in out.rglob("*.sh") if path.is_file()]
    assert files
    assert process.run(["bash", "-n", *map(str, files)], timeout=60).code == 0
    text = "".join(path.read_text() for path in files)
    for mask in MASKS:
        assert f"model.distinct_mask={mask}" in text
    assert "configs/ddq/ddq-detr-4scale-mask_r50_8xb2-12e_coco.py" in text
