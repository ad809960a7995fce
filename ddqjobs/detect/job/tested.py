"""Read what a test left beside its metrics: what it did not load of its checkpoint, and how much it detected.

Standard library only.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Iterator

from . import loading

PREDICTIONS = "predictions.npz"
_EMPTY = "The testing results of the whole dataset is empty"  # mmdet's evaluators, which then log no metrics
_SHAPE = re.compile(r"'shape': \((\d+),")  # of an array, in its header
_HEADER = 256  # bytes


def inexact(work_dir: Path) -> dict[str, object]:
    """Return what the test did not load of its checkpoint. A training says the same of its backbone's, whose
    classifier nobody wants, so trainings are not asked."""
    found = loading.Inexact()
    for path in _logs(work_dir):
        with path.open(encoding="utf-8", errors="replace") as lines:
            found.read(lines)
    return found.report()


def detections(work_dir: Path) -> int | None:
    """Return how many boxes the test's predictions have; None where that is not known."""
    try:
        with zipfile.ZipFile(str(work_dir / PREDICTIONS)) as archive, archive.open("scores.npy") as array:
            shape = _SHAPE.search(array.read(_HEADER).decode("latin-1"))
    except (OSError, KeyError, zipfile.BadZipFile):
        return None
    return int(shape.group(1)) if shape else None


def found_nothing(work_dir: Path) -> bool:
    """Return whether a test without metrics has none because it detected nothing in any image."""
    if detections(work_dir) == 0:
        return True
    for path in _logs(work_dir):
        with path.open(encoding="utf-8", errors="replace") as lines:
            if any(_EMPTY in line for line in lines):
                return True
    return False


def _logs(work_dir: Path) -> Iterator[Path]:
    for path in (work_dir.parent / "stdout.log", *sorted(work_dir.rglob("*.log"))):
        if path.is_file():
            yield path
