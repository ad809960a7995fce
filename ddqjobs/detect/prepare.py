"""Makes inputs of an experiment: a small data set, or one initial state for both implementations.

    python -m ddqjobs.detect.prepare dataset --out DIR --images-train N --images-val N
        --size WxH --classes K --seed S
    python -m ddqjobs.detect.prepare initial --config CONFIG --out init.pth --seed S [--cfg-options k=v ...]

``dataset`` is COCO's layout with coloured shapes: train/, val/, annotations/{train,val}.json. The same
arguments give the same bytes everywhere: the generator is Python's own and the PNGs are written here, not
by an imaging library whose compression may change. ``initial`` dumps the weights that a model starts with,
because two versions of mmengine initialise differently from the same seed.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from . import files

# Shape and colour tell the classes apart; further ones repeat the shapes in other colours.
SHAPES = ("rectangle", "disc", "triangle", "cross", "ring")
COLOURS = ((214, 40, 40), (38, 120, 214), (40, 160, 70), (235, 180, 30), (150, 60, 190), (240, 110, 30))
MAX_CLASSES = len(SHAPES) * len(COLOURS)


class Shape(NamedTuple):
    """One object: class index and box in pixels, x and y of the upper left corner."""

    category: int
    x: int
    y: int
    width: int
    height: int


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 for impossible arguments and what cannot be written."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.prepare", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("dataset", help="a COCO-format data set of coloured shapes")
    data.add_argument("--out", type=Path, required=True)
    data.add_argument("--images-train", type=int, default=20)
    data.add_argument("--images-val", type=int, default=8)
    data.add_argument("--size", default="160x120", help="WxH in pixels")
    data.add_argument("--classes", type=int, default=3)
    data.add_argument("--seed", type=int, default=0)
    initial = commands.add_parser("initial", help="one initial state for several implementations")
    initial.add_argument("--config", required=True)
    initial.add_argument("--out", type=Path, required=True)
    initial.add_argument("--seed", type=int, default=0)
    initial.add_argument("--cfg-options", nargs="*", default=[])
    args = parser.parse_args(argv)
    try:
        if args.command == "initial":
            files.keep_apart({"--out": args.out}, (Path(args.config),))
            write_initial(args.config, args.out, args.seed, args.cfg_options)
        else:
            size = _size(args.size)
            counts = {"train": args.images_train, "val": args.images_val}
            write_dataset(args.out, counts, size, args.classes, args.seed)
    except (ValueError, OSError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


def write_dataset(out: Path, counts: dict[str, int], size: tuple[int, int], classes: int, seed: int) -> None:
    """Write the data set. ``counts`` is images per split, ``size`` (width, height) in pixels.

    Raises ValueError for sizes below 32 pixels, no images, or more classes than there are shapes and colours.
    """
    if min(size) < 32 or max(size) > 4096:
        raise ValueError(f"--size {size[0]}x{size[1]}: both must be from 32 to 4096")
    if not 1 <= classes <= MAX_CLASSES:
        raise ValueError(f"--classes {classes}: must be from 1 to {MAX_CLASSES}")
    if min(counts.values()) < 1:
        raise ValueError("--images-train and --images-val must be at least 1")
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split in sorted(counts):
        # One generator per split: more training images must not change the validation set.
        rng = random.Random(f"{seed}/{split}")
        (out / split).mkdir(exist_ok=True)
        annotations = _write_split(out / split, counts[split], size, classes, rng)
        text = json.dumps(annotations, sort_keys=True, separators=(",", ":")) + "\n"
        (out / "annotations" / f"{split}.json").write_text(text, encoding="utf-8")


def class_names(classes: int) -> list[str]:
    """Names of the first ``classes`` classes, as in the annotations."""
    return [f"{SHAPES[c % len(SHAPES)]}_{c // len(SHAPES)}" for c in range(classes)]


def write_initial(config: str, out: Path, seed: int, options: Sequence[str]) -> None:
    """Build the model of ``config`` as a training with this seed would, and save its state."""
    from ddqjobs.detect import runtime
    from ddqjobs.detect.configurations import located

    runtime.set_up()
    cfg = runtime.load_config(located(config), options)
    import torch
    from mmengine.runner import set_random_seed

    set_random_seed(seed)
    model = runtime.build_model(cfg)
    logging.disable(logging.INFO)  # mmengine reports on every single weight
    model.init_weights()
    logging.disable(logging.NOTSET)
    state = model.state_dict()
    runtime.save({"meta": {"seed": seed, "config": config}, "state_dict": state}, out)
    print(f"prepare: {len(state)} tensors of seed {seed}, torch {torch.__version__}")


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--size {text}: expected WIDTHxHEIGHT, e.g. 160x120")
    return int(parts[0]), int(parts[1])


def _write_split(
    folder: Path, count: int, size: tuple[int, int], classes: int, rng: random.Random
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        name = f"{number:06d}.png"
        shapes = _place(size, classes, rng)
        (folder / name).write_bytes(_png(_draw(size, shapes, rng), size))
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        for shape in shapes:
            box = [shape.x, shape.y, shape.width, shape.height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": shape.category + 1,
                    "bbox": box,
                    "area": shape.width * shape.height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(class_names(classes))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return {**content, "info": {}, "licenses": []}


def _place(size: tuple[int, int], classes: int, rng: random.Random) -> list[Shape]:
    """One to four shapes that do not overlap."""
    width, height = size
    placed: list[Shape] = []
    wanted = rng.randint(1, 4)
    for _ in range(50):
        if len(placed) == wanted:
            break
        w = rng.randint(width // 6, width // 3)
        h = rng.randint(height // 6, height // 3)
        shape = Shape(rng.randrange(classes), rng.randint(0, width - w), rng.randint(0, height - h), w, h)
        if not any(_touch(shape, other) for other in placed):
            placed.append(shape)
    return placed


def _touch(a: Shape, b: Shape) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def _draw(size: tuple[int, int], shapes: list[Shape], rng: random.Random) -> list[bytearray]:
    """Rows of RGB bytes: a grey background with a slight slope, and the shapes in their colours."""
    width, height = size
    base, slope = rng.randint(90, 150), rng.uniform(-0.2, 0.2)
    rows = [bytearray(bytes([int(base + slope * y)] * 3) * width) for y in range(height)]
    for shape in shapes:
        tone = rng.randint(-15, 15)
        colour = bytes(min(255, max(0, c + tone)) for c in COLOURS[shape.category % len(COLOURS)])
        kind = SHAPES[shape.category % len(SHAPES)]
        for row in range(shape.height):
            for left, right in _spans(kind, (row + 0.5) / shape.height):
                first = shape.x + round(left * shape.width)
                last = shape.x + round(right * shape.width)
                rows[shape.y + row][3 * first : 3 * last] = colour * (last - first)
    return rows


def _spans(kind: str, y: float) -> list[tuple[float, float]]:
    """Covered stretches of a shape in the unit square at height ``y``."""
    if kind == "disc" or kind == "ring":
        half = (0.25 - (y - 0.5) ** 2) ** 0.5
        hole = 0.08 - (y - 0.5) ** 2
        if kind == "disc" or hole <= 0:
            return [(0.5 - half, 0.5 + half)]
        return [(0.5 - half, 0.5 - hole**0.5), (0.5 + hole**0.5, 0.5 + half)]
    if kind == "triangle":
        return [(0.5 - y / 2, 0.5 + y / 2)]
    if kind == "cross":
        return [(0.0, 1.0)] if 0.33 <= y <= 0.67 else [(0.33, 0.67)]
    return [(0.0, 1.0)]


def _png(rows: list[bytearray], size: tuple[int, int]) -> bytes:
    """8-bit RGB PNG. Stored, not compressed: deflate's output depends on the zlib version."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(tag + body) & 0xFFFFFFFF)
        return struct.pack(">I", len(body)) + tag + body + check

    header = struct.pack(">IIBBBBB", size[0], size[1], 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes(row) for row in rows)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", _stored(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    blocks = [data[i : i + 0xFFFF] for i in range(0, len(data), 0xFFFF)] or [b""]
    parts = [b"\x78\x01"]
    for number, block in enumerate(blocks):
        last = b"\1" if number == len(blocks) - 1 else b"\0"
        parts.append(last + struct.pack("<HH", len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(parts) + struct.pack(">I", zlib.adler32(data) & 0xFFFFFFFF)


if __name__ == "__main__":
    sys.exit(main())
