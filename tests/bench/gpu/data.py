"""Images for measurements: noise and seven rectangles each; many entries share a few files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

FILES, BOXES, CLASSES, SIZE = 16, 7, 80, (800, 1333)


def write(folder: Path, images: int, sizes: Sequence[tuple[int, int]] = (SIZE,)) -> None:
    """COCO annotations ``train.json`` of ``images`` entries, and the files, whose heights and widths are
    ``sizes`` in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    turn = [sizes[n % len(sizes)] for n in range(FILES)]
    boxes = [_image(folder / f"{n}.jpg", random, size) for n, size in enumerate(turn)]
    entries = [
        {
            "id": n + 1,
            "file_name": f"{n % FILES}.jpg",
            "height": turn[n % FILES][0],
            "width": turn[n % FILES][1],
        }
        for n in range(images)
    ]
    annotations = [
        {
            "id": n * BOXES + k + 1,
            "image_id": n + 1,
            "category_id": category,
            "bbox": box,
            "iscrowd": 0,
            "area": box[2] * box[3],
        }
        for n in range(images)
        for k, (category, box) in enumerate(boxes[n % FILES])
    ]
    from ddqjobs.detect import ops

    ops.install()
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO["classes"]
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(names)]
    text = json.dumps({"images": entries, "annotations": annotations, "categories": categories})
    (folder / "train.json").write_text(text)


def _image(path: Path, random: np.random.Generator, of: tuple[int, int]) -> list[tuple[int, list[float]]]:
    image = random.integers(0, 255, (of[0] // 8, of[1] // 8, 3), dtype=np.uint8)
    image = cv2.resize(image, of[::-1])
    objects = []
    for _ in range(BOXES):
        width, height = (int(v) for v in random.integers(30, min(500, *of), 2))
        x, y = int(random.integers(0, of[1] - width)), int(random.integers(0, of[0] - height))
        category = int(random.integers(CLASSES))
        cv2.rectangle(
            image, (x, y), (x + width, y + height), [int(c) for c in random.integers(0, 255, 3)], -1
        )
        objects.append((category + 1, [float(v) for v in (x, y, width, height)]))
    cv2.imwrite(str(path), image)
    return objects
