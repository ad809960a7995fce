"""A batch as both generations of mmdet get it, and as a dump holds it."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from . import modules

META = ("img_shape", "ori_shape", "scale_factor", "flip")


class Batch(NamedTuple):
    """The input of a model. Each image has (height, width) as ``img_shape`` and ``ori_shape``, (x, y) as
    ``scale_factor``, ``flip`` if it was augmented, and ``boxes`` (n, 4) xyxy and ``labels`` (n,) if there are
    annotations."""

    inputs: Any  # (N, 3, H, W) float32, normalised and padded
    images: list[dict[str, Any]]


def data(batch: Batch) -> dict[str, Any]:
    """A batch as it is dumped: inputs (N, 3, H, W), and per image boxes, labels and sizes."""
    import numpy as np

    dump: dict[str, Any] = {"inputs": batch.inputs}
    for number, image in enumerate(batch.images):
        meta = {key: np.array(image[key], np.float64) for key in META if key in image}
        objects = {key: image[key] for key in ("boxes", "labels") if key in image}
        dump[str(number)] = {**meta, **objects}
    return dump


def from_dump(dump: Mapping[str, Any], iteration: int = 0) -> Batch:
    """The data in a dump, those that were looked at (0) or of an iteration. Raises ValueError if it has
    none."""
    import torch

    place = [modules.DATA, str(iteration)]
    parts = {key.split("|")[3]: value for key, value in dump.items() if key.split("|")[1:3] == place}
    if "inputs" not in parts:
        raise ValueError("the dump holds no data" + (f" of iteration {iteration}" if iteration else ""))
    images = []
    for number in range(len(parts["inputs"])):
        mine = {key.partition(".")[2]: v for key, v in parts.items() if key.startswith(f"{number}.")}
        image: dict[str, Any] = {k: torch.from_numpy(v) for k, v in mine.items() if k in ("boxes", "labels")}
        image.update({key: pair(mine[key], key != "scale_factor") for key in META[:3] if key in mine})
        if "flip" in mine:
            image["flip"] = bool(mine["flip"])
        images.append(image)
    return Batch(torch.from_numpy(parts["inputs"]), images)


def pair(values: Any, whole: bool) -> tuple[Any, Any]:
    """The first two of some numbers, as plain ones."""
    first, second = (int(v) if whole else float(v) for v in list(values)[:2])
    return first, second


def objects(image: Mapping[str, Any]) -> tuple[Any, Any]:
    """Boxes (n, 4) and labels (n,) of an image of a batch; none if it has no annotations."""
    import torch

    boxes = image.get("boxes", torch.zeros(0, 4))
    return boxes, image.get("labels", torch.zeros(len(boxes), dtype=torch.int64))
