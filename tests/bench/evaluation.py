"""``python -m tests.bench.evaluation [FOLDER]``: what `report --recompute` takes for COCO's val split.

The split is generated: 5,000 images, 36,781 objects of 80 classes, 300 detections per image. Each evaluator
has a process and one core to itself; reading both files is counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ddqjobs.base import process
from ddqjobs.detect import recompute

IMAGES, DETECTIONS, OBJECTS, CLASSES = 5_000, 300, 36_781, 80


def make(root: Path) -> None:
    """Write the split and predictions: half of an image's detections lie near its objects."""
    draw = np.random.default_rng(1)
    images = np.sort(draw.choice(600_000, IMAGES, replace=False)) + 1
    classes = np.sort(draw.choice(90, CLASSES, replace=False)) + 1
    place, kind = draw.integers(0, IMAGES, OBJECTS), draw.integers(0, CLASSES, OBJECTS)
    size = np.exp(draw.normal(3.8, 1.0, (OBJECTS, 2))).clip(4, 400)
    corner = draw.uniform(0, 1, (OBJECTS, 2)) * np.maximum(np.array([640, 480]) - size, 1)
    boxes = np.concatenate([corner, size], 1).round(2)
    annotations = [
        {"segmentation": [draw.uniform(0, 480, 30).round(2).tolist()], "area": 0.7 * float(b[2] * b[3]),
         "iscrowd": int(k % 100 == 0), "image_id": int(images[place[k]]), "bbox": b.tolist(),
         "category_id": int(classes[kind[k]]), "id": k + 1}
        for k, b in enumerate(boxes)
    ]  # fmt: skip
    listed = [{"id": int(i), "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in images]
    named = [{"id": int(c), "name": f"c{c}"} for c in classes]
    content = {"images": listed, "annotations": annotations, "categories": named}
    (root / "instances.json").write_text(json.dumps(content))
    box_arrays, scores, labels = [], [], []
    for i in range(IMAGES):
        own = np.flatnonzero(place == i)
        near = min(DETECTIONS // 2, 12 * len(own))
        pick = draw.choice(own, near) if near else np.zeros(0, int)
        shift = np.maximum(boxes[pick][:, [2, 3, 2, 3]] * 0.15, 1)
        moved = boxes[pick] + draw.normal(0, 1, (near, 4)) * shift
        far = DETECTIONS - near
        anywhere = np.concatenate([draw.uniform(0, 400, (far, 2)), np.exp(draw.normal(3.8, 1, (far, 2)))], 1)
        both = np.concatenate([moved, anywhere])
        both[:, 2:] = both[:, :2] + np.abs(both[:, 2:]) + 1
        label = np.where(draw.random(near) < 0.8, kind[pick], draw.integers(0, CLASSES, near))
        score = np.concatenate([draw.beta(2, 3, near), draw.beta(1, 8, far)])
        order = np.argsort(-score, kind="stable")
        box_arrays.append(both[order])
        scores.append(score[order])
        labels.append(np.concatenate([label, draw.integers(0, CLASSES, far)])[order])
    np.savez(
        root / "predictions.npz", image_ids=images, offsets=np.arange(IMAGES + 1) * DETECTIONS,
        boxes=np.concatenate(box_arrays).astype(np.float32), scores=np.concatenate(scores).astype(np.float32),
        labels=np.concatenate(labels), category_ids=classes,
    )  # fmt: skip


def evaluate(root: Path, how: str) -> None:
    """Evaluate on one core; print seconds and figures. ``report``: all that a report takes."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began, used = time.monotonic(), time.process_time()
    predictions, annotations = root / "predictions.npz", root / "instances.json"
    if how == "report":
        metrics = recompute.evaluate(predictions, annotations).metrics
    else:
        detections = recompute.load(predictions)
        of = (detections.images, detections.categories)
        if how == "hotcoco":
            precision = recompute._by_hotcoco(detections, annotations, *of)
        else:
            precision = recompute._by_pycocotools(detections, json.loads(annotations.read_bytes()), *of)
        metrics = recompute._metrics(precision)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{how}: {time.process_time() - used:.1f} s of CPU, {time.monotonic() - began:.1f} s, {most} MiB, "
        + " ".join(f"{100 * value:.10f}" for value in metrics.values())
    )


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 2:
        evaluate(Path(sys.argv[1]), sys.argv[2])
        return
    root = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="ddqjobs-evaluation."))
    if not (root / "predictions.npz").exists():
        make(root)
    for how in ("hotcoco", "report", "pycocotools"):
        argv = [sys.executable, "-m", "tests.bench.evaluation", root, how]
        print(process.run(argv, timeout=3600, env=dict(os.environ)).stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
