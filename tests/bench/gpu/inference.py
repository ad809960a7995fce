"""Inference of one image at full size, mmdet's detector and the fast one.

    python -m tests.bench.gpu.inference OUT.json

Random weights of one seed, 1333x800; milliseconds from the decoded image to boxes on the GPU. Exit
code 1, with a line on stderr, if the two do not find the same boxes and scores to the last bit.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ddqjobs.detect import runtime
from ddqjobs.detect.training import numerics
from tests.bench.gpu import verdict
from tests.bench.gpu.session import CONFIG, tiny_options

REPEATS = 20


def measure(options: list[str], size: tuple[int, int]) -> tuple[float, Any]:
    """Median milliseconds, and the boxes and scores found."""
    cfg = runtime.load_config(str(CONFIG), options)
    numerics.prepare(cfg)
    torch.manual_seed(7)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = runtime.build_model(cfg)
    model.init_weights()  # else some weights are what the memory held, which may be no number
    model = model.to(device).eval()
    from mmdet.structures import DetDataSample

    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    known = {"img_id": 1, "img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    times = []
    with torch.no_grad():
        for _ in range(3 + REPEATS):
            _wait()
            began = time.perf_counter()
            predictions = model.test_step(
                {"inputs": [image], "data_samples": [DetDataSample(metainfo=known)]}
            )
            _wait()
            times.append(1000 * (time.perf_counter() - began))
    boxes = predictions[0].pred_instances
    return statistics.median(times[3:]), (boxes.bboxes.cpu(), boxes.scores.cpu())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    """Both, and whether they find the same. The exit code."""
    Path(sys.argv[1]).unlink(missing_ok=True)
    runtime.set_up()
    size = (800, 1333) if not tiny_options() else (120, 200)
    plain, predictions = measure(tiny_options(), size)
    fast, again = measure([*tiny_options(), "speed=True"], size)
    result = {
        "mmdet ms": plain,
        "speed=True ms": fast,
        "ratio": fast / plain,
        "bit-equal": all(torch.equal(a, b) for a, b in zip(predictions, again)),
        "boxes": len(predictions[0]),
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    return verdict.end([] if result["bit-equal"] else [("inference", "not bit-equal")])


if __name__ == "__main__":
    sys.exit(main())
