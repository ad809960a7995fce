"""Measures this project's GPU code and writes tables.

    python -m tests.bench.gpu OUT [STEP ...]

Needs one NVIDIA GPU, torch with Triton, mmengine 0.10.7, mmdet 3.3.0, mmcv-lite 2.1.0, pycocotools. No
compiled mmcv:
only the yardstick in the table of deformable attention is built from mmcv's source, if MMCV_SOURCE names it.
Every
step writes its results into OUT when it is done; a step that fails or takes too long leaves the others alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).with_name("config.py")
LIMIT_S = int(os.environ.get("BENCH_LIMIT", "240"))
DETERMINISTIC = ["randomness.deterministic=True"]
FAST = ["speed=True"]
BF16 = ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16"]
TF32 = ["tf32.matmul=True", "tf32.cudnn=True"]
# name: (iterations, options, iteration at which a profile begins)
TRAININGS = {
    "upstream": (60, DETERMINISTIC, -1),
    "fast": (60, DETERMINISTIC + FAST, -1),
    "upstream-plain": (40, [], 25),
    "fast-plain": (40, FAST, 25),
    "upstream-profile": (30, DETERMINISTIC, 20),
    "fast-profile": (30, DETERMINISTIC + FAST, 20),
    "fast-tf32": (40, FAST + TF32, -1),
    "fast-bf16": (40, FAST + TF32 + BF16, 25),
    "repeat-a": (200, DETERMINISTIC + FAST, -1),
    "repeat-b": (200, DETERMINISTIC + FAST, -1),
}


def run(argv: list[str], log: Path, **variables: str) -> tuple[int, float]:
    """Exit code and seconds of a command; its output goes to ``log``."""
    began = time.monotonic()
    with log.open("w") as stream:
        try:
            done = subprocess.run(
                argv,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                env={**os.environ, **variables},
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = 124
    return code, time.monotonic() - began


def configs() -> str:
    """The folder of mmdet's configurations, in its wheel."""
    found = importlib.util.find_spec("mmdet")
    if found is None or found.origin is None:
        raise SystemExit("mmdet is not installed")
    return str(Path(found.origin).parent / ".mim" / "configs")


def train(name: str, out: Path, scratch: Path) -> dict[str, Any]:
    """One training; its losses and times."""
    iterations, options, profile = TRAININGS[name]
    from tests.bench.gpu import data

    folder = scratch / f"data-{iterations}"
    if not (folder / "train.json").exists():
        data.write(folder, 2 * iterations)
    work = scratch / name
    argv = [
        sys.executable,
        "-m",
        "ddqjobs.detect.train",
        str(CONFIG),
        "--work-dir",
        str(work),
        "--cfg-options",
    ]
    argv += [
        "randomness.seed=7",
        "default_hooks.checkpoint.interval=-1",
        "default_hooks.checkpoint.save_last=False",
        *options,
    ]
    code, seconds = run(
        argv,
        scratch / f"{name}.log",
        BENCH_DATA=str(folder),
        BENCH_CONFIGS=configs(),
        BENCH_PROFILE=str(profile),
    )
    result: dict[str, Any] = {"code": code, "wall_s": seconds, "options": options}
    if code:
        result["tail"] = (scratch / f"{name}.log").read_text()[-3000:]
        return result
    result.update(json.loads((work / "bench.json").read_text()))
    rows = [json.loads(line) for line in next(work.glob("*/vis_data/scalars.json")).read_text().splitlines()]
    result["rows"] = rows
    result["peak_mib"] = max(row.get("memory", 0) for row in rows)  # mmengine starts a new peak at every log
    steady = sorted(result["seconds"][10:] if profile < 0 else result["seconds"][10 : profile - 1])
    result["median_s"] = steady[len(steady) // 2]
    return result


def values(row: dict[str, Any]) -> dict[str, Any]:
    """Losses and gradient norm of a logged iteration."""
    return {k: v for k, v in row.items() if "loss" in k or k == "grad_norm"}


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """First iteration that differs in any loss or gradient norm, to the last bit."""
    pairs = list(zip(a.get("rows", []), b.get("rows", [])))
    differ = [n + 1 for n, (x, y) in enumerate(pairs) if values(x) != values(y)]
    gap = [abs(x["loss"] - y["loss"]) / abs(x["loss"]) for x, y in pairs]
    return {
        "iterations": len(pairs),
        "first_difference": differ[0] if differ else None,
        "largest_loss_gap": max(gap, default=None),
    }


def main() -> None:
    """All steps, or those that are named."""
    out, steps = Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(os.environ.get("BENCH_SCRATCH", str(out / "scratch"))).absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for step in steps or ["checks", "attention", *TRAININGS]:
        if step in TRAININGS:
            results[step] = train(step, out, scratch)
            brief = {k: v for k, v in results[step].items() if k not in ("rows", "seconds", "profile")}
            print(step, json.dumps(brief), flush=True)
            print(
                json.dumps(
                    {
                        k: v
                        for k, v in results[step].get("profile", {}).items()
                        if k not in ("kernels", "operators")
                    }
                ),
                flush=True,
            )
        else:
            code, seconds = run(
                [sys.executable, "-m", f"tests.bench.gpu.{step}", str(out / f"{step}.json")],
                out / f"{step}.log",
            )
            print(step, code, f"{seconds:.0f} s", (out / f"{step}.log").read_text()[-2500:], flush=True)
        for one, two in (("upstream", "fast"), ("repeat-a", "repeat-b"), ("upstream-plain", "fast-plain")):
            if step == two and one in results:
                results[f"{one} against {two}"] = compare(results[one], results[two])
                print(one, two, json.dumps(results[f"{one} against {two}"]), flush=True)
        (out / "trainings.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
