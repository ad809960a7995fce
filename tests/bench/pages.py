"""``python -m tests.bench.pages``: the page of 50,000 runs, and the largest galleries: of what looks like
photographs, and of pure noise."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ddqjobs.project import open_project
from tests.bench.endings import Row
from tests.support import paper, shapes
from tests.support.trivial import end_of, fork
from tests.unit.report.test_command import with_predictions

MODELS, SEEDS, IMAGES, BOXES, OBJECTS = 1250, 10, 100, 50, 20
WIDTH, HEIGHT = 640, 480
MOST_MB = {"runs": 20, "photographs": 15, "noise": 15}
MOST_CPU_S = 20
Picture = Callable[[int], bytes]  # number -> JPEG
Cost = Callable[[Sequence[str], Path], tuple[float, float, float]]


def noise(number: int) -> bytes:
    """Return an image that no format makes small."""
    pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return _jpeg(pixels, 90)


def photograph(number: int) -> bytes:
    """Return an image as large as COCO's are (some 170 KB), and with a photograph's spectrum: amplitudes fall
    with the frequency."""
    draw = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    grey = np.fft.rfft2(draw.normal(size=(HEIGHT, WIDTH))) / frequency
    grey[0, 0] = 0
    light = np.fft.irfft2(grey, (HEIGHT, WIDTH))
    light = 128 + 52 * light / light.std()
    tint = draw.uniform(0.7, 1.1, 3) + 0.1 * np.linspace(-1, 1, WIDTH)[None, :, None]
    return _jpeg(np.clip(light[..., None] * tint, 0, 255).astype(np.uint8), 90)


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def gallery(root: Path, image: Picture) -> None:
    """Leave tests of two codes on 100 images. Both find the same wrong boxes on the first half; on the second
    one of them is right: those on which both fail are none of those on which they differ."""
    project = paper.make(root, models=1, seeds=1, rows=60)
    truth = _corners(np.random.default_rng(1), OBJECTS)
    wrong = _corners(np.random.default_rng(0), BOXES)
    for run, right in (("p3-test.m000.s0", IMAGES // 2), ("p4-test.m000.s0", 0)):
        path = with_predictions(project, run, 0.7)
        boxes = [*wrong[: IMAGES - right], *truth[IMAGES - right :]]
        _predict(path, boxes)
        _annotate(path.parent, truth, image)
    open_project(root)


def _corners(draw: np.random.Generator, count: int) -> list[np.ndarray]:
    """Return boxes (left, top, right, bottom) for each image."""
    corner, size = draw.uniform(0, 280, (IMAGES, count, 2)), draw.uniform(20, 200, (IMAGES, count, 2))
    return list(np.concatenate([corner, corner + size], 2).astype(np.float32))


def _predict(path: Path, boxes: list[np.ndarray]) -> None:
    count = sum(map(len, boxes))
    np.savez(
        path,
        image_ids=np.arange(1, IMAGES + 1),
        offsets=np.cumsum([0, *map(len, boxes)]),
        boxes=np.concatenate(boxes),
        scores=np.random.default_rng(2).uniform(0.3, 1, count).astype(np.float32),
        labels=np.arange(count) % 2,
        category_ids=np.array([3, 7]),
    )


def _annotate(place: Path, boxes: list[np.ndarray], image: Picture) -> None:
    """Leave the true boxes, whose classes take turns, and the images."""
    truth = json.loads((place / "truth.json").read_text())
    truth["images"] = [
        {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"{i}.jpg"} for i in range(1, IMAGES + 1)
    ]
    sides = np.concatenate([np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1) for b in boxes]).tolist()
    truth["annotations"] = [
        {"id": i + 1, "image_id": 1 + i // OBJECTS, "category_id": (3, 7)[i % 2], "bbox": box,
         "area": box[2] * box[3], "iscrowd": 0}
        for i, box in enumerate(sides)
    ]  # fmt: skip
    (place / "truth.json").write_text(json.dumps(truth))
    (place / "val").mkdir()
    for i in range(1, IMAGES + 1):
        (place / "val" / f"{i}.jpg").write_bytes(image(i))
    with (place / "model.py").open("a") as config:
        config.write(shapes.LOADER.format(str(place)))


def measure(root: Path, bare: float, cost: Cost) -> list[Row]:
    """Return rows of the table."""
    makers: tuple[tuple[str, Callable[[Path], object], list[str]], ...] = (
        ("runs", partial(paper.make, models=MODELS, seeds=SEEDS, rows=200), []),
        ("photographs", partial(gallery, image=photograph), ["--gallery", "50"]),
        ("noise", partial(gallery, image=noise), ["--gallery", "50"]),
    )
    rows: list[Row] = []
    for name, make, more in makers:
        folder = root / name
        if end_of(fork(partial(make, folder))):
            raise SystemExit(1)
        page = folder / "page.html"
        argv = [sys.executable, "-m", "ddqjobs", "report", "paper", "-o", str(page), *more]
        cpu, wall, mib = cost(argv, folder)
        text = page.read_text()
        images = f"{text.count('data:image/jpeg')} images, {name}"
        what = f"{4 * MODELS * SEEDS:,} runs" if name == "runs" else images
        title = f"HTML page, {what}: {len(text.encode()) / 1e6:.1f} MB"
        limit = f"CPU < {MOST_CPU_S} s, < {MOST_MB[name]} MB"
        rows.append((title, cpu, wall, mib, f"{cpu / bare:.2f}", limit))
    return rows


if __name__ == "__main__":
    from tests.bench.__main__ import cost, print_table

    with tempfile.TemporaryDirectory() as temporary:
        print_table(measure(Path(temporary), 1.0, cost))
