"""The Triton kernels become machine code for GPUs, which needs none; the interpreter accepts more than the
compiler. Needs triton, and a process in which its interpreter is off."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET"):
    pytest.skip("Triton's interpreter is on", allow_module_level=True)

import triton.language as tl  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ddqjobs.detect.ops import deformable_few_kernels as few  # noqa: E402
from ddqjobs.detect.ops import deformable_kernels as many  # noqa: E402
from ddqjobs.detect.ops import roi_align_kernels as roi  # noqa: E402
from ddqjobs.detect.ops import shuffle_kernels as shuffle  # noqa: E402

# Of DDQ's decoder; 40 is a size of a head that is no power of two.
_CONSTANTS = {
    "heads": 8,
    "levels": 4,
    "points": 4,
    "parts": 2,
    "most": 2048,
    "size": 32,
    "padded": 32,
    "block": 4,
    "some_items": 4,
    "some_rows": 16,
    # Of RoIAlign.
    "rows": 7,
    "columns": 7,
    "side": 4,
    "some": 128,
    "aligned": 1,
}
_INTEGERS = {"shapes": "*i32", "lists": "*i32", "runs": "*i32", "cell": "*i32", "order": "*i64"}
_WARPS = {"sort_kernel": 32, "gradients_kernel": 1, "samples_kernel": 1, "forward_kernel": 1}
_ROI_COUNTS = ("ratio", "channels", "boxes", "tiles", "tiles_x", "ends", *roi._VARY, *shuffle._SIZES)
_ROI_COUNTS += ("reach_3y", "reach_3x")
_COUNTS = (
    "queries",
    "pixels",
    "rows",
    "cells",
    "all_cells",
    "samples",
    "listed",
    "by_items",
    "part",
    *_ROI_COUNTS,
)
_KERNELS = [
    few.sort_kernel,
    few.gradients_kernel,
    many.forward_kernel,
    many.cell_kernel,
    many.bounds_kernel,
    many.samples_kernel,
    many.pixels_kernel,
]


def compiled(kernel: Any, real: str, architecture: int, options: Any = None, **changed: int) -> str:
    """The kernel's PTX."""
    constants = {**_CONSTANTS, **changed, "real": tl.float64 if real == "fp64" else tl.float32}
    signature = {}
    for parameter in kernel.params:
        name = parameter.name
        if parameter.is_constexpr:
            signature[name] = "constexpr"
        else:
            signature[name] = (
                "fp32"
                if name.startswith(("scale", "back_"))
                else "i32"
                if name in _COUNTS
                else _INTEGERS.get(name, f"*{real}")
            )
    constexprs = {name: constants[name] for name, kind in signature.items() if kind == "constexpr"}
    source = ASTSource(kernel, signature, constexprs)
    options = {"num_warps": _WARPS.get(kernel.__name__, 4), **(options or {})}
    done = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    assert done.asm["cubin"]
    text: str = done.asm["ptx"]
    return text


@pytest.mark.parametrize("kernel", _KERNELS, ids=lambda kernel: kernel.__name__)
@pytest.mark.parametrize("real", ["fp32", "bf16", "fp64"])
def test_deformable_attention_compiles_and_adds_nothing_atomically(kernel: Any, real: str) -> None:
    assert not re.search(r"\b(atom|red)\.", compiled(kernel, real, 90))


@pytest.mark.parametrize("kernel", [shuffle.forward_kernel, shuffle.backward_kernel])
def test_the_shuffle_compiles_without_a_fused_multiply_add(kernel: Any) -> None:
    ptx = compiled(kernel, "fp32", 90, options={"enable_fp_fusion": False}, channels=256, size=64, block=512)
    assert not re.search(r"\bfma\.", ptx)


@pytest.mark.parametrize(("kernel", "real"), [(roi.forward_kernel, "bf16"), (roi.backward_kernel, "fp64")])
def test_roi_align_compiles_and_adds_nothing_atomically(kernel: Any, real: str) -> None:
    for architecture in (80, 90):
        assert not re.search(r"\b(atom|red)\.", compiled(kernel, real, architecture, padded=64))


def test_other_architectures_and_sizes() -> None:
    for kernel in (few.gradients_kernel, many.samples_kernel):
        assert "sm_80" in compiled(kernel, "fp32", 80, size=40, padded=64, points=3, levels=5)
