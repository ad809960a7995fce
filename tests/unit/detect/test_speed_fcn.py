"""The fast DDQ FCN and DDQ R-CNN against their plain forms: bits in processes whose instructions are fixed,
as in test_speed.py. Needs mmdet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")
torch.set_num_threads(1)
if not hasattr(torch.optim.Optimizer, "register_load_state_dict_pre_hook"):
    pytest.skip("needs torch 2.1 or later", allow_module_level=True)

from ddqjobs.detect import runtime, speed  # noqa: E402
from ddqjobs.detect.training import determinism  # noqa: E402
from tests.support import processor  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402
from tests.unit.detect import test_speed as steps  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and mmdet's own, while they are imported
CONFIGS = ROOT / "experiments" / "configs" / "ddq"
SMALL = [
    "model.backbone.depth=18",
    "model.backbone.init_cfg=None",
    "model.data_preprocessor.type=DetDataPreprocessor",
]
# The second has no box.
BATCHES = {"fcn": [steps.BATCHES[1], steps.BATCHES[3]], "rcnn": [steps.BATCHES[1]]}


def model(family: str, fast: bool) -> Any:
    """A small one: ResNet-18, at most 40 queries of a level."""
    options = [*SMALL, f"speed={fast}"]
    cfg = runtime.load_config(str(CONFIGS / f"ddq-{family}_r50_8xb2-12e_coco.py"), options)
    head = cfg.model.bbox_head if family == "fcn" else cfg.model.rpn_head
    neck = cfg.model.neck[0] if family == "fcn" else cfg.model.neck
    head.dqs_cfg.nms_pre, neck.in_channels = 40, [64, 128, 256, 512]
    speed.configure(cfg)
    torch.manual_seed(3)
    detector = runtime.build_model(cfg).train()
    detector.init_weights()
    generator = torch.Generator().manual_seed(5)
    for parameter in detector.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.01
    return detector


def compare(device: str) -> dict[str, Any]:
    """Return the differences of plain and fast, by family and batch, and how often the fast form went the
    plain way."""
    runtime.set_up()
    determinism.prepare({"randomness": {"deterministic": True}})
    torch.use_deterministic_algorithms(True)  # as mmengine does
    report: dict[str, Any] = {}
    for family, batches in BATCHES.items():
        plain, fast = (model(family, way).to(device) for way in (False, True))
        head = fast.bbox_head if family == "fcn" else fast.rpn_head
        plainly: list[int] = []
        inner = head.dense_queries
        head.dense_queries = lambda *a, plainly=plainly, inner=inner: plainly.append(1) or inner(*a)
        apart = [steps.apart(steps.training_step(plain, b), steps.training_step(fast, b)) for b in batches]
        report[family] = {"apart": apart, "plainly": len(plainly)}
    return report


_COMPARE = """
import json, sys
from tests.unit.detect import test_speed_fcn as here
json.dump(here.compare(sys.argv[1]), open(sys.argv[2], "w"))
"""


def compared(device: str, variables: dict[str, str], folder: Path) -> Any:
    """Return the result of :func:`compare` in a process with these variables."""
    out = folder / "compared.json"
    argv = [sys.executable, "-W", "ignore", "-c", _COMPARE, device, str(out)]
    subprocess.run(argv, env=processor.variables(variables, ROOT), check=True)
    return json.loads(out.read_text())


# Both branches of the batch without a box go the plain way.
WANTED = {"fcn": {"apart": [{}, {}], "plainly": 2}, "rcnn": {"apart": [{}], "plainly": 0}}


@pytest.mark.bits
def test_every_loss_and_gradient_has_the_bits_of_the_plain_form(tmp_path: Path) -> None:
    assert compared("cpu", processor.FIXED, tmp_path) == WANTED


@pytest.mark.gpu
def test_on_a_gpu_too(tmp_path: Path) -> None:
    processor.require(processor.ON_A_GPU)
    assert compared("cuda", processor.ON_A_GPU, tmp_path) == WANTED


_OF_SEVERAL = """
import os, sys
import torch
from tests.unit.detect import test_speed as steps
from tests.unit.detect import test_speed_fcn as here
here.runtime.set_up()
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
family, batch = sys.argv[1 + rank].split(":")
logs = []
for fast in (False, True):
    one, batch_ = here.model(family, fast), steps.BATCHES[int(batch)]
    torch.manual_seed(11)
    logs.append(one.parse_losses(one.loss(steps.images(batch_), steps.samples(batch_)))[1])
differ = [n for n in logs[0] if not torch.equal(logs[0][n].reshape(()), logs[1][n].reshape(()))]
os.write(1, f"{rank} of {torch.distributed.get_world_size()} differ in {differ}\\n".encode())
"""


@pytest.mark.bits
@pytest.mark.long
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("family", ["fcn", "rcnn"])
def test_processes_of_which_one_has_no_box_in_its_batch(family: str, count: int) -> None:
    """Each has the losses of the plain form's: all go the plain way."""
    arguments = [f"{family}:{3 if rank == 1 else 1}" for rank in range(count)]
    for rank, text in enumerate(steps.in_processes(_OF_SEVERAL, *arguments)):
        assert f"{rank} of {count} differ in []" in text
