"""Set-ups of mmdet's zoo, shrunk, through train, convert, test and report: nothing of ours knows them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.environments import environment
from ddqjobs.project import open_project
from ddqjobs.spec.model import Status
from ddqjobs.spec.shipped import Files
from tests.support.paths import ROOT
from tests.support.zoo import MODELS

BUILT = ROOT / ".environments"
QUICK = ("mask-rcnn", "dino")
METRICS: dict[str, dict[str, str | int]] = {
    "mask-rcnn": {"name": "mask AP", "key": "segm_mAP"},
    "panoptic-fpn": {"name": "PQ", "key": "PQ", "scale": 1, "decimals": 2},
}
PROGRAMS = {
    "train": "{python} -m ddqjobs.detect.train {config} --work-dir {work_dir} {options}",
    "test": "{python} -m ddqjobs.detect.test {config} {checkpoint} --work-dir {work_dir} {options}",
    "convert": "{python} -m ddqjobs.detect.convert {input.source} --out {work_dir}/checkpoint.pth "
    "--report {work_dir}/convert.json --config {config}",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all configurations and one data set."""
    folder = tmp_path_factory.mktemp("zoo")
    python = environment.location(BUILT, environment.load("mini-new", Files(ROOT))) / "bin" / "python"
    if not python.exists():
        pytest.fail("environment mini-new is not built: make environments")
    configs = folder / "experiments" / "configs" / "zoo"
    argv = [python, ROOT / "tests" / "support" / "zoo.py", folder / "data", configs]
    result = process.run(argv, timeout=600, env={"PYTHONPATH": str(ROOT)})
    assert result.code == 0, result.stderr
    shutil.copytree(ROOT / "tests" / "support" / "panopticapi", configs / "panopticapi")
    site = {"name": "local", "scheduler": "local", "grace": "2s", "environments": str(BUILT)}
    (folder / "templates" / "local").mkdir(parents=True)
    (folder / "templates" / "local" / "site.yaml").write_text(json.dumps(site))
    return folder


def declare(project: Path, model: str) -> None:
    """Write the experiment of one model."""
    code = {
        "environment": "mini-new",
        "seed_option": "randomness.seed",
        "commands": {kind: text.split() for kind, text in PROGRAMS.items()},
        "variables": {"PYTHONPATH": "{code}/configs/zoo"} if model == "panoptic-fpn" else {},
    }
    implementation = {"code": "mmdet", "config": f"configs/zoo/{model}.py"}
    content = {
        "name": model,
        "implementations": {"mmdet": ""},
        "codes": {"mmdet": code},
        "models": {model: {"implementations": {"mmdet": implementation}, "metric": METRICS.get(model, {})}},
        "phases": {"1": {"title": "train"}, "2": {"title": "converted", "against": "1"}},
        "variants": {"default": {"seed": 1}},
        "resources": {"cpus": 1, "time": "30m"},
        "tasks": {
            "train": {"kind": "train", "implementation": "mmdet", "phase": "1"},
            "convert": {
                "kind": "convert",
                "implementation": "mmdet",
                "inputs": {"source": "train.checkpoint"},
            },
            "test": {
                "kind": "test",
                "implementation": "mmdet",
                "phase": "2",
                "inputs": {"checkpoint": "convert.checkpoint"},
                "tolerance": {"metric" if model in METRICS else "ap": 0},
            },
        },
    }
    (project / "experiments" / f"{model}.yaml").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "model", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in MODELS]
)
def test_a_set_up_goes_through_train_convert_test_and_report(project: Path, model: str) -> None:
    declare(project, model)
    argv = [sys.executable, "-m", "ddqjobs", "submit", model, "--wait"]
    submitted = process.run(argv, timeout=1800, cwd=project)
    opened = open_project(project)
    plan = opened.plan(model)
    assert {planned.run.task: planned.status for planned in plan.runs} == dict.fromkeys(
        ("train", "convert", "test"), Status.DONE
    ), (
        submitted.stdout
        + submitted.stderr
        + "".join(f"\n{planned.run.name}: {planned.reason}" for planned in plan.runs)
    )
    report = opened.report(model)
    (row,) = report.models
    trained, tested = row.cells
    assert trained is not None
    assert tested is not None
    assert report.metrics == (METRICS.get(model, {}).get("name", "AP"),)
    assert tested.value.quanta
    if model == "soft-teacher":  # validates teacher and student: neither AP is *the* AP of the training
        assert trained.value.text == "missing"
    else:  # the same weights: the test of the converted ones says what the last validation said
        assert tested.value.quanta == trained.value.quanta
        assert tested.judgement.good
    shutil.rmtree(project / "results" / model)
