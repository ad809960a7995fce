"""Test files run by the Python of a built environment, which has torch and mmdet but nothing for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support.paths import ROOT, TESTS

BOTH = (
    "unit/detect/test_verify.py",
    "unit/detect/test_ops.py",
    "unit/detect/test_convert.py",
    "training/test_epochs.py",
    "unit/detect/test_align.py",
    "unit/detect/test_configuration.py",
    "unit/detect/test_determinism.py",
    "unit/detect/test_check.py",
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
SPEED = (
    "unit/detect/test_speed.py",
    "unit/detect/test_speed_fcn.py",
    "unit/detect/test_speed_graphs.py",
    "training/test_repeat.py",
    "training/test_ahead.py",
    "training/test_usage.py",
)
# By name: the environment, and the files that its Python runs in one process.
GROUPS = {
    "mini-new": ("mini-new", BOTH),
    "mini-legacy": ("mini-legacy", BOTH),
    "models": ("mini-new", MODELS),
    "overfit": ("mini-new", OVERFIT),
    "resume": ("mini-new", RESUME),
    "speed": ("mini-new", SPEED),
}
# Of those that compare bits.
QUICK = (*MODELS[2:], "unit/detect/test_speed.py")
INTERPRETED = "unit/detect/test_triton.py"
COMPILED = "unit/detect/test_triton_compiled.py"
LIMIT_S = 1200.0


class NotInstalled(RuntimeError):
    """Pip could not install what tests need, or an environment is not built."""


def tools(folder: Path) -> Path:
    """Install what tests need into a folder: an environment is never changed once it is locked."""
    pins = (TESTS / "requirements.txt").read_text().splitlines()
    _install(
        folder, *(pin for pin in pins if pin.startswith(("pytest==", "pytest-timeout==", "hypothesis==")))
    )
    return folder


def triton(folder: Path) -> Path:
    """Install Triton, and a NumPy that its interpreter works with, for the environments' Python."""
    pins = (TESTS / "triton-requirements.txt").read_text().splitlines()
    arguments = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    _install(folder, *arguments, *(pin for pin in pins if not pin.startswith("#")))
    return folder


def _install(folder: Path, *arguments: str) -> None:
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *arguments]
    done = process.run(argv, timeout=LIMIT_S)
    if done.code:
        raise NotInstalled(done.stderr)


def python(name: str) -> Path:
    """Return the interpreter of an environment. Raises NotInstalled."""
    place = environment.location(ROOT / ".environments", environment.load(name, Files(ROOT)))
    interpreter = place / "bin" / "python"
    if not interpreter.exists():
        raise NotInstalled(f"environment {name} is not built: make environments")
    return interpreter


def run(
    name: str,
    files: Sequence[str],
    folders: Sequence[Path],
    *arguments: str,
    variables: Mapping[str, str] | None = None,
) -> process.Completed:
    """Run pytest on these files (below tests/) with an environment's Python, which finds ``folders`` too."""
    argv = [str(python(name)), "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", *arguments]
    argv += [f"tests/{file}" for file in files]
    # A file that was collected here may have switched Triton's interpreter on.
    known = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    known["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, *folders)))
    return process.run(argv, timeout=LIMIT_S, cwd=ROOT, env={**known, **(variables or {})})
