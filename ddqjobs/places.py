"""Paths as experiments and sites write them, as paths on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(project: Path, text: str) -> Path:
    """``~`` and ``$VARIABLES`` are ours here; what is relative lies below the project."""
    return project / Path(os.path.expandvars(text)).expanduser()
