"""The tests that need torch, inside both built environments of the miniature."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support.paths import ROOT

BOTH = (
    "unit/detect/test_verify.py",
    "unit/detect/test_ops.py",
    "unit/detect/test_convert.py",
    "training/test_epochs.py",
    "unit/detect/test_align.py",
    "unit/detect/test_configuration.py",
    "unit/detect/test_determinism.py",
)
# The new code is for mmdet 3.3.
MODELS = (
    "unit/detect/test_models.py",
    "unit/detect/test_seven_models.py",
    "unit/detect/test_modules.py",
    "unit/detect/test_mask.py",
    "unit/detect/test_notes.py",
)
# Tried with mini-legacy too, where test_epochs.py goes on in the middle of an epoch as well.
RESUME = ("training/test_resume.py",)
OVERFIT = ("training/test_overfit.py",)
SPEED = ("unit/detect/test_speed.py", "training/test_repeat.py", "training/test_usage.py")
_LIMIT_S = 1200.0


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests need, in a folder of its own: an environment is never changed once it is locked."""
    folder = tmp_path_factory.mktemp("tools")
    wanted = list((ROOT / "tests" / "requirements.txt").read_text().splitlines())
    pins = [line for line in wanted if line.startswith(("pytest==", "pytest-timeout==", "hypothesis=="))]
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *pins]
    done = process.run(argv, timeout=_LIMIT_S)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def triton(tmp_path: Path) -> Path:
    """Triton, and a numpy that its interpreter can work with, for the environments' Python."""
    pins = (ROOT / "tests" / "triton-requirements.txt").read_text().splitlines()
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    argv += ["--only-binary=:all:", "--python-version", "3.11", *(p for p in pins if not p.startswith("#"))]
    done = process.run(argv, timeout=_LIMIT_S)
    assert done.code == 0, done.stderr
    return tmp_path


def run_inside(name: str, files: tuple[str, ...], folders: list[Path]) -> None:
    """The tests of these files, with the environment's Python; none may be skipped."""
    place = environment.location(ROOT / ".environments", environment.load(name, Files(ROOT)))
    python = place / "bin" / "python"
    if not python.exists():
        pytest.fail(f"environment {name} is not built: make environments")
    paths = os.pathsep.join(str(folder) for folder in (ROOT, *folders))
    argv = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        *(f"tests/{file}" for file in files),
    ]
    # A file that was collected here may have switched Triton's interpreter on.
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = process.run(argv, timeout=_LIMIT_S, cwd=ROOT, env={**variables, "PYTHONPATH": paths})
    assert done.code == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.timeout(2 * _LIMIT_S)
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mini-new", BOTH),
        ("mini-legacy", BOTH),
        ("mini-new", MODELS),
        ("mini-new", OVERFIT),
        ("mini-new", RESUME),
        ("mini-new", SPEED),
    ],
    ids=["mini-new", "mini-legacy", "models", "overfit", "resume", "speed"],
)
def test_the_task_code_works_in_the_environment(name: str, files: tuple[str, ...], tools: Path) -> None:
    run_inside(name, files, [tools])


@pytest.mark.timeout(2 * _LIMIT_S)
@pytest.mark.parametrize(
    "file",
    ["unit/detect/test_triton.py", "unit/detect/test_triton_compiled.py"],
    ids=["in the interpreter", "compiled"],
)
def test_the_triton_operators(file: str, tools: Path, triton: Path) -> None:
    run_inside("mini-new", (file,), [tools, triton])
