"""Computes AP once more from the predictions that a test left, by COCO's own evaluation (pycocotools).

    python recompute.py PREDICTIONS --config WORK_DIR [--annotations FILE] [--folder DIR]

Stands alone: it imports nothing of ddqjobs, so that any interpreter with NumPy and pycocotools can run the
file. PREDICTIONS is a predictions.npz (``ddqjobs.detect.hooks.predictions``) or COCO results (JSON); the
annotations are those that the test's own dumped configuration names, relative to ``--folder``. Prints one
JSON object: metrics in the detector's keys and scale, not rounded (-1: no such objects), the annotation file,
AP by class, and how many detections and objects fall under each kind of error that TIDE names
(``error_kinds``). Exit code 2, one line, for what cannot be evaluated; 3 where pycocotools is not there.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

# As mmdet 2.x and 3.x evaluate: at most so many detections per image; AP itself is taken at 100.
MAX_DETECTIONS = (100, 300, 1000)
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
# Kinds of error as Bolya et al., TIDE, ECCV 2020, define them.
ERRORS = ("class", "localisation", "both", "duplicate", "background", "missed")
ERROR_SCORE = 0.3  # detections below it are not looked at
_FOREGROUND, _BACKGROUND = 0.5, 0.1  # intersection over union
_FAR = 4 << 20  # bytes of a configuration


# What files that are torn, or are something else, make NumPy, JSON and pycocotools raise.
_TROUBLES = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    AssertionError,
    zipfile.BadZipFile,
)


class CannotEvaluate(ValueError):
    """What the evaluation needs is not there; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--folder", type=Path, default=Path())
    args = parser.parse_args(argv)
    try:
        annotations = args.annotations or args.folder / annotation_file(args.config)
        evaluation = evaluate(args.predictions, annotations)
    except ImportError as error:
        print(f"recompute: {error}", file=sys.stderr)
        return 3
    except _TROUBLES as error:
        print("recompute: " + (str(error) or type(error).__name__).split("\n")[0], file=sys.stderr)
        return 2
    print(json.dumps({**evaluation._asdict(), "annotations": str(annotations)}))
    return 0


class Evaluation(NamedTuple):
    """What the predictions of a test are worth."""

    metrics: dict[str, float]
    errors: dict[str, int]  # kind -> count
    classes: dict[str, float]  # class -> AP, of classes with objects


def evaluate(predictions: Path, annotations: Path) -> Evaluation:
    """Return all six metrics of box AP, errors by kind, and AP by class. Raise CannotEvaluate, OSError,
    ImportError."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not annotations.is_file():
        raise CannotEvaluate(f"the annotations are not there: {annotations}")
    results, images, categories = load(predictions)
    with contextlib.redirect_stdout(sys.stderr):
        truth = COCO(str(annotations))
        errors = error_kinds(results, truth, images or truth.getImgIds(), categories)
        if not results:
            return Evaluation(dict.fromkeys(METRICS, 0.0), errors, {})
        job = COCOeval(truth, truth.loadRes(results), "bbox")
        job.params.maxDets = list(MAX_DETECTIONS)
        job.params.imgIds = images or truth.getImgIds()
        job.params.catIds = categories or truth.getCatIds()
        for step in (job.evaluate, job.accumulate, job.summarize):
            step()
    metrics = {name: float(value) for name, value in zip(METRICS, job.stats)}
    return Evaluation(metrics, errors, _by_class(job, truth))


def _by_class(job: Any, truth: Any) -> dict[str, float]:
    """Return class -> AP over all sizes, as the metric AP is taken: -1 stands for recalls without objects."""
    found = {}
    for k, category in enumerate(job.params.catIds):
        precision = job.eval["precision"][:, :, k, 0, 0]
        precision = precision[precision > -1]
        if precision.size:
            found[str(truth.cats[category].get("name", category))] = float(precision.mean())
    return found


def error_kinds(
    results: Sequence[dict[str, Any]],
    truth: Any,
    images: Sequence[int],
    categories: Sequence[int] = (),
    least: float = ERROR_SCORE,
) -> dict[str, int]:
    """Return kind -> count, of COCO results against a pycocotools COCO of the truth.

    A detection that matches no object of its class by an intersection over union of 0.5 is the first of:
    *localisation* (0.1 to 0.5 with one of its class), *class* (0.5 with one of another class), *duplicate*
    (0.5 with one that a detection of a higher score has), *background* (at most 0.1 with anything), *both*.
    An object is *missed* if neither a detection nor a correction of the first two kinds could find it. What
    lies in a region of many objects is ignored. ``found`` counts the detections that match.
    """
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        if result["score"] >= least:
            by_image.setdefault(result["image_id"], []).append(result)
    counts = dict.fromkeys(("found", *ERRORS), 0)
    for image in images:
        objects = truth.loadAnns(truth.getAnnIds(imgIds=[image], catIds=list(categories)))
        found = sorted(by_image.get(image, []), key=lambda result: -result["score"])[: MAX_DETECTIONS[0]]
        for kind in _kinds_of_image(found, objects):
            counts[kind] += 1
    return counts


def _kinds_of_image(found: list[dict[str, Any]], annotated: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the kind of each detection, and ``missed`` for each object without one."""
    import numpy as np
    from pycocotools import mask

    objects = [a for a in annotated if not a.get("iscrowd")]
    crowds = [a for a in annotated if a.get("iscrowd")]
    boxes = [result["bbox"] for result in found]
    if not found or not objects:
        yield from ("background" for i in range(len(found)) if not _ignored(found[i], crowds))
        yield from ("missed" for _ in objects)
        return
    overlap = np.asarray(mask.iou(boxes, [a["bbox"] for a in objects], [0] * len(objects)))
    classes = np.array([a["category_id"] for a in objects])
    same = np.array([result["category_id"] for result in found])[:, None] == classes[None, :]
    own, other = overlap * same, overlap * ~same
    taken = np.full(len(found), -1)
    free = own.copy()
    for i in range(len(found)):
        best = int(free[i].argmax())
        if free[i, best] >= _FOREGROUND:
            taken[i] = best
            free[:, best] = 0
    matched = np.isin(np.arange(len(objects)), taken)
    corrected = set()  # objects that a better box or class would find
    for i, result in enumerate(found):
        if taken[i] >= 0:
            yield "found"
        elif not _ignored(result, crowds):
            kind, place = _kind(own[i], other[i], overlap[i], matched)
            corrected.update([place] if place >= 0 else [])
            yield kind
    yield from ("missed" for j in range(len(objects)) if not matched[j] and j not in corrected)


