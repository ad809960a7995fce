"""The environments are built from their declarations, and are the shipped ones as far as that goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ddqjobs.environments import environment as environments
from ddqjobs.spec.shipped import Files
from tests.legacy.conftest import BUILT, PROJECT, Stack
from tests.support.paths import ROOT

# What these add, and what Python 3.8.0 has in another version than 3.8.12.
DIFFERENT = {
    "legacy": {"mmcv-full", "mmdet", "torch", "torchvision", "wheel"},
    "new-detr": {"mmcv", "mmdet", "torch", "torchvision", "flake8", "pycodestyle", "pyflakes"},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_all_other_packages_are_those_of_the_shipped_environment(name: str) -> None:
    shipped = environments.pins(environments.load(name, Files(ROOT)).lock)
    here = environments.pins(environments.load(f"{name}-cpu", Files(PROJECT)).lock)
    assert {
        package for package in {*shipped, *here} if shipped.get(package) != here.get(package)
    } == DIFFERENT[name]


@pytest.mark.parametrize(("name", "mmcv"), [("legacy-cpu", "1.4.7"), ("new-detr-cpu", "2.0.0rc4")])
def test_the_compiled_operators_agree_with_the_reference(name: str, mmcv: str, stack: Stack) -> None:
    readiness = environments.state(BUILT, environments.load(name, Files(stack.root)))
    assert readiness.ready is not None, readiness.reason
    report: dict[str, Any] = json.loads(readiness.ready.checks["import"].output.splitlines()[-1])
    assert (report["ops"], report["mmcv"], report["python"][:4]) == ("compiled", mmcv, "3.8.")
    assert report["checked"] == ["nms", "roi_align", "deformable_attention", "sigmoid_focal_loss"]
