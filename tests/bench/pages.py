"""``python -m tests.bench.pages``: the page of 50,000 runs, and the largest gallery, of pure noise."""

from __future__ import annotations

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

MODELS, SEEDS, IMAGES, BOXES, OBJECTS = 1250, 10, 200, 50, 20
WIDTH, HEIGHT = 640, 480
MOST_MB = {"runs": 20, "gallery": 15}
MOST_CPU_S = 20
Cost = Callable[[Sequence[str], Path], tuple[float, float, float]]


def gallery(root: Path) -> None:
    """Leave tests of two codes that find nothing alike: every image differs, and none can be made small."""
    made = paper.make(root, models=1, seeds=1, rows=60)
    draw = np.random.default_rng(0)
    for run in ("p3-test.m000.s0", "p4-test.m000.s0"):
        path = with_predictions(made, run, 0.7)
        place, count = path.parent, IMAGES * BOXES
        corners, sizes = draw.uniform(0, 400, (count, 2)), draw.uniform(20, 200, (count, 2))
        np.savez(
            path,
            image_ids=np.arange(1, IMAGES + 1),
            offsets=np.arange(IMAGES + 1) * BOXES,
            boxes=np.concatenate([corners, corners + sizes], 1).astype(np.float32),
            scores=draw.uniform(0.3, 1, count).astype(np.float32),
            labels=np.arange(count) % 2,
            category_ids=np.array([3, 7]),
        )
        truth = json.loads((place / "truth.json").read_text())
        numbers = range(1, IMAGES + 1)
        truth["images"] = [
            {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"{i}.png"} for i in numbers
        ]
        boxes = np.random.default_rng(1).uniform(20, 110, (IMAGES * OBJECTS, 4)).tolist()
        truth["annotations"] = [
            {"id": i + 1, "image_id": 1 + i // OBJECTS, "category_id": (3, 7)[i % 2], "bbox": box,
             "area": box[2] * box[3], "iscrowd": 0}
            for i, box in enumerate(boxes)
        ]  # fmt: skip
        (place / "truth.json").write_text(json.dumps(truth))
        (place / "val").mkdir()
        for i in numbers:
            noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(noise).save(place / "val" / f"{i}.png")
        with (place / "model.py").open("a") as config:
            config.write(shapes.LOADER.format(str(place)))
    open_project(root)


def measure(root: Path, bare: float, cost: Cost) -> list[Row]:
    """Return rows of the table."""
    makers: tuple[tuple[str, Callable[[Path], object], list[str]], ...] = (
        ("runs", partial(paper.make, models=MODELS, seeds=SEEDS, rows=200), []),
        ("gallery", gallery, ["--gallery", "50"]),
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
        what = f"{4 * MODELS * SEEDS:,} runs" if name == "runs" else f"{text.count('data:image/jpeg')} images"
        title = f"HTML page, {what}: {len(text.encode()) / 1e6:.1f} MB"
        limit = f"CPU < {MOST_CPU_S} s, < {MOST_MB[name]} MB"
        rows.append((title, cpu, wall, mib, f"{cpu / bare:.2f}", limit))
    return rows


if __name__ == "__main__":
    from tests.bench.__main__ import cost, print_table

    with tempfile.TemporaryDirectory() as temporary:
        print_table(measure(Path(temporary), 1.0, cost))
