"""A model whose two codes find other things: drawn images of shapes, and what each code finds in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ddqjobs.project import Project, open_project
from tests.unit.report.test_command import with_predictions

# What names the folder of a test's images in its configuration.
LOADER = "test_dataloader = dict(dataset=dict(data_root={!r}, data_prefix=dict(img='val/')))\n"
CLASSES = ("circle", "square", "triangle")
WIDTH, HEIGHT, IMAGES = 320, 240, 8
_COLOURS = ("#2274d8", "#d62828", "#2ba84a")
_FIELDS = [(x, y) for y in (0, 1) for x in (0, 1, 2)]  # of an image: one object in each at most

Found = tuple[list[float], float, int]  # box as left, top, right, bottom; score; class


def scene(number: int) -> list[tuple[list[float], int]]:
    """Return the objects of an image: box, class."""
    objects = []
    for field, (x, y) in enumerate(_FIELDS):
        draw = np.random.default_rng([number, field])
        if draw.random() < 0.6 or field == number % 6:
            wide, high = draw.integers(40, 84, 2)
            left, top = 107 * x + draw.integers(4, 104 - wide), 120 * y + draw.integers(4, 116 - high)
            objects.append(([left, top, left + wide, top + high], (number + field) % 3))
    return objects


def found_by(new: bool, number: int) -> list[Found]:
    """Return what a code finds. The new one takes some triangles for squares, doubles a few circles and
    misses what is smallest; both find one square twice."""
    detections: list[Found] = []
    for i, (box, label) in enumerate(scene(number)):
        draw = np.random.default_rng([number, i, new])
        near = [side + float(draw.normal(0, 1.5)) for side in box]
        score = 0.9 - 0.05 * i
        wrong = new and label == 2 and (number + i) % 2 == 0
        if new and (box[2] - box[0]) * (box[3] - box[1]) < 2200:
            continue
        detections.append((near, score, 1 if wrong else label))
        if (new and label == 0 and number % 3 == 0) or (label == 1 and number == 5):
            detections.append(([side + 5 for side in near], score - 0.3, label))
    return detections


def write(project: Project, model: str = "m000") -> Project:
    """Leave the images and the predictions of both codes' tests of a model of tests/support/paper.py."""
    for new, run in enumerate((f"p3-test.{model}.s0", f"p4-test.{model}.s0")):
        path = with_predictions(project, run, 0.6)
        _images(path.parent)
        predictions = [found_by(bool(new), number) for number in range(1, IMAGES + 1)]
        every = [detection for image in predictions for detection in image]
        np.savez(
            path,
            image_ids=np.arange(1, IMAGES + 1),
            offsets=np.cumsum([0, *map(len, predictions)]),
            boxes=np.array([box for box, _, _ in every], np.float32),
            scores=np.array([score for _, score, _ in every], np.float32),
            labels=np.array([label for _, _, label in every]),
            category_ids=np.arange(1, 4),
        )
        with (path.parent / "model.py").open("a") as config:
            config.write(LOADER.format(str(path.parent)))
    return open_project(project.root)


def _images(folder: Path) -> None:
    (folder / "val").mkdir()
    annotations: list[dict[str, Any]] = []
    for number in range(1, IMAGES + 1):
        shade = 90 + 12 * number
        image = Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, shade))
        pen = ImageDraw.Draw(image)
        for box, label in scene(number):
            left, top, right, bottom = map(float, box)
            corners = [(left, bottom), ((left + right) / 2, top), (right, bottom)]
            if label == 0:
                pen.ellipse((left, top, right, bottom), fill=_COLOURS[0])
            elif label == 1:
                pen.rectangle((left, top, right, bottom), fill=_COLOURS[1])
            else:
                pen.polygon(corners, fill=_COLOURS[2])
            size = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": size,
                 "area": size[2] * size[3], "iscrowd": 0}
            )  # fmt: skip
        image.save(folder / "val" / f"{number:06d}.png")
    truth = {
        "images": [
            {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"{i:06d}.png"}
            for i in range(1, IMAGES + 1)
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth))
