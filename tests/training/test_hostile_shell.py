"""The matrix of nano has the numbers of a clean shell when a hostile one submits it, here and on Slurm."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.detect.job import logs
from ddqjobs.project import open_project
from tests.support.hostile import COMMANDS, HOSTILE
from tests.support.paths import ROOT
from tests.support.slurm import Lab

TWO = "two.s7"
# nano, and a training by two processes.
EXPERIMENT = {
    "base": "nano",
    "name": "mine",
    "codes": {
        "two": {
            "environment": "mini-new",
            "seed_option": "randomness.seed",
            "commands": {
                "train": ["env", "DDQJOBS_GPUS=2", "{python}", "-m", "ddqjobs.detect.launch", "torchrun",
                          "{python}", "-m", "ddqjobs.detect.train", "{config}", "--work-dir", "{work_dir}",
                          "--init", "{input.init}", "{options}"],
            },
        }
    },
    "tasks": {
        "two": {
            "kind": "train", "once": True, "code": "two", "seeds": [7], "resources": {"cpus": 2},
            "config": "configs/nano/ddq-detr_r18_shapes.py",
            "inputs": {"init": "initial.init", "data": "data.data"},
        }
    },
}  # fmt: skip
SITES: dict[str, dict[str, Any]] = {
    "local": {"scheduler": "local", "local": {"cpus": 2}, "grace": "1s"},
    "slurm": {"scheduler": "slurm", "slurm": {"partition": "gpu", "extra": ["--export=ALL"]}, "grace": "1s"},
}
# Stands for a module, and ends whatever job imports it.
POISON = 'import os\nif "DDQJOBS_RUN" in os.environ: os._exit(66)\n'


def project(root: Path, site: str) -> Path:
    """Make a project whose only site uses the checkout's built environments."""
    place = root / "templates" / site / "site.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"name": site, "environments": str(ROOT / ".environments"), **SITES[site]}))
    (root / "experiments").mkdir()
    (root / "experiments" / "mine.yaml").write_text(json.dumps(EXPERIMENT))
    return root


def hostile(folder: Path) -> dict[str, str]:
    """Return the variables of a hostile shell, with modules in its folder that end what imports them."""
    user = folder / "user" / "lib" / "python3.11" / "site-packages"
    user.mkdir(parents=True)
    for name in ("torch", "numpy", "mmengine", "mmdet", "colorsys", "sitecustomize"):
        (folder / f"{name}.py").write_text(POISON)
    (user / "usercustomize.py").write_text(POISON)
    (user / "poison.pth").write_text("import sys; sys.path.insert(0, '/poison')\n")
    variables = {
        name: value.replace("/poison", str(folder)) for name, value in {**HOSTILE, **COMMANDS}.items()
    }
    variables["PATH"] = f"{folder}/venv/bin:{folder}/conda/bin:{os.environ['PATH']}"
    return {**os.environ, **variables}


def numbers(root: Path, site: str, shell: dict[str, str]) -> dict[str, Any]:
    """Run everything from a shell, and return the metrics of each run and the losses of each training."""
    argv = [sys.executable, "-m", "ddqjobs", "submit", "mine", "--site", site, "--wait"]
    done = process.run(argv, timeout=1800, cwd=root, env=shell)
    assert done.code == 0, done.stdout + done.stderr
    products = open_project(root).products("mine")
    runs = root / "results" / "mine" / "runs"
    curves = {
        n: logs.read(runs / n / "artifacts" / "log").train
        for n, product in products.items()
        if product.kind == "train"
    }
    return {
        "metrics": {name: product.metrics for name, product in products.items()},
        "losses": {
            name: [(row.iteration, row.values["loss"]) for row in rows] for name, rows in curves.items()
        },
    }


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the numbers of this shell, on the local site."""
    figures = numbers(project(tmp_path_factory.mktemp("clean") / "project", "local"), "local", {**os.environ})
    assert len(figures["metrics"]) == 16
    assert len(figures["losses"][TWO]) > 1
    return figures


@pytest.mark.long
@pytest.mark.bits
@pytest.mark.timeout(3600)  # two matrices, and the clean one before them
def test_on_the_local_site(clean: dict[str, Any], tmp_path: Path) -> None:
    root = project(tmp_path / "project", "local")
    assert numbers(root, "local", hostile(tmp_path / "poison")) == clean
    log = (root / "results/mine/runs" / TWO / "attempts/1/stdout.log").read_text()
    assert "GPU number: 2" in log


@pytest.mark.long
@pytest.mark.bits
@pytest.mark.timeout(3600)  # two matrices, and the clean one before them
def test_on_slurm(clean: dict[str, Any], lab: Lab, tmp_path: Path) -> None:
    root = project(tmp_path / "project", "slurm")
    assert numbers(root, "slurm", hostile(tmp_path / "poison")) == clean
    log = (root / "results/mine/runs" / TWO / "attempts/1/stdout.log").read_text()
    assert "GPU number: 2" in log
