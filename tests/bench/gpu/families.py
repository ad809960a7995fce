"""Repeatability of each of DDQ's models on this GPU, at full size, and the time of an iteration.

    python -m tests.bench.gpu.families OUT.json [ITERATIONS [NAME ...]]

``ddqjobs.detect.align repeat`` with ``randomness.deterministic=True``: an operator without a deterministic
form stops a training, and its name is in the result. Two images of 1333x800 and seven boxes each, random
weights, seed 7. ``BENCH_TINY=1`` is the rehearsal on a machine without a GPU. Exit code 1, with a line on
stderr for each, if a model's trainings failed, were too short or are not bit-equal.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from ddqjobs.detect.job import logs
from tests.bench.gpu import __main__ as bench
from tests.bench.gpu import data, verdict

REPO = Path(__file__).resolve().parents[3]
OURS = REPO / "experiments" / "configs" / "ddq"
MMDET = Path(bench.configs().get("BENCH_CONFIGS", "")) / "ddq"
FAMILIES = {
    "fcn": OURS / "ddq-fcn_r50_8xb2-12e_coco.py",
    "rcnn": OURS / "ddq-rcnn_r50_8xb2-12e_coco.py",
    "detr-5scale": MMDET / "ddq-detr-5scale_r50_8xb2-12e_coco.py",
    "detr-swin": MMDET / "ddq-detr-4scale_swinl_8xb2-30e_coco.py",
}
SIZE = "(333,200)" if os.environ.get("BENCH_TINY") else "(1333,800)"


_TRAINING = """
_base_ = {base!r}
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale={size}, keep_ratio=True),
    dict(type="PackDetInputs"),
]
model = dict(backbone=dict(init_cfg=None))
dataset = dict(
    _delete_=True, type="CocoDataset", data_root={folder!r}, ann_file="train.json", data_prefix=dict(img="")
)
train_dataloader = dict(batch_size=2, num_workers=4, dataset=dict(pipeline=pipeline, **dataset))
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=-1, save_last=False))
randomness = dict(seed=7, deterministic=True)
speed = {speed}
"""


def configuration(name: str, folder: Path) -> str:
    """A model's own configuration, training on the data in ``folder``."""
    speed = name.startswith("detr")
    return _TRAINING.format(base=str(FAMILIES[name]), size=SIZE, folder=f"{folder}/", speed=speed)


_MEASURED = """
default_hooks["logger"] = dict(type="LoggerHook", interval=1)
log_processor = dict(type="LogProcessor", window_size=1, by_epoch=True)
custom_imports = dict(imports=["ddqjobs.detect.models", "tests.bench.gpu.hooks"])
custom_hooks = [dict(type="BenchHook")]
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=1, val_interval=1000)
"""


def measured(name: str, folder: Path) -> str:
    """A model's configuration for one epoch that logs each iteration and its time."""
    return configuration(name, folder) + _MEASURED


def repeat(name: str, iterations: int, scratch: Path) -> dict[str, Any]:
    """Both trainings of a model: equal or not; seconds and MiB of the first. ``error`` says what is wrong."""
    config, work, target = scratch / f"{name}.py", scratch / name, scratch / f"{name}.json"
    shutil.rmtree(work, ignore_errors=True)
    target.unlink(missing_ok=True)
    config.write_text(configuration(name, scratch / "data"))
    argv = [sys.executable, "-m", "ddqjobs.detect.align", "repeat", str(config)]
    argv += ["--iterations", str(iterations), "--work-dir", str(work), "--out", str(target)]
    code, seconds = bench.run(argv, scratch / f"{name}.log")
    result: dict[str, Any] = {"code": code, "wall_s": round(seconds, 1)}
    text = (scratch / f"{name}.log").read_text()
    if code:
        return {**result, "error": f"exit code {code}: {text}"[-2500:], "tail": text[-2500:]}
    try:
        report = json.loads(target.read_text())
        result.update(bit_equal=report["bit_equal"], terms=len(report["terms"]), **report["metrics"])
        rows = logs.read(work / "first").train
        steady = rows[len(rows) // 2 :]
        result["s"] = statistics.median(row.values["time"] for row in steady)
        result["peak MiB"] = max(row.values.get("memory", 0) for row in rows)
    except (OSError, ValueError, KeyError, statistics.StatisticsError) as error:
        result["error"], result["tail"] = f"{type(error).__name__}: {error}", text[-2500:]
        return result
    if wrong := judge(report, iterations):
        result["error"] = wrong
    return result


def judge(report: dict[str, Any], iterations: int) -> str:
    """Describe the fault of a result of ``align repeat``; empty if the trainings repeat in full."""
    counts = [report["metrics"]["iterations"], report["a"]["iterations"], report["b"]["iterations"]]
    if counts != [iterations] * 3:
        return f"{counts[0]} iterations compared of {counts[1]} and {counts[2]}, not {iterations}"
    first = report["metrics"]["first_difference"]
    return "" if report["bit_equal"] is True else f"not bit-equal, first difference at iteration {first}"


def main() -> int:
    """All models, or those that are named; a failure is a result too. The exit code."""
    out, arguments = Path(sys.argv[1]).absolute(), sys.argv[2:]
    iterations, names = int(arguments[0]) if arguments else 50, arguments[1:] or list(FAMILIES)
    scratch = Path(os.environ.get("BENCH_SCRATCH", str(out.parent / "scratch"))).absolute() / "families"
    scratch.mkdir(parents=True, exist_ok=True)
    data.write(scratch / "data", 2 * (iterations + 1))
    results: dict[str, Any] = {}
    out.unlink(missing_ok=True)
    for name in names:
        results[name] = repeat(name, iterations, scratch)
        print(name, json.dumps(results[name]), flush=True)
        out.write_text(json.dumps(results, indent=1))
    return verdict.end([(name, row["error"]) for name, row in results.items() if "error" in row])


if __name__ == "__main__":
    sys.exit(main())
