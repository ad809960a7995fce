"""mmcv's compiled deformable attention, built from its source distribution, to measure against. Nothing else
uses it.

``MMCV_SOURCE`` is mmcv-2.1.0.tar.gz, ``MMCV_BUILD`` a folder for what is built (``python -m ...yardstick``
builds).
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import torch

_CSRC = "mmcv-2.1.0/mmcv/ops/csrc"
_BINDING = """
#include <torch/extension.h>
at::Tensor ms_deform_attn_cuda_forward(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                       const at::Tensor&, const at::Tensor&, const int);
void ms_deform_attn_cuda_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                  const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                  at::Tensor&, at::Tensor&, at::Tensor&,
                                  const int);
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &ms_deform_attn_cuda_forward);
  m.def("backward", &ms_deform_attn_cuda_backward);
}
"""


def load() -> Any:
    """The module, or None if no source is named."""
    source, build = os.environ.get("MMCV_SOURCE"), Path(os.environ.get("MMCV_BUILD", "mmcv-build")).absolute()
    if not source:
        return None
    from torch.utils import cpp_extension

    build.mkdir(parents=True, exist_ok=True)
    if not (build / _CSRC).exists():
        with tarfile.open(source) as archive:
            archive.extractall(build, filter="data")
    binding = build / "binding.cpp"
    if not binding.exists():
        binding.write_text(_BINDING)
    include = [build / _CSRC / "common" / "cuda", build / _CSRC / "common"]
    return cpp_extension.load(
        "mmcv_yardstick",
        [str(binding), str(build / _CSRC / "pytorch" / "cuda" / "ms_deform_attn_cuda.cu")],
        extra_include_paths=[str(path) for path in include],
        build_directory=str(build),
        extra_cflags=["-w", "-DMMCV_WITH_CUDA"],
        extra_cuda_cflags=["-w", "-DMMCV_WITH_CUDA"],
    )


class Function(torch.autograd.Function):
    """mmcv's, for the built module."""

    @staticmethod
    def forward(
        ctx: Any, module: Any, value: Any, shapes: Any, start: Any, location: Any, weight: Any
    ) -> Any:
        ctx.module = module
        ctx.save_for_backward(value, shapes, start, location, weight)
        return module.forward(value, shapes, start, location, weight, 64)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        value, shapes, start, location, weight = ctx.saved_tensors
        gradients = [torch.zeros_like(t) for t in (value, location, weight)]
        ctx.module.backward(value, shapes, start, location, weight, grad.contiguous(), *gradients, 64)
        return None, gradients[0], None, None, gradients[1], gradients[2]


if __name__ == "__main__":
    print(load())
