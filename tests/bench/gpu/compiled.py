"""A training iteration of the fast detector with parts compiled by torch.compile, beside the plain one.

    python -m tests.bench.gpu.compiled OUT.json [PART ...]

Exit code 1, with a line on stderr for each, if a part failed; compiled parts need not be bit-equal.

DDQ DETR-4scale R-50, ``speed=True``, two images of 1333x800 with seven boxes each, always the same ones,
float32 with torch's defaults (TF32 in cuDNN's convolutions, not in matrix products). PART is ``none``,
``backbone``, ``neck``, ``encoder`` (its layers' networks) or ``dynamic`` (the backbone, for sizes that vary;
the images are the same two there). Each starts from the same weights; the losses of the
first iteration say what compiling changes.
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

WARM, REPEATS, BOXES = 4, 16, 7


def batch(size: tuple[int, int], device: str) -> dict[str, Any]:
    """Two images with their boxes, from one seed."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    draw = torch.Generator().manual_seed(1)
    known = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    images, samples = [], []
    for number in range(2):
        images.append(torch.randint(0, 256, (3, *size), generator=draw, dtype=torch.uint8))
        low = torch.rand(BOXES, 2, generator=draw) * 0.6
        far = low + 0.05 + torch.rand(BOXES, 2, generator=draw) * 0.3
        scale = torch.tensor([size[1], size[0]] * 2)
        labels = torch.randint(0, 80, (BOXES,), generator=draw)
        sample = DetDataSample(metainfo={"img_id": number, **known})
        sample.gt_instances = InstanceData(bboxes=torch.cat([low, far], 1) * scale, labels=labels).to(device)
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def compile_part(model: Any, part: str) -> None:
    """Compile a part of the model in place."""
    if part == "encoder":
        for layer in model.encoder.layers:
            layer.ffn.compile()
    elif part == "dynamic":
        model.backbone.compile(dynamic=True)
    elif part != "none":
        getattr(model, part).compile()


def measure(part: str) -> dict[str, Any]:
    """Seconds until the first iteration's end, median seconds of the later ones, the first losses."""
    from mmengine.optim import build_optim_wrapper

    cfg = runtime.load_config(str(CONFIG), [*tiny_options(), "speed=True"])
    numerics.prepare(cfg)
    torch.manual_seed(7)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = runtime.build_model(cfg)
    model.init_weights()
    model.to(device).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    compile_part(model, part)
    data = batch((800, 1333) if not tiny_options() else (120, 200), device)
    seconds, losses = [], []
    for _ in range(WARM + REPEATS if not tiny_options() else 2):
        _wait()
        began = time.perf_counter()
        torch.manual_seed(3)
        outputs = model.train_step(data, optimizer)
        _wait()
        seconds.append(time.perf_counter() - began)
        losses.append(float(outputs["loss"]))
    steady = seconds[WARM:] or seconds[1:]
    return {"first_s": seconds[0], "s": statistics.median(steady), "loss": losses[0], "last_loss": losses[-1]}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    """All parts, or those that are named; one that fails leaves the others alone. The exit code."""
    runtime.set_up()
    Path(sys.argv[1]).unlink(missing_ok=True)
    results: dict[str, Any] = {}
    for part in sys.argv[2:] or ["none", "backbone", "neck", "encoder", "dynamic"]:
        torch._dynamo.reset()
        try:
            results[part] = measure(part)
        except Exception as error:
            results[part] = {"error": f"{type(error).__name__}: {error}"[-1500:]}
        print(part, json.dumps(results[part]), flush=True)
        Path(sys.argv[1]).write_text(json.dumps(results, indent=1))
    return verdict.end([(part, row["error"]) for part, row in results.items() if "error" in row])


if __name__ == "__main__":
    sys.exit(main())
