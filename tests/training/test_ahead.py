"""Tests of ``speed=True``, whose batches are launched ahead, against mmengine's loop. Needs the environment
mini-new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")
if not hasattr(torch.optim.Optimizer, "register_load_state_dict_pre_hook"):
    pytest.skip("needs torch 2.1 or later", allow_module_level=True)

from ddqjobs.detect import runtime  # noqa: E402
from tests.support import processor  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and mmdet's own, while they are imported
CONFIG = ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py"
IMAGES = 11  # from the fourth on a GPU passes them as a graph
DATASET = ["--images-train", "2", "--images-val", str(IMAGES), "--size", "96x64", "--classes", "3"]
WHERE = [
    pytest.param(processor.FIXED, id="cpu"),
    pytest.param(processor.ON_A_GPU, id="gpu", marks=pytest.mark.gpu),
]
WATCHED = """
_base_ = {base!r}
custom_imports = dict(imports=['watch'], allow_failed_imports=False)
custom_hooks = [dict(type='Watch')]
"""
WATCH = """
import json
import os
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class Watch(Hook):
    def before_test_epoch(self, runner):
        self.seen = []

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(["before", batch_idx, data_batch["data_samples"][0].img_id])

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(["after", batch_idx, outputs[0].img_id])

    def after_test_epoch(self, runner, metrics=None):
        kept = {"loop": type(runner.test_loop).__name__, "seen": self.seen, "metrics": metrics}
        (Path(runner.work_dir) / "seen.json").write_text(json.dumps(kept))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, weights and a configuration with a hook that keeps what it was told."""
    folder = tmp_path_factory.mktemp("ahead")
    arguments = ["dataset", "--out", str(folder / "data"), *DATASET]
    argv = [sys.executable, "-m", "ddqjobs.detect.prepare", *arguments]
    subprocess.run(argv, env=processor.variables(processor.ON_THE_CPU, ROOT), check=True)
    (folder / "watch.py").write_text(WATCH)
    (folder / "config.py").write_text(WATCHED.format(base=str(CONFIG)))
    runtime.set_up()
    torch.manual_seed(7)
    model = runtime.build_model(runtime.load_config(str(CONFIG)))
    model.init_weights()
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "random.pth")
    return folder


def detect(folder: Path, name: str, where: dict[str, str], *options: str) -> tuple[Any, Any]:
    """Return what the hook kept, and the predictions."""
    argv = [sys.executable, "-m", "ddqjobs.detect.test", str(folder / "config.py")]
    argv += [str(folder / "random.pth"), "--work-dir", str(folder / name), "--cfg-options"]
    argv += ["randomness.seed=7", "randomness.deterministic=True", *options]
    variables = processor.variables(where, ROOT, folder) | {"DDQJOBS_INPUT_DATA": str(folder / "data")}
    done = subprocess.run(argv, env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no graph" not in done.stderr
    record = json.loads((folder / name / "seen.json").read_text())
    return record, dict(np.load(folder / name / "predictions.npz"))


@pytest.mark.bits
@pytest.mark.parametrize("where", WHERE)
def test_hooks_and_evaluation_see_what_they_see_without_it(where: dict[str, str], folder: Path) -> None:
    processor.require(where)
    kind = "gpu" if where == processor.ON_A_GPU else "cpu"
    plain, expected = detect(folder, f"plain-{kind}", where)
    fast, predictions = detect(folder, f"fast-{kind}", where, "speed=True")
    assert (plain["loop"], fast["loop"]) == ("TestLoop", "AheadTestLoop")
    assert len(fast["seen"]) == 2 * IMAGES
    assert fast["seen"] == plain["seen"]
    assert fast["metrics"] == plain["metrics"]
    assert predictions.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(predictions[name], values, err_msg=name)
