"""Verification from inside, in an environment with torch: right operators pass, wrong ones are found."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmcv")
pytest.importorskip("mmdet")

from ddqjobs.detect import ops, verify, verify_ops  # noqa: E402  (after the skip)
from tests.support import processor  # noqa: E402

ops.install()
pytestmark = pytest.mark.filterwarnings("ignore")  # mmdet's and mmcv's own


def arguments(**changed: Any) -> argparse.Namespace:
    defaults: dict[str, Any] = {
        "expect": [],
        "compiled": False,
        "gpu": False,
        "ops": ",".join(verify_ops.CHECKS),
    }
    defaults |= {"module": [], "config": ""}
    return argparse.Namespace(**{**defaults, **changed})


def test_all_is_well() -> None:
    report: dict[str, Any] = {"python": "3"}
    verify.verify(report, arguments(expect=["torch=" + torch.__version__, "python=3"]))
    assert report["checked"] == list(verify_ops.CHECKS)
    assert report["ops"] == "stand-in"


@pytest.mark.gpu
def test_all_is_well_on_a_gpu() -> None:
    processor.require(processor.ON_A_GPU)
    report: dict[str, Any] = {"python": "3"}
    verify.verify(report, arguments(gpu=True))
    assert report["checked"] == list(verify_ops.CHECKS)
    assert report["gpus"] >= 1
    assert report["architectures"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expect": ["mmdet=9.9"]}, r"mmdet is 3\.\d\.0, not 9\.9"),
        ({"expect": ["apex=1"]}, "apex is missing, not 1"),
        ({"compiled": True}, "mmcv has no compiled operators"),
        ({"ops": "nms,carafe"}, "no check of operator carafe; there are: nms, roi_align"),
    ],
)
def test_what_is_not_as_it_should_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(verify_ops.Wrong, match=message):
        verify.verify({}, arguments(**changed))


@pytest.mark.parametrize(
    ("name", "operator", "spoilt", "message"),
    [
        ("nms", "nms", lambda kept: kept.flip(0), "nms keeps boxes"),
        ("roi_align", "roi_align_forward", None, "the result of roi_align is wrong by up to"),
        ("roi_align", "roi_align_backward", None, "the gradient of roi_align is wrong by up to"),
    ],
)
def test_wrong_operators(
    name: str, operator: str, spoilt: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcv.utils import ext_loader

    module = ext_loader.load_ext("_ext", [operator])
    right = getattr(module, operator)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        result = right(*args, **kwargs)
        if spoilt is not None:
            return spoilt(result)
        # These fill a tensor that they are given: the output, and the gradient of the input.
        target = kwargs.get("grad_input", args[2] if operator.endswith("forward") else args[-1])
        target.mul_(1.001)
        return result

    verify_ops.CHECKS[name]("cpu")
    monkeypatch.setattr(module, operator, wrong)
    with pytest.raises(verify_ops.Wrong, match=message):
        verify_ops.CHECKS[name]("cpu")


def test_wrong_attention_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcv.ops import multi_scale_deform_attn
    from mmdet.models.losses import focal_loss

    right = multi_scale_deform_attn.multi_scale_deformable_attn_pytorch
    shifted = lambda v, s, locations, w: right(v, s, locations + 0.01, w)  # noqa: E731
    monkeypatch.setattr(multi_scale_deform_attn, "multi_scale_deformable_attn_pytorch", shifted)
    with pytest.raises(verify_ops.Wrong, match="result of deformable attention"):
        verify_ops.check_deformable_attention("cpu")
    formula = focal_loss.py_sigmoid_focal_loss
    halved = lambda *args, **kwargs: formula(*args, **kwargs) / 2  # noqa: E731
    monkeypatch.setattr(focal_loss, "py_sigmoid_focal_loss", halved)
    with pytest.raises(verify_ops.Wrong, match="result of sigmoid_focal_loss"):
        verify_ops.check_focal_loss("cpu")


def test_configurations_that_mmdet_brings() -> None:
    report: dict[str, Any] = {}
    config = "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py"
    verify.verify(report, arguments(ops="nms", module=["mmdet.models"], config=config))
    assert report["config"] == config
    with pytest.raises(FileNotFoundError, match=r"mmdet/\.mim/configs/ddq/no\.py"):
        verify.verify({}, arguments(ops="nms", config="mmdet::ddq/no.py"))


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        ("sm_80", 80, True),
        ("sm_80", 86, True),  # machine code of a lower minor version
        ("sm_86", 80, False),
        ("sm_80", 90, False),  # of another major version
        ("compute_80", 90, True),  # the intermediate language, on what is later
        ("compute_90", 80, False),
        ("sm_90a", 90, True),
        ("sm_90a", 100, False),
        ("sm_37", 90, False),
    ],
)
def test_architectures(built: str, capability: int, runs: bool) -> None:
    assert verify._runs_on(built, capability) is runs


def test_what_mmcv_was_compiled_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in its place, since the real function crashes only as some compilers link it."""
    place = tmp_path / "mmcv" / "ops" / "__init__.py"
    place.parent.mkdir(parents=True)
    (place.parent.parent / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    known = "def get_compiler_version(): return 'GCC 12'\ndef get_compiling_cuda_version(): "
    place.write_text(known + "return '13.0'\n")
    assert verify._compiled_with() == {"mmcv_compiler": "GCC 12", "mmcv_cuda": "13.0"}
    place.write_text(known + "import os; os.kill(os.getpid(), 11)\n")
    assert verify._compiled_with()["mmcv_note"].endswith("(signal 11)")
    place.write_text(known + "raise OSError('no word')\n")
    with pytest.raises(verify_ops.Wrong, match="OSError: no word"):
        verify._compiled_with()


def test_an_mmcv_without_cuda_is_good_for_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one has it who builds a release for torch 1.9 where there is no CUDA compiler."""
    monkeypatch.setitem(sys.modules, "mmcv._ext", ModuleType("mmcv._ext"))
    monkeypatch.setattr(torch.version, "cuda", "10.2")
    monkeypatch.setattr(verify, "_compiled_with", lambda: {"mmcv_cuda": "not available"})
    verify._compiled({}, False)
    with pytest.raises(verify_ops.Wrong, match="compiled without CUDA; build it with FORCE_CUDA=1"):
        verify._compiled({}, True)
    monkeypatch.setattr(verify, "_compiled_with", lambda: {"mmcv_cuda": "11.1"})
    with pytest.raises(verify_ops.Wrong, match=r"compiled with CUDA '11\.1', torch with 10\.2"):
        verify._compiled({}, False)
