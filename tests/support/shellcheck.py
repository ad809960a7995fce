"""The shellcheck that the tests' requirements bring, wherever pytest was started from."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ddqjobs.base import process


def problems(*paths: Path, options: tuple[str, ...] = (), cwd: Path | None = None) -> str:
    """Return what shellcheck says of scripts; empty if it accepts them."""
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert program, "shellcheck is missing: pip install -r tests/requirements.txt"
    done = process.run([program, *options, *paths], timeout=60, cwd=cwd)
    return done.stdout + done.stderr
