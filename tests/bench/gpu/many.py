"""Measure the time of many images: the test of DDQ DETR-4scale R-50 with random weights on one GPU.

    python -m tests.bench.gpu.many OUT [IMAGES [SETTING ...]]

Images of eight sizes as COCO has them, resized to 1333x800 at most, one per batch, through
``ddqjobs.detect.test``: mmdet's detector and ``speed=True``, with two and eight processes that load. Of each:
images per second of the whole test and of its loop after the first 100 images, how busy the GPU is (NVML's
samples), seconds of the evaluation and of the file of predictions. Beside it milliseconds of an image's
decoding, resizing and packing in one process. Exit code 1 if a setting's predictions have not the bits of
the first one's. ``BENCH_TINY=1`` is the rehearsal on a machine without a GPU.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.gpu import __main__ as bench
from tests.bench.gpu import data, session, verdict

CONFIG = Path(__file__).with_name("many_config.py")
SIZES = [(480, 640), (640, 480), (427, 640), (640, 427), (375, 500), (500, 375), (426, 640), (333, 500)]
SETTINGS: dict[str, tuple[list[str], int]] = {
    "mmdet-2": ([], 2),
    "mmdet-8": ([], 8),
    "speed-2": (["speed=True"], 2),
    "speed-8": (["speed=True"], 8),
}


def parts() -> dict[str, float]:
    """Milliseconds per image of each step of the pipeline, medians, in this process."""
    from mmdet.registry import DATASETS

    from ddqjobs.detect import runtime

    cfg = runtime.load_config(str(CONFIG), _options())
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    spent: dict[str, list[float]] = {}
    for index in range(min(64, len(dataset))):
        item = dataset.get_data_info(index)
        for step in dataset.pipeline.transforms:
            began = time.perf_counter()
            item = step(item)
            spent.setdefault(type(step).__name__, []).append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(times), 2) for name, times in spent.items()}


def _options() -> list[str]:
    return (
        [*session.tiny_options(), "test_dataloader.dataset.pipeline.1.scale=(200,120)"]
        if session.tiny()
        else []
    )


def weights(path: Path) -> None:
    """Write a checkpoint of random weights."""
    import torch

    from ddqjobs.detect import runtime

    cfg = runtime.load_config(str(CONFIG), _options())
    torch.manual_seed(7)
    model = runtime.build_model(cfg)
    model.init_weights()
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)


def test(name: str, out: Path, folder: Path) -> dict[str, Any]:
    """One test; ``error`` says why it is none."""
    options, workers = SETTINGS[name]
    work = out / name
    argv = [sys.executable, "-m", "ddqjobs.detect.test", str(CONFIG), str(folder / "random.pth")]
    argv += ["--work-dir", str(work), "--cfg-options", *_options(), *options]
    argv += [f"test_dataloader.num_workers={workers}"]
    code, seconds = bench.run(argv, out / f"{work.name}.log", BENCH_DATA=str(folder), **bench.configs())
    if code:
        return {"error": (out / f"{work.name}.log").read_text()[-2000:]}
    figures: dict[str, Any] = json.loads((work / "test.json").read_text())
    return {"whole s": round(seconds, 1), **figures}


def differ(one: Path, two: Path) -> str:
    """Name the arrays of two tests' predictions that differ in a bit; empty if none does."""
    first, second = (dict(np.load(folder / "predictions.npz")) for folder in (one, two))
    wrong = [name for name in first if not np.array_equal(first[name], second[name])]
    return f"differs from {one.name} in {', '.join(wrong)}" if wrong else ""


def main() -> int:
    """All settings, or those that are named; the exit code."""
    out, images = Path(sys.argv[1]).absolute(), int(dict(enumerate(sys.argv)).get(2, 1000))
    names = sys.argv[3:] or list(SETTINGS)
    folder = out / "data"
    out.mkdir(parents=True, exist_ok=True)
    data.write(folder, images, [(96, 128), (128, 96)] if session.tiny() else SIZES)
    (folder / "val.json").write_text((folder / "train.json").read_text())
    os.environ.update({"BENCH_DATA": str(folder), "BENCH_REPO": str(bench.REPO), **bench.configs()})
    from ddqjobs.detect import runtime

    runtime.set_up()
    weights(folder / "random.pth")
    results: dict[str, Any] = {"ms per image, one process": parts()}
    for name in names:
        results[name] = test(name, out, folder)
        if wrong := "" if "error" in results[name] else differ(out / names[0], out / name):
            results[name]["error"] = wrong
        print(name, json.dumps(results[name]), flush=True)
    print(json.dumps(results["ms per image, one process"]), flush=True)
    (out / "many.json").write_text(json.dumps(results, indent=1))
    return verdict.end([(name, row["error"]) for name, row in results.items() if "error" in row])


test.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test function

if __name__ == "__main__":
    sys.exit(main())
