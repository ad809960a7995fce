"""Find where this package lies, and turn paths of experiments and sites into paths on this machine."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent  # the only place from which files of ours are found


def expanded(project: Path, text: str) -> Path:
    """``~`` and ``$VARIABLES`` are ours here; what is relative lies below the project."""
    return project / Path(os.path.expandvars(text)).expanduser()
