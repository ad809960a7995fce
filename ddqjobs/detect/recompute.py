"""Computes AP once more from the predictions that a test left, by COCO's own evaluation.

    python recompute.py PREDICTIONS ANNOTATIONS [--memory BYTES]

Stands alone: it imports nothing of ddqjobs, so that any interpreter with NumPy and an evaluator can run the
file: hotcoco, whose precision equals pycocotools' bit by bit, or pycocotools, which is also taken for what
the two evaluate differently (:func:`_tidy`) and for files that hotcoco does not read. PREDICTIONS is a
predictions.npz (``ddqjobs.detect.hooks.predictions``) or COCO results (JSON). Prints one JSON object: metrics
in the detector's keys and scale, not rounded (-1: no such objects), the annotation file, AP by class,
precision by recall, and the count of each kind of error that TIDE names, of all sizes (``errors``) and of
each (``sizes``). Exit code 2, one line, for what cannot be evaluated; 3 without an evaluator; 4 where memory
does not suffice.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Sequence, cast

# As mmdet 2.x and 3.x evaluate: at most so many detections per image; AP itself is taken at 100.
MAX_DETECTIONS = (100, 300, 1000)
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
# Kinds of error as Bolya et al., TIDE, ECCV 2020, define them.
ERRORS = ("class", "localisation", "both", "duplicate", "background", "missed")
ERROR_SCORE = 0.3  # detections below it are not looked at
SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": 1e10}  # largest area in pixels, as COCO has them
CURVES = {"0.50:0.95": (None, 0), "0.50": (0, 2), "0.75": (5, 2)}  # overlap -> threshold, most detections
_KIND = {kind: i for i, kind in enumerate(("found", *ERRORS))}
_FOREGROUND, _BACKGROUND = 0.5, 0.1  # intersection over union

NO_PYCOCOTOOLS = "pycocotools, which may read it, is not there"
# What files that are torn, or are something else, make NumPy, JSON and evaluators raise.
TROUBLES = (OSError, LookupError, ValueError, TypeError, EOFError, AssertionError, zipfile.BadZipFile)


class CannotEvaluate(ValueError):
    """A file that the evaluation needs is not there; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--memory", type=int)
    args = parser.parse_args(argv)
    if args.memory:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = args.memory if hard == resource.RLIM_INFINITY else min(args.memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for library in ("RAYON", "OMP", "OPENBLAS", "MKL"):  # a login node's cores are others', too
        os.environ[f"{library}_NUM_THREADS"] = "1"
    try:
        evaluation = evaluate(args.predictions, args.annotations)
    except MemoryError:
        print("recompute: out of memory", file=sys.stderr)
        return 4
    except ImportError as error:
        print(f"recompute: {error}", file=sys.stderr)
        return 3
    except TROUBLES as error:
        print("recompute: " + (str(error) or type(error).__name__).split("\n")[0], file=sys.stderr)
        return 2
    print(json.dumps({**evaluation._asdict(), "annotations": str(args.annotations)}))
    return 0


class Evaluation(NamedTuple):
    """The evaluation of a test's predictions."""

    metrics: dict[str, float]
    errors: dict[str, int]  # kind -> count
    sizes: dict[str, dict[str, int]]  # size -> the same
    classes: dict[str, float]  # class -> AP, of classes with objects
    precision: dict[str, list[float]]  # overlap -> precision at 101 recalls, the mean over classes


class Detections(NamedTuple):
    """Detections of a test as arrays of one length, and what it looked at (empty: not known)."""

    image: Any
    boxes: Any  # left, top, width, height
    score: Any
    category: Any
    images: list[int]
    categories: list[int]

    def rows(self) -> Any:
        """Return the seven columns that COCO's evaluation reads."""
        import numpy as np

        return np.column_stack([self.image, self.boxes, self.score, self.category]).astype(float)


def evaluate(predictions: Path, annotations: Path) -> Evaluation:
    """Return all six metrics of box AP, errors by kind, and AP by class. Raise CannotEvaluate, OSError,
    ImportError."""
    if not annotations.is_file():
        raise CannotEvaluate(f"the annotations are not there: {annotations}")
    detections = load(predictions)
    truth = json.loads(annotations.read_bytes())
    images = sorted(set(detections.images or [image["id"] for image in truth["images"]]))
    categories = sorted(set(detections.categories or [category["id"] for category in truth["categories"]]))
    sizes = error_kinds(detections, truth["annotations"], images, categories)
    errors = {kind: sum(counts[kind] for counts in sizes.values()) for kind in _KIND}
    if not len(detections.score):
        return Evaluation(dict.fromkeys(METRICS, 0.0), errors, sizes, {}, {})
    precision = _precision(detections, truth, annotations, images, categories)
    names = {c["id"]: str(c.get("name", c["id"])) for c in truth["categories"]}
    classes = {
        names[category]: float(known.mean())
        for k, category in enumerate(categories)
        if (known := _known(precision[:, :, k, 0, 0])).size
    }
    return Evaluation(_metrics(precision), errors, sizes, classes, _curves(precision))


def _precision(
    detections: Detections, truth: dict[str, Any], annotations: Path, images: list[int], categories: list[int]
) -> Any:
    """Return precision by overlap, recall, category, size, and most detections; -1: no such objects."""
    import numpy as np

    if not np.isin(detections.image, [image["id"] for image in truth["images"]]).all():
        raise CannotEvaluate("the predictions contain images that are not in the annotations")
    with contextlib.redirect_stdout(sys.stderr):
        refused = ""
        if _tidy(detections, truth):
            try:
                return _by_hotcoco(detections, annotations, images, categories)
            except ImportError:
                pass
            except (ValueError, TypeError) as error:  # pycocotools reads types that hotcoco does not
                refused = f"hotcoco cannot read {annotations.name}: {error}; {NO_PYCOCOTOOLS}"
        try:
            return _by_pycocotools(detections, truth, images, categories)
        except ImportError as error:
            raise ImportError(refused or str(error)) from error


def _tidy(detections: Detections, truth: dict[str, Any]) -> bool:
    """Return whether every evaluator reads the annotations alike: pycocotools takes an object of the number 0
    for none, of objects of one number the last, and ends where an object lacks its area or its crowd."""
    import numpy as np

    numbers = [a["id"] for a in truth["annotations"]]
    whole = all("iscrowd" in a and "area" in a for a in truth["annotations"])
    unique = all(len(set(ids)) == len(ids) for ids in (numbers, [image["id"] for image in truth["images"]]))
    finite = all(np.isfinite(values).all() for values in (detections.boxes, detections.score))
    return whole and unique and 0 not in numbers and finite


def _by_hotcoco(detections: Detections, annotations: Path, images: list[int], categories: list[int]) -> Any:
    import numpy as np
    from hotcoco import COCO, COCOeval

    truth = COCO(str(annotations))
    job = COCOeval(truth, truth.load_res(detections.rows()), "bbox")
    job.params.max_dets = list(MAX_DETECTIONS)
    job.params.img_ids, job.params.cat_ids = images, categories
    job.evaluate()
    job.accumulate()
    return np.ascontiguousarray(cast("Any", job.eval)["precision"])


def _by_pycocotools(
    detections: Detections, truth: dict[str, Any], images: list[int], categories: list[int]
) -> Any:
    """Evaluate image by image of one class after the other: a million detections at once take gigabytes."""
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = COCO()
    objects.dataset = truth
    objects.createIndex()
    job = COCOeval(objects, COCO(), "bbox")
    job.params.maxDets, job.params.imgIds, job.params.catIds = list(MAX_DETECTIONS), images, categories
    job._prepare()  # objects of all classes: of two that have one number, pycocotools takes the last
    precisions = []
    for category in categories:
        own = np.flatnonzero(detections.category == category)
        own = own[np.argsort(detections.image[own], kind="stable")]
        starts: Any = np.searchsorted(detections.image[own], images, "left")
        ends: Any = np.searchsorted(detections.image[own], images, "right")
        parts = [
            _of_image(job, detections, own[starts[k] : ends[k]], image, category)
            for k, image in enumerate(images)
        ]
        job.params.catIds = [category]
        job.evalImgs = [part[size] for size in range(len(job.params.areaRng)) for part in parts]
        job._paramsEval = copy.deepcopy(job.params)
        job.accumulate()
        precisions.append(job.eval["precision"])
    return np.concatenate(precisions, axis=2) if precisions else np.zeros((0, 0, 0, 0, 0))


def _of_image(job: Any, detections: Detections, own: Any, image: int, category: int) -> list[Any]:
    """Return what pycocotools makes of an image for each size: all that it accumulates, packed."""
    import numpy as np

    rows = zip(own.tolist(), detections.boxes[own].tolist(), detections.score[own].tolist())
    job._dts[image, category] = [
        {"id": k + 1, "bbox": box, "area": box[2] * box[3], "score": score} for k, box, score in rows
    ]
    job.ious = {(image, category): job.computeIoU(image, category)}
    parts = [job.evaluateImg(image, category, area, MAX_DETECTIONS[-1]) for area in job.params.areaRng]
    del job._dts[image, category]
    return [
        part and {
            "dtScores": np.array(part["dtScores"], float), "gtIgnore": part["gtIgnore"],
            "dtMatches": part["dtMatches"].astype(bool), "dtIgnore": part["dtIgnore"].astype(bool),
        }
        for part in parts
    ]  # fmt: skip


def _known(precision: Any) -> Any:
    return precision[precision > -1]


def _metrics(precision: Any) -> dict[str, float]:
    """Return the metrics as COCO's evaluation takes them: AP at 100 detections per image, others at 1000."""
    sized = [precision[..., size, 2] for size in (1, 2, 3)]
    parts = [precision[..., 0, 0], precision[0, ..., 0, 2], precision[5, ..., 0, 2], *sized]
    known = (_known(part) for part in parts)
    return {name: float(part.mean()) if part.size else -1.0 for name, part in zip(METRICS, known)}


def _curves(precision: Any) -> dict[str, list[float]]:
    """Return precision by recall, whose mean is AP, AP50 and AP75."""
    import numpy as np

    curves = {}
    for name, (threshold, most) in CURVES.items():
        part = precision[..., 0, most] if threshold is None else precision[[threshold], ..., 0, most]
        counted = part > -1
        if counted.any():
            sums = np.where(counted, part, 0).sum((0, 2)) / counted.sum((0, 2))
            curves[name] = [round(value, 5) for value in sums.tolist()]
    return curves


def error_kinds(
    detections: Detections,
    annotated: Sequence[dict[str, Any]],
    images: Sequence[int],
    categories: Sequence[int],
    least: float = ERROR_SCORE,
) -> dict[str, dict[str, int]]:
    """Return size -> kind -> count, of detections against COCO's annotations.

    A detection that matches no object of its class by an intersection over union of 0.5 is the first of:
    *localisation* (0.1 to 0.5 with one of its class), *class* (0.5 with one of another class), *duplicate*
    (0.5 with one that a detection of a higher score has), *background* (at most 0.1 with anything), *both*.
    An object is *missed* if neither a detection nor a correction of the first two kinds could find it. What
    lies in a region of many objects is ignored. ``found`` counts the detections that match. The size is that
    of the object; of background and both, which have none, that of the detection.
    """
    import numpy as np

    objects: dict[int, list[dict[str, Any]]] = {}
    wanted = set(categories)
    for a in annotated:
        if a["category_id"] in wanted:
            objects.setdefault(a["image_id"], []).append(a)
    kept = np.flatnonzero(detections.score >= least)
    kept = kept[np.lexsort((-detections.score[kept], detections.image[kept]))]
    starts: Any = np.searchsorted(detections.image[kept], images, "left")
    ends: Any = np.searchsorted(detections.image[kept], images, "right")
    kinds: list[Any] = [np.zeros(0, int)]
    areas: list[Any] = [np.zeros(0)]
    for k, image in enumerate(images):
        here = kept[starts[k] : ends[k]][: MAX_DETECTIONS[0]]
        kind, area = kinds_of_image(detections.boxes[here], detections.category[here], objects.get(image, []))
        kinds.append(kind)
        areas.append(area)
    kind = np.concatenate(kinds)
    size = np.searchsorted(list(SIZES.values())[:-1], np.concatenate(areas))
    return {
        name: {kind_: int(((size == i) & (kind == j)).sum()) for kind_, j in _KIND.items()}
        for i, name in enumerate(SIZES)
    }


def kinds_of_image(boxes: Any, category: Any, annotated: Sequence[dict[str, Any]]) -> tuple[Any, Any]:
    """Return the kind of each detection, and *missed* for each object without one, as numbers; the areas."""
    import numpy as np

    objects = [a for a in annotated if not a.get("iscrowd")]
    counted = ~_ignored(boxes, category, [a for a in annotated if a.get("iscrowd")])
    area, areas = boxes[:, 2] * boxes[:, 3], np.array([a["area"] for a in objects], float)
    if not len(boxes) or not objects:
        kinds = [_KIND["background"]] * int(counted.sum()) + [_KIND["missed"]] * len(objects)
        return np.array(kinds, int), np.concatenate([area[counted], areas])
    overlap = overlaps(boxes, np.array([a["bbox"] for a in objects], float))
    same = category[:, None] == np.array([a["category_id"] for a in objects])[None, :]
    own, other = overlap * same, overlap * ~same
    taken = _taken(own)
    matched = np.isin(np.arange(len(objects)), taken)
    held = own * matched
    cases = (  # the first that holds; the object that it is about, of which an error has its size
        ("found", taken >= 0, taken),
        ("localisation", (own.max(1) >= _BACKGROUND) & (own.max(1) <= _FOREGROUND), own.argmax(1)),
        ("class", other.max(1) >= _FOREGROUND, other.argmax(1)),
        ("duplicate", held.max(1) >= _FOREGROUND, held.argmax(1)),
    )
    kinds = np.where(overlap.max(1) <= _BACKGROUND, _KIND["background"], _KIND["both"])
    for name, holds, about in reversed(cases):
        kinds = np.where(holds, _KIND[name], kinds)
        area = np.where(holds, areas[about], area)
    counted |= taken >= 0
    findable = matched.copy()  # also what a better box or class would find
    for name, about in (("localisation", own.argmax(1)), ("class", other.argmax(1))):
        findable[about[counted & (kinds == _KIND[name])]] = True
    missed = np.full((~findable).sum(), _KIND["missed"])
    return np.concatenate([kinds[counted], missed]), np.concatenate([area[counted], areas[~findable]])


def _taken(own: Any) -> Any:
    """Return the object of each detection, the best one that none of a higher score has; -1: none."""
    import numpy as np

    free, taken = own.copy(), np.full(len(own), -1)
    for i in (own.max(1) >= _FOREGROUND).nonzero()[0].tolist():
        best = int(free[i].argmax())
        if free[i, best] >= _FOREGROUND:
            taken[i] = best
            free[:, best] = 0
    return taken


def _ignored(boxes: Any, category: Any, crowds: Sequence[dict[str, Any]]) -> Any:
    """Return whether each detection lies in a region that is annotated as many objects of its class."""
    import numpy as np

    if not crowds:
        return np.zeros(len(boxes), bool)
    inside = overlaps(boxes, np.array([a["bbox"] for a in crowds], float), crowd=True)
    same = category[:, None] == np.array([a["category_id"] for a in crowds])[None, :]
    return ((inside > _FOREGROUND) & same).any(1)


def overlaps(boxes: Any, others: Any, *, crowd: bool = False) -> Any:
    """Return the intersection over union of each box with each other one; with ``crowd`` over the box."""
    import numpy as np

    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    both = (high - low).clip(0).prod(2)
    area = (boxes[:, 2] * boxes[:, 3])[:, None]
    union = area if crowd else area + (others[:, 2] * others[:, 3])[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=both > 0)


def load(path: Path) -> Detections:
    """Return the detections of a file. Raise CannotEvaluate, OSError, and what a file that is none raises."""
    import numpy as np

    with path.open("rb") as stream:
        first = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first in (b"[", b"{"):
        return from_results(json.loads(path.read_text(encoding="utf-8-sig")))
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        images, offsets, boxes, scores, labels, categories = (
            archive[name] for name in ("image_ids", "offsets", "boxes", "scores", "labels", "category_ids")
        )
    if not len(categories):
        raise CannotEvaluate("the predictions lack category ids")
    boxes = boxes.astype(float).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    image: Any = np.repeat(images, np.diff(offsets))
    arrays = (image, boxes, scores.astype(float), categories[labels])
    return Detections(*arrays, images.tolist(), categories.tolist())


def from_results(results: Any) -> Detections:
    """Return COCO results as arrays. Raise CannotEvaluate for what is none."""
    import numpy as np

    keys = ("image_id", "bbox", "score", "category_id")
    if not isinstance(results, list) or not all(isinstance(r, dict) and r.keys() >= {*keys} for r in results):
        what = "a JSON object" if isinstance(results, dict) else "a list of something else"
        raise CannotEvaluate(f"the predictions are {what}; COCO results are a list of {sorted(keys)}")
    columns: list[list[Any]] = [[row[key] for row in results] for key in keys]
    image, category = np.array(columns[0], int), np.array(columns[3], int)
    boxes = np.array(columns[1], float).reshape(-1, 4)
    return Detections(image, boxes, np.array(columns[2], float), category, [], [])


if __name__ == "__main__":
    sys.exit(main())
