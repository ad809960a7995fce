"""The processor that tests compute on.

Bits depend on it. torch's element-wise loops compute the last elements of a tensor with other instructions
than the rest where they have vector instructions, so an element's value depends on where the tensor ends;
matrix products and convolutions choose their order of summation by the processor, by shapes and by the
number of threads. Two ways of computing one thing that differ in shapes have the same bits under ``FIXED``,
on every processor. A computation that is repeated with the same shapes needs a fixed number of threads only.

``make test-isa`` runs the tests that are marked ``bits`` with several instruction sets.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Of the environment of a process, before it loads torch. Whoever means the CPU says so: there may be a GPU.
ON_THE_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
ON_A_GPU = {"OMP_NUM_THREADS": "1"}
EACH = [
    pytest.param(ON_THE_CPU, id="cpu"),
    pytest.param(ON_A_GPU, id="gpu", marks=pytest.mark.gpu),
]
FIXED = {
    **ON_THE_CPU,
    "ATEN_CPU_CAPABILITY": "default",  # torch's own loops: no vector instructions
    "DNNL_MAX_CPU_ISA": "SSE41",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products
}


def variables(fixed: dict[str, str], *folders: Path) -> dict[str, str]:
    """The environment of a process that finds modules in ``folders`` too."""
    paths = [*map(str, folders), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **fixed, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


CAPABILITIES = ("default", "avx2", "avx512")


def capabilities(python: Path) -> tuple[str, ...]:
    """Return the values of ATEN_CPU_CAPABILITY that this processor can execute; torch does not check them."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    known = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    argv = [str(python), "-W", "ignore", "-c", code]
    done = subprocess.run(argv, env=known, text=True, capture_output=True, check=True)
    best = done.stdout.strip().lower()
    return CAPABILITIES[: CAPABILITIES.index(best) + 1] if best in CAPABILITIES else ("default",)


def require(where: dict[str, str]) -> None:
    """Skip the test if it means a GPU and there is none."""
    import torch

    if where is not ON_A_GPU or torch.cuda.is_available():
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    pytest.skip("CUDA_VISIBLE_DEVICES hides every GPU" if hidden else "there is no GPU that torch can use")
