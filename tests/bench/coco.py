"""``python -m tests.bench.coco``: what `data verify` costs at the size of COCO 2017's train split.

The file of annotations is generated: 118,287 images, 860,001 annotations with outlines, 450 MB. The images
are as many small files, and all are looked into.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from ddqjobs.data import coco
from ddqjobs.spec.dataset import Dataset, Split

IMAGES, BOXES, CATEGORIES = 118_287, 860_001, 80
_JPEG = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 8, 8, 480, 640, 0) + b"\xff\xd9"


def make(root: Path) -> None:
    """Writes the split."""
    draw = random.Random(1)
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    for i in range(IMAGES):
        (root / "train2017" / f"{i:012d}.jpg").write_bytes(_JPEG)
    with (root / "annotations" / "train.json").open("w") as stream:
        stream.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for i in range(IMAGES):
            stream.write(", " * (i > 0) + json.dumps(_image(i)))
        stream.write('], "annotations": [')
        for k in range(BOXES):
            stream.write(", " * (k > 0) + json.dumps(_box(k, draw)))
        named = [{"supercategory": "x", "id": c, "name": f"c{c}"} for c in range(CATEGORIES)]
        stream.write(f'], "categories": {json.dumps(named)}}}')


def _image(i: int) -> dict[str, object]:
    url = f"http://images.example.org/train2017/{i:012d}.jpg"
    return {"license": 3, "file_name": f"{i:012d}.jpg", "coco_url": url, "flickr_url": url, "height": 480,
            "width": 640, "date_captured": "2013-11-14 11:18:45", "id": i}  # fmt: skip


def _box(k: int, draw: random.Random) -> dict[str, object]:
    outline = [[round(draw.uniform(0, 480), 2) for _ in range(44)]]
    box = [round(draw.uniform(0, 500), 2), round(draw.uniform(0, 400), 2), 100.5, 60.25]
    return {"segmentation": outline, "area": 1234.5678, "iscrowd": 0, "image_id": draw.randrange(IMAGES),
            "bbox": box, "category_id": k % CATEGORIES, "id": k}  # fmt: skip


def memory(kind: str) -> int:
    """MB of this process: RssAnon, its own; VmHWM, the most at any time with the mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) * 1024 // 10**6


def main() -> None:
    """Measures and prints."""
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="ddqjobs-coco.")
    root = Path(folder)
    if not (root / "annotations").exists():
        make(root)
    split = Split(annotations="annotations/train.json", images="train2017", count=IMAGES)
    most, over = [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most.append(memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, used = time.monotonic(), time.process_time()
    dataset = Dataset(path=folder, categories=CATEGORIES)
    findings = coco.examine(root, dataset, split, {}, None, lambda *_: None).findings
    wall_s, used = time.monotonic() - began, time.process_time() - used
    over.set()
    watcher.join()
    file = (root / split.annotations).stat().st_size
    print(
        f"{file / 1e6:.0f} MB of annotations, {IMAGES} images, {BOXES} boxes: "
        f"{wall_s:.1f} s, {used:.1f} s of CPU, "
        f"{max(most)} MB (with the mapped file {memory('VmHWM')} MB), {len(findings)} findings, "
        f"{os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
