"""The record of an attempt's machine: processor, instruction sets, GPUs, driver, CUDA."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from ddqjobs.detect import proof
from ddqjobs.detect.job import machine

TWO = "GPU-aa, NVIDIA A100-SXM4-80GB, 535.129.03\\nGPU-bb, NVIDIA H200, 535.129.03\\n"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a driver, whose nvidia-smi is a script."""
    stand_in = tmp_path / "nvidia-smi"
    stand_in.write_text(f"#!/bin/sh\nprintf '{TWO}'\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return stand_in


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A100-SXM4-80GB", "NVIDIA H200"]),
        ("1", ["NVIDIA H200"]),
        ("GPU-bb,GPU-aa", ["NVIDIA H200", "NVIDIA A100-SXM4-80GB"]),
        ("MIG-1", ["NVIDIA A100-SXM4-80GB", "NVIDIA H200"]),  # names none of them
    ],
)
@pytest.mark.usefixtures("smi")
def test_the_gpus_that_the_job_sees_are_named(visible: str | None, names: list[str]) -> None:
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    description = machine.describe(variables)
    assert (description["gpus"], description["driver"]) == (names, "535.129.03")


def test_a_hidden_gpu_is_not_named_and_a_silent_driver_is_unknown(smi: Path) -> None:
    assert machine.describe({"CUDA_VISIBLE_DEVICES": ""})["gpus"] == []
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert machine.describe({})["gpus"] == ["unknown"]


def test_processor_and_instruction_sets_are_those_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nmodel name\t: AMD EPYC 7763\nflags\t\t: fpu avx2 fma\n\nmodel name\t: other\n"
    )
    assert machine._processor(path) == ("AMD EPYC 7763", frozenset({"fpu", "avx2", "fma"}))
    path.write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")  # of an ARM
    assert machine._processor(path) == (platform.machine(), frozenset({"fp", "asimd", "sve"}))
    assert machine._processor(tmp_path / "none") == (platform.machine(), frozenset())


@pytest.mark.parametrize(
    ("text", "cuda"), [("cuda: Optional[str] = '12.8'\n", "12.8"), ("cuda = None\nhip = '6'\n", "")]
)
def test_cuda_is_the_one_that_torch_was_built_for(
    text: str, cuda: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.8.0'\n{text}")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert proof._cuda() == cuda
