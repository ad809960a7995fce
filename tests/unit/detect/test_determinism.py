"""Operators of compiled mmcv in a deterministic training. There is neither here nor a GPU: a
stand-in for the module, and tensors that say they are on one."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ddqjobs.detect.training import determinism, numerics

ON_GPU, ON_CPU = SimpleNamespace(is_cuda=True), SimpleNamespace(is_cuda=False)


@pytest.fixture
def compiled() -> Any:
    names = (
        "nms",
        "roi_align_forward",
        "roi_align_backward",
        "roi_pool_backward",
        "deform_conv_backward_input",
    )
    return SimpleNamespace(**{name: lambda *_, __name=name, **__: f"compiled {__name}" for name in names})


def test_operators_are_this_projects_on_a_gpu_only(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddqjobs.detect.ops import roi_align

    without_triton = "ddqjobs.detect.ops.roi_align_kernels"
    monkeypatch.setitem(sys.modules, without_triton, None)
    monkeypatch.delattr(without_triton, raising=False)
    monkeypatch.setattr(roi_align, "roi_align_backward", lambda *_, **__: "ours")
    for _ in range(2):  # also where a process prepares twice
        assert determinism.replace(compiled) == ["roi_align_forward", "roi_align_backward"]
        assert compiled.roi_align_backward(ON_GPU, 1, scale=2) == "ours"
        assert compiled.roi_align_backward(ON_CPU, 1, scale=2) == "compiled roi_align_backward"
    assert compiled.nms(ON_GPU) == "compiled nms"


@pytest.mark.parametrize("name", ["roi_pool_backward", "deform_conv_backward_input"])
def test_others_stop_the_run_with_their_name(compiled: Any, name: str) -> None:
    determinism.replace(compiled)
    with pytest.raises(
        determinism.NotDeterministic, match=f"deterministic=True: {name} of compiled mmcv adds"
    ):
        getattr(compiled, name)(1, grad=ON_GPU)
    assert getattr(compiled, name)(ON_CPU) == f"compiled {name}"


@pytest.mark.parametrize("gpu", [True, False])
def test_a_fast_training_says_that_its_first_iterations_compile(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/some/cache")
    assert ("/some/cache lacks" in numerics.compile_notice({"speed": True})) == gpu
    assert not numerics.compile_notice({})
