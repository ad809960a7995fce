"""Digests of the annotations that a run reads: results on different ones, or on different parts of them, are
no results of the same task.

Files behind a link may change between two phases, and no digest of a run has their content.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Mapping, Sequence

from .. import files
from . import data
from .data import Dataset

NAME = "annotations.json"


def digests(found: Sequence[Dataset]) -> dict[str, str]:
    """Return split (train, val, test) -> digest of what it reads of its files. Raises OSError."""
    known = {file: files.sha256(Path(file)) for file in sorted({dataset.annotations for dataset in found})}
    splits = {}  # type: dict[str, set[str]]
    for dataset in found:
        first, _, rest = dataset.path.partition(".")
        split = rest.partition(".")[0] if first == "data" else first[: -len("_dataloader")]
        splits.setdefault(split, set()).add(known[dataset.annotations] + _part(dataset))
    return {
        split: hashlib.sha256("\n".join(sorted(of)).encode()).hexdigest()[:16] for split, of in splits.items()
    }


def _part(dataset: Dataset) -> str:
    """Return which images and classes of the annotations are read; empty if all are."""
    there = set(data.categories(dataset.annotations) or ())
    kept = there.intersection(dataset.classes)
    classes = sorted(kept) if kept and kept != there else None
    return f" {json.dumps([dataset.indices, classes], default=str)}" if dataset.indices or classes else ""


def read(attempt: Path) -> Mapping[str, str]:
    """Return what an attempt recorded; empty if it did not."""
    try:
        said = json.loads((attempt / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in said.items()} if isinstance(said, dict) else {}
