"""Predictions of two detectors, compared detection by detection. NumPy only."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

from . import CannotCompare

MIN_OVERLAP = 0.5  # boxes that overlap less are not the same detection
_ARRAYS = ("image_ids", "offsets", "boxes", "scores", "labels")


class _Worst:
    """Largest difference seen, and where."""

    def __init__(self) -> None:
        self.value = 0.0
        self.where: dict[str, int] = {}

    def see(self, value: float, **where: int) -> None:
        if value > self.value or (value == self.value == 0.0 and not self.where):
            self.value, self.where = value, where


def load(path: Path) -> dict[str, Any]:
    """Return the arrays of a predictions.npz, or of COCO results (the JSON that mmdet's evaluators write).

    Raises CannotCompare for a file that is torn or inconsistent."""
    import numpy as np

    with path.open("rb") as stream:
        first = stream.read(1)
    arrays = _coco_results(path) if first == b"[" else _archive(path)
    count, images = len(arrays["boxes"]), len(arrays["image_ids"])
    offsets = arrays["offsets"]
    whole = arrays["boxes"].shape == (count, 4) and offsets.shape == (images + 1,)
    whole = whole and offsets[0] == 0 and offsets[-1] == count and bool((np.diff(offsets) >= 0).all())
    if not whole or not len(arrays["scores"]) == len(arrays["labels"]) == count:
        raise CannotCompare(f"{path}: inconsistent array sizes or offsets")
    if len(set(arrays["image_ids"].tolist())) != images:
        raise CannotCompare(f"{path}: duplicate image id")
    return arrays


def _archive(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        # An open file: np.load leaves a path's file open when the zip is torn.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in _ARRAYS}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CannotCompare(f"{path}: invalid predictions: {str(error).splitlines()[0][:200]}") from error


def _coco_results(path: Path) -> dict[str, Any]:
    """``[{"image_id", "bbox": [x, y, w, h], "score", "category_id"}, ...]`` as arrays, images by id."""
    import numpy as np

    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        ids = np.array([row["image_id"] for row in rows], np.int64)
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        scores = np.array([row["score"] for row in rows], np.float64)
        labels = np.array([row["category_id"] for row in rows], np.int64)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotCompare(f"{path}: invalid COCO results: {type(error).__name__}: {error}") from error
    boxes[:, 2:] += boxes[:, :2]
    order = np.lexsort((-scores, ids))
    images, counts = np.unique(ids, return_counts=True)
    arrays = {"image_ids": images, "offsets": np.concatenate([[0], np.cumsum(counts)])}
    return {**arrays, "boxes": boxes[order], "scores": scores[order], "labels": labels[order]}


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Compare detections image by image; :mod:`ddqjobs.detect.align` says what is in the result. Raises
    CannotCompare if no image is common."""
    places = {int(image): i for i, image in enumerate(b["image_ids"])}
    common = [(i, places[int(image)]) for i, image in enumerate(a["image_ids"]) if int(image) in places]
    if not common:
        raise CannotCompare("the two predictions have no image in common")
    box, score = _Worst(), _Worst()
    matched = not_finite = 0
    left = _only(a, {i for i, _ in common}) + _only(b, {j for _, j in common})
    for i, j in common:
        one, two = _image(a, i), _image(b, j)
        pairs = match(one, two)
        matched += len(pairs)
        left += _unmatched(one, [row for row, _ in pairs]) + _unmatched(two, [row for _, row in pairs])
        not_finite += _see(one, two, pairs, int(a["image_ids"][i]), box, score)
    same = all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in _ARRAYS)
    metrics = {
        "box": math.nan if not_finite else box.value,
        "score": math.nan if not_finite else score.value,
        "matched": matched,
        "unmatched": len(left),
        "unmatched_score": max(left, default=0.0),
        "images": len(common),
        "not_finite": not_finite,
    }
    sizes = [{"images": len(x["image_ids"]), "boxes": len(x["boxes"])} for x in (a, b)]
    result = {"kind": "predictions", "bit_equal": same, "metrics": metrics, "a": sizes[0], "b": sizes[1]}
    return {**result, "worst_box": box.where, "worst_score": score.where}


def _only(side: dict[str, Any], common: set[int]) -> list[float]:
    """Scores of all detections in images that the other side has not got (no detection there, no row)."""
    rest = [i for i in range(len(side["image_ids"])) if i not in common]
    return [float(score) for i in rest for score in _image(side, i)[1]]


def match(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> list[tuple[int, int]]:
    """Pairs of detections (boxes, scores, labels) that are the same: by falling score of ``a`` each takes
    the free one of its label with the largest overlap, of equally large ones that of the nearest score."""
    import numpy as np

    if not len(a[0]) or not len(b[0]):
        return []
    overlap = _overlap(a[0].astype(np.float64), b[0].astype(np.float64))
    overlap[a[2][:, None] != b[2][None]] = -1.0
    pairs: list[tuple[int, int]] = []
    for i in np.argsort(-a[1], kind="stable").tolist():
        row = overlap[i]
        best = row.max()
        if best < MIN_OVERLAP:
            continue
        choices = np.flatnonzero(row == best)
        gap = np.abs(b[1][choices].astype(np.float64) - float(a[1][i]))
        j = int(choices[int(np.argmin(gap))])
        pairs.append((i, j))
        overlap[:, j] = -1.0
    return pairs


def _overlap(a: Any, b: Any) -> Any:
    """(n, m) intersection over union; 1 for equal boxes, also those without area, and -1 for NaN."""
    import numpy as np

    with np.errstate(all="ignore"):
        low = np.maximum(a[:, None, :2], b[None, :, :2])
        high = np.minimum(a[:, None, 2:], b[None, :, 2:])
        inter = np.prod(np.clip(high - low, 0, None), axis=2)
        areas = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
        overlap = inter / (areas[0][:, None] + areas[1][None] - inter)
    overlap[(a[:, None] == b[None]).all(2)] = 1.0
    return np.nan_to_num(overlap, nan=-1.0, posinf=-1.0, neginf=-1.0)


def _image(arrays: dict[str, Any], index: int) -> tuple[Any, Any, Any]:
    start, end = arrays["offsets"][index : index + 2]
    return arrays["boxes"][start:end], arrays["scores"][start:end], arrays["labels"][start:end]


def _unmatched(image: tuple[Any, Any, Any], taken: list[int]) -> list[float]:
    """Scores of the detections that found no partner; NaN as 1, so that it is not overlooked."""
    used = set(taken)
    rest = [float(s) for i, s in enumerate(image[1]) if i not in used]
    return [s if math.isfinite(s) else 1.0 for s in rest]


def _see(one: Any, two: Any, pairs: list[tuple[int, int]], image: int, box: _Worst, score: _Worst) -> int:
    """Note the differences of the pairs of an image; how many of them are not finite."""
    import numpy as np

    if not pairs:
        return 0
    i, j = (list(side) for side in zip(*pairs))
    with np.errstate(invalid="ignore"):
        coordinates = np.abs(one[0][i].astype(np.float64) - two[0][j].astype(np.float64)).max(1)
        scores = np.abs(one[1][i].astype(np.float64) - two[1][j].astype(np.float64))
    for values, worst in ((coordinates, box), (scores, score)):
        values = np.where(np.isfinite(values), values, 0.0)
        at = int(np.argmax(values))
        worst.see(float(values[at]), image_id=image, label=int(one[2][i[at]]))
    return int((~np.isfinite(coordinates) | ~np.isfinite(scores)).sum())
