"""Kinds of error are counted as TIDE's own program counts them.

``tidecv`` is installed without what it draws with (tools/bootstrap); without it the test is skipped.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.unit.detect.test_recompute import kinds

DRAWING = (
    "cv2",
    "matplotlib",
    "matplotlib.pyplot",
    "seaborn",
    "pandas",
    "tidecv.plotting",
    "tidecv.datasets",
)
NAMES = {
    "Cls": "class", "Loc": "localisation", "Both": "both", "Dupe": "duplicate", "Bkg": "background",
    "Miss": "missed",
}  # fmt: skip


@pytest.fixture
def tide(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that counts; what it would draw with is empty."""
    if find_spec("tidecv") is None:
        pytest.skip("NOT COMPARED WITH TIDE: pip install --no-deps tidecv==1.0.1")
    for name in DRAWING:
        empty = ModuleType(name)
        empty.FONT_HERSHEY_SIMPLEX = empty.LINE_AA = 0  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, empty)
    from tidecv import data, quantify

    yield data, quantify
    for name in [name for name in sys.modules if name.partition(".")[0] == "tidecv"]:
        del sys.modules[name]


def scene(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects and detections of forty images: near, far, of the wrong class, several on one object."""
    random = np.random.default_rng(seed)
    objects, detections = [], []
    for image in range(1, 41):
        here = [
            {"image_id": image, "category_id": int(random.integers(1, 3)),
             "bbox": [float(x) for x in (*random.integers(0, 200, 2), *random.integers(40, 120, 2))]}
            for _ in range(random.integers(0, 6))
        ]  # fmt: skip
        objects += here
        for _ in range(random.integers(0, 25)):
            box = np.array([*random.integers(0, 250, 2), *random.integers(10, 120, 2)], float)
            if here and random.random() < 0.7:
                near = here[int(random.integers(len(here)))]["bbox"]
                box = np.abs(np.array(near) + random.normal(0, 16, 4)) + 1
            detections.append(
                {"image_id": image, "category_id": int(random.integers(1, 3)), "bbox": box.tolist(),
                 "score": float(random.random())}
            )  # fmt: skip
    return objects, detections


def test_kinds_of_error_are_counted_as_tide_counts_them(tide: Any) -> None:
    data, quantify = tide
    for seed in range(3):
        objects, detections = scene(seed)
        truth, predictions = data.Data("truth"), data.Data("found")
        for image in range(1, 41):
            truth.add_image(image, str(image))
        for thing in objects:
            truth.add_ground_truth(thing["image_id"], thing["category_id"], box=thing["bbox"])
        for d in detections:
            predictions.add_detection(d["image_id"], d["category_id"], d["score"], box=d["bbox"])
        run = quantify.TIDERun(truth, predictions, 0.5, 0.1, "bbox", 100)
        theirs = {NAMES[kind.short_name]: len(errors) for kind, errors in run.error_dict.items()}
        ours = kinds(detections, objects, 40, least=0.0)
        assert {name: ours[name] for name in theirs} == theirs
        assert min(theirs.values()) > 0
