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


def digests(datasets: Sequence[Dataset]) -> dict[str, str]:
    """Return split (train, val, test) -> digest of its files; beside it ``train images`` and ``train
    classes``, of which images and classes of them it reads, so far as the configuration says. Raises OSError.
    """
    known = {file: files.sha256(Path(file)) for file in sorted({dataset.annotations for dataset in datasets})}
    read = {}  # type: dict[str, set[str]]
    unknown = set()
    for dataset in datasets:
        first, _, rest = dataset.path.partition(".")
        split = rest.partition(".")[0] if first == "data" else first[: -len("_dataloader")]
        file = known[dataset.annotations]
        read.setdefault(split, set()).add(file)
        read.setdefault(f"{split} images", set()).add(f"{file} {json.dumps(dataset.indices, default=str)}")
        classes = _classes(dataset)
        if classes is None:
            unknown.add(f"{split} classes")
        read.setdefault(f"{split} classes", set()).add(f"{file} {json.dumps(classes)}")
    return {
        what: hashlib.sha256("\n".join(sorted(of)).encode()).hexdigest()[:16]
        for what, of in read.items()
        if what not in unknown
    }


def _classes(dataset: Dataset) -> Sequence[str] | None:
    """Return which classes of the annotations are read, sorted; None if nothing says which."""
    return sorted(set(data.categories(dataset.annotations) or ()).intersection(dataset.classes)) or None


def read(attempt: Path) -> Mapping[str, str]:
    """Return what an attempt recorded; empty if it did not."""
    try:
        said = json.loads((attempt / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in said.items()} if isinstance(said, dict) else {}
