"""Weights that were brought are what a job's real mmengine loads, with the network off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support.cli import opened
from tests.support.data import Served, serving, sha256
from tests.support.paths import ROOT

# As init_cfg=dict(type='Pretrained', checkpoint=...) does it.
LOAD = """
import sys, pathlib, os
from mmengine.runner import CheckpointLoader
for name in sys.argv[1:]:
    loaded = CheckpointLoader.load_checkpoint(name, map_location="cpu")
    print("LOADED", name, float(loaded["weight"].sum()))
pathlib.Path(os.environ["DDQJOBS_WORK_DIR"], "done.txt").write_text("x")
"""
OPENMMLAB = "open-mmlab://detectron2/resnet50_caffe"
SWIN = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth"
EXPERIMENT = """
name: tiny
implementations: {}
codes:
  new:
    environment: mini-new
    # No network: whatever would be downloaded is asked of a proxy that is not there.
    variables: {http_proxy: "http://127.0.0.1:1", https_proxy: "http://127.0.0.1:1"}
models: {}
weights:
  caffe: {url: "%(url)s", sha256: "%(sha)s"}
  swinl: {url: "%(swin)s"}
tasks:
  load:
    kind: smoke
    once: true
    code: new
    products: {done: done.txt}
    command: ["{python}", "%(program)s", "%(name)s", "%(swin)s"]
"""


def test_mmengine_finds_them_where_the_job_script_says(tmp_path: Path) -> None:
    place = environment.location(ROOT / ".environments", environment.load("mini-new", Files(ROOT)))
    python = place / "bin" / "python"
    if not python.exists():
        pytest.fail("environment mini-new is not built: make environments")
    weights = tmp_path / "weights.pth"
    save = f"import torch; torch.save({{'weight': torch.arange(7.0)}}, {str(weights)!r})"
    assert process.run([python, "-c", save], timeout=120).code == 0
    hub = next(place.glob("lib/python*/site-packages/mmengine/hub/openmmlab.json"))
    url = json.loads(hub.read_text())[OPENMMLAB.removeprefix("open-mmlab://")]
    program = tmp_path / "load.py"
    program.write_text(LOAD)
    fields = {"url": url, "sha": sha256(weights.read_bytes()), "swin": SWIN, "name": OPENMMLAB}
    with (
        opened(tmp_path / "project", EXPERIMENT % {**fields, "program": program}) as project,
        serving() as server,
    ):
        site = {
            "name": "local",
            "scheduler": "local",
            "grace": "0s",
            "environments": str(ROOT / ".environments"),
        }
        project.write("templates/local/site.yaml", site)
        assert (
            project.invoke("submit", "tiny", "--wait").code == 1
        )  # nothing was brought: it wants the network
        assert "Connection refused" in project.log("load").read_text()
        for name in (url, SWIN):
            server.files[f"/{name.rpartition('/')[2]}"] = Served(weights.read_bytes())
        brought = project.invoke("data", "weights", "tiny", "--from", server.url)
        assert brought.code == 0, brought
        project.invoke("retry", "tiny", "load")
        assert project.invoke("submit", "tiny", "--wait").code == 0
        log = project.log("load", 2).read_text()
        assert [f"LOADED {name} 21.0" in log for name in (OPENMMLAB, SWIN)] == [True, True]
        assert "Downloading" not in log