def _kind(own: Any, other: Any, overlap: Any, matched: Any) -> tuple[str, int]:
    """Return the kind of a detection that matches nothing, and the object that its correction would find."""
    if _BACKGROUND <= own.max() <= _FOREGROUND:
        return "localisation", int(own.argmax())
    if other.max() >= _FOREGROUND:
        return "class", int(other.argmax())
    if (own * matched).max() >= _FOREGROUND:
        return "duplicate", -1
    return ("background" if overlap.max() <= _BACKGROUND else "both"), -1


def _ignored(result: dict[str, Any], crowds: Sequence[dict[str, Any]]) -> bool:
    """Return whether a detection lies in a region that is annotated as many objects of its class."""
    from pycocotools import mask

    boxes = [a["bbox"] for a in crowds if a["category_id"] == result["category_id"]]
    return bool(boxes) and bool((mask.iou([result["bbox"]], boxes, [1] * len(boxes)) > _FOREGROUND).any())


def load(path: Path) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """(COCO results, image ids, category ids); of COCO results alone the ids are not known: empty."""
    with path.open("rb") as stream:
        first = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first in (b"[", b"{"):
        return _results(json.loads(path.read_text(encoding="utf-8-sig"))), [], []
    import numpy as np

    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        images, offsets, boxes, scores, labels, categories = (
            archive[name].tolist()
            for name in ("image_ids", "offsets", "boxes", "scores", "labels", "category_ids")
        )
    if not categories:
        raise CannotEvaluate("the predictions do not tell the numbers of their categories")
    results = []
    for i, image in enumerate(images):
        for j in range(offsets[i], offsets[i + 1]):
            left, top, right, bottom = boxes[j]
            box = [left, top, right - left, bottom - top]
            found = {"image_id": image, "bbox": box, "score": scores[j], "category_id": categories[labels[j]]}
            results.append(found)
    return results, images, categories


def _results(content: Any) -> list[dict[str, Any]]:
    """Return COCO results. Raises CannotEvaluate for what is none."""
    keys = {"image_id", "bbox", "score", "category_id"}
    if isinstance(content, list) and all(isinstance(row, dict) and keys <= row.keys() for row in content):
        return content
    what = "a JSON object" if isinstance(content, dict) else "a list of something else"
    raise CannotEvaluate(f"the predictions are {what}; COCO results are a list of {sorted(keys)}")


def annotation_file(work_dir: Path) -> Path:
    """The annotation file that the configuration dumped into a test's work_dir evaluates with: mmengine's
    ``test_evaluator``, mmcv 1.x's ``data.test``."""
    stamped = sorted(work_dir.glob("*/vis_data/config.py"), reverse=True)
    for config in [*stamped, *sorted(work_dir.glob("*.py"))]:
        with config.open("rb") as stream:
            text = stream.read(_FAR).decode("utf-8", "replace")
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            for path in _annotations(ast.parse(text)):
                return Path(path)
    raise CannotEvaluate(f"no configuration in {work_dir} names the annotations")


def _annotations(tree: ast.Module) -> Iterator[str]:
    for wanted in (("test_evaluator",), ("data", "test"), ("val_evaluator",)):
        for statement in tree.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if isinstance(statement, ast.Assign) and isinstance(target, ast.Name) and target.id == wanted[0]:
                for call in _inside(statement.value, wanted[1:]):
                    yield from _literal(call, "ann_file")


def _inside(value: ast.expr, names: Sequence[str]) -> Iterator[ast.expr]:
    """The calls of dict(...) at a place of nested ones; of a list all its elements."""
    if isinstance(value, (ast.List, ast.Tuple)):
        for element in value.elts:
            yield from _inside(element, names)
    elif not names:
        yield value
    elif isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == names[0]:
                yield from _inside(keyword.value, names[1:])


def _literal(value: ast.expr, name: str) -> Iterator[str]:
    for keyword in value.keywords if isinstance(value, ast.Call) else []:
        text = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == name and isinstance(text, str):
            yield text


if __name__ == "__main__":
    sys.exit(main())
