"""Weights, images and objects by seed, for comparing implementations. NumPy only, the same everywhere.

``numpy.random.RandomState`` promises the same stream for ever, so an implementation that runs in another
environment, or ran years ago, had the same inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

SIZES = ((160, 224), (192, 128), (224, 256))  # (height, width) of the images, pixels
SCALE = 1.25  # of the images to their originals
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Sample(NamedTuple):
    """One image with its objects, before normalisation."""

    image: Any  # (height, width, 3) uint8, BGR
    boxes: Any  # (n, 4) float32 xyxy, pixels
    labels: Any  # (n,) int64


def weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """An array for every floating-point weight, in the order given, by its name and shape.

    Scaled so that activations stay of order one and predictors differ from point to point: an initial state
    would score all points the same, and comparing it would show little.
    """
    rng = np.random.RandomState(seed)
    return {name: np.asarray(_weight(name, shape, rng)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...], rng: np.random.RandomState) -> Any:
    noise = np.asarray(rng.standard_normal(shape), np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(noise)
    if len(shape) >= 2:
        fan = int(np.prod(shape[1:]))
        return noise * np.float32(np.sqrt(2.0 / fan)) * np.float32(_gain(name))
    if name.endswith("scale"):
        return 1 + 0.1 * noise
    if name.endswith("weight"):  # of a normalisation; the last one of a residual block is small
        return (0.2 if ".bn3." in name else 1.0) + 0.05 * noise
    return 0.05 * noise + np.float32(_bias(name))


def _gain(name: str) -> float:
    if "conv_reg" in name or "reg_branches" in name or "fc_reg" in name:
        return 0.3  # distances pass through exp, offsets through a sigmoid
    if _is_class(name):
        return 0.5
    return 1.0


def _bias(name: str) -> float:
    if "conv_reg" in name:
        return 0.8
    return -3.0 if _is_class(name) else 0.0


def _is_class(name: str) -> bool:
    return any(part in name for part in ("conv_cls", "fc_cls", "cls_branches"))


def samples(seed: int, *, classes: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[Sample]:
    """Images of coloured rectangles on noise, two to five objects each; the sizes differ."""
    rng = np.random.RandomState(seed)
    return [_sample(rng, height, width, classes) for height, width in sizes]


def _sample(rng: np.random.RandomState, height: int, width: int, classes: int) -> Sample:
    image = rng.randint(60, 160, (height, width, 3)).astype(np.uint8)
    boxes, labels = [], []
    for _ in range(rng.randint(2, 6)):
        w, h = rng.randint(width // 6, width // 2), rng.randint(height // 6, height // 2)
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        image[y : y + h, x : x + w] = rng.randint(0, 256, 3)
        boxes.append((x, y, x + w, y + h))
        labels.append(rng.randint(classes))
    return Sample(image, np.array(boxes, np.float32), np.array(labels, np.int64))


def batch(chosen: Sequence[Sample], divisor: int) -> Any:
    """(N, 3, H, W) float32: RGB, normalised, padded with zeros to the largest image and up to a multiple of
    ``divisor``."""
    height, width = (max(s.image.shape[axis] for s in chosen) for axis in (0, 1))
    height, width = (-(-side // divisor) * divisor for side in (height, width))
    out = np.zeros((len(chosen), 3, height, width), np.float32)
    for row, sample in zip(out, chosen):
        h, w = sample.image.shape[:2]
        rgb = sample.image[:, :, ::-1].astype(np.float32)
        row[:, :h, :w] = ((rgb - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)
    return out


def guard(seed: int, *, classes: int = 80) -> list[Sample]:
    """The inputs of the recorded runs: three small images of different sizes, the last without objects."""
    *rest, last = samples(seed, classes=classes, sizes=((96, 128), (128, 96), (64, 96)))
    return [*rest, Sample(last.image, last.boxes[:0], last.labels[:0])]
