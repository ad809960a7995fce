"""Measures this project's GPU code and writes tables.

    python -m tests.bench.gpu OUT [STEP ...]

Needs one NVIDIA GPU, torch with Triton, mmengine 0.10.7, mmdet 3.3.0, mmcv-lite 2.1.0, pycocotools. No
compiled mmcv:
only the yardstick in the table of deformable attention is built from mmcv's source, if MMCV_SOURCE names it.
Every
step writes its results into OUT when it is done; a step that fails or takes too long leaves the others alone.
Exit code 1, with a line on stderr for each, if a step failed or two trainings are not bit-equal that should
be.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.gpu import verdict

CONFIG = Path(__file__).with_name("config.py")
REPO = Path(__file__).resolve().parents[3]
LIMIT_S = int(os.environ.get("BENCH_LIMIT", "240"))
DETERMINISTIC = ["randomness.deterministic=True"]
FAST = ["speed=True"]
BF16 = ["optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16"]
TF32 = ["tf32.matmul=True", "tf32.cudnn=True"]
FUSED = ["optim_wrapper.optimizer.fused=True"]  # AdamW as one kernel, which rounds otherwise
# name: (iterations, options, iteration at which a profile begins). Those of DDQ FCN and DDQ R-CNN: config_of.
TRAININGS = {
    "upstream": (36, DETERMINISTIC, 30),
    "fast": (36, DETERMINISTIC + FAST, 30),
    "fast-tf32": (36, DETERMINISTIC + FAST + TF32, -1),
    "fast-fused": (36, DETERMINISTIC + FAST + TF32 + FUSED, 30),
    "upstream-free": (30, [], 24),
    "fast-free": (30, FAST, 24),
    "fast-free-fused": (30, FAST + TF32 + FUSED, 24),
    "fast-bf16": (30, FAST + TF32 + BF16, 24),
    "fcn-plain": (36, DETERMINISTIC, 30),
    "fcn-fast": (36, DETERMINISTIC + FAST, 30),
    "fcn-plain-free": (30, [], 24),
    "fcn-fast-free": (30, FAST, 24),
    "rcnn-plain": (36, DETERMINISTIC, 30),
    "rcnn-fast": (36, DETERMINISTIC + FAST, 30),
    "rcnn-plain-free": (30, [], 24),
    "rcnn-fast-free": (30, FAST, 24),
    "repeat-a": (200, DETERMINISTIC + FAST, -1),
    "repeat-b": (200, DETERMINISTIC + FAST, -1),
}
# Two trainings of one length, and whether they should be bit-equal: not where options change bits, or where
# one is free to add up in any order.
PAIRS = {
    ("upstream", "fast"): True,
    ("upstream", "fast-tf32"): False,
    ("upstream", "fast-fused"): False,
    ("upstream-free", "fast-free"): False,
    ("fcn-plain", "fcn-fast"): True,
    ("fcn-plain-free", "fcn-fast-free"): False,
    ("rcnn-plain", "rcnn-fast"): True,
    ("rcnn-plain-free", "rcnn-fast-free"): False,
    ("repeat-a", "repeat-b"): True,
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


def configs() -> dict[str, str]:
    """Return BENCH_CONFIGS, the folder of configurations in mmdet's wheel; nothing where mmdet is missing."""
    spec = importlib.util.find_spec("mmdet")
    if spec is None or spec.origin is None:
        return {}
    return {"BENCH_CONFIGS": str(Path(spec.origin).parent / ".mim" / "configs")}


def config_of(name: str, scratch: Path, data: Path) -> Path:
    """Return the configuration of a training: DDQ DETR's, or one written for another family."""
    family = name.partition("-")[0]
    if family not in ("fcn", "rcnn"):
        return CONFIG
    from tests.bench.gpu import families

    written = scratch / f"{family}.py"
    written.write_text(families.measured(family, data))
    return written


def train(name: str, out: Path, scratch: Path) -> dict[str, Any]:
    """One training, in a fresh work folder; its losses and times. ``error`` says why it is none."""
    iterations, options, profile = TRAININGS[name]
    from tests.bench.gpu import data

    folder = scratch / f"data-{iterations}"
    if not (folder / "train.json").exists():
        data.write(folder, 2 * iterations)
    work = scratch / name
    shutil.rmtree(work, ignore_errors=True)
    argv = [
        sys.executable,
        "-m",
        "ddqjobs.detect.train",
        str(config_of(name, scratch, folder)),
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
        **configs(),
        BENCH_PROFILE=str(profile),
    )
    result: dict[str, Any] = {"code": code, "wall_s": seconds, "options": options}
    if code:
        result["tail"] = (scratch / f"{name}.log").read_text()[-3000:]
        result["error"] = f"exit code {code}: {result['tail']}"
        return result
    try:
        result.update(json.loads((work / "bench.json").read_text()))
        result["rows"] = verdict.scalars(work)
    except (OSError, ValueError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
        return result
    if wrong := incomplete(result, iterations, profile):
        result["error"] = wrong
        return result
    # mmengine starts a new peak at every log
    result["peak_mib"] = max(row.get("memory", 0) for row in result["rows"])
    # ``seconds`` begins with iteration 2: from iteration 12 to the last, or to the last before a profile.
    result["median_s"] = statistics.median(result["seconds"][10 : None if profile < 0 else profile - 1])
    return result


def incomplete(result: dict[str, Any], iterations: int, profile: int) -> str:
    """Name what the result of a training that ended well lacks; empty if it is complete."""
    rows, seconds = len(result["rows"]), len(result.get("seconds", []))
    if rows != iterations or seconds != iterations - 1:
        return f"{rows} iterations logged and {seconds} timed, of {iterations}"
    if not all("loss" in row for row in result["rows"]):
        return "an iteration without its loss"
    return "no profile" if profile >= 0 and not result.get("profile") else ""


def values(row: dict[str, Any]) -> dict[str, Any]:
    """Losses and gradient norm of a logged iteration."""
    return {k: v for k, v in row.items() if "loss" in k or k == "grad_norm"}


def compare(a: dict[str, Any], b: dict[str, Any], expected: int) -> dict[str, Any]:
    """First iteration that differs in any loss or gradient norm, to the last bit. ``bit_equal`` only if both
    trainings ended well and have ``expected`` iterations; ``incomplete`` says why they are not compared."""
    codes, rows = [x.get("code") for x in (a, b)], [x.get("rows", []) for x in (a, b)]
    comparison: dict[str, Any] = {"codes": codes, "iterations": [len(r) for r in rows], "expected": expected}
    missing = [f"exit codes {codes[0]} and {codes[1]}"] if codes != [0, 0] else []
    if comparison["iterations"] != [expected, expected]:
        missing.append(f"{len(rows[0])} and {len(rows[1])} iterations of {expected}")
    if not all("loss" in row for side in rows for row in side):
        missing.append("an iteration without its loss")
    if missing or not expected:
        return {**comparison, "bit_equal": False, "incomplete": "; ".join(missing) or "nothing to compare"}
    pairs = list(zip(*rows))
    differ = [n + 1 for n, (x, y) in enumerate(pairs) if values(x) != values(y)]
    return {
        **comparison,
        "bit_equal": not differ,
        "first_difference": differ[0] if differ else None,
        "largest_loss_gap": max(abs(x["loss"] - y["loss"]) / abs(x["loss"] or 1.0) for x, y in pairs),
    }


def judge(compared: dict[str, Any], should: bool) -> str:
    """Describe the fault of a comparison of two trainings; if ``should``, they must be bit-equal."""
    if "incomplete" in compared:
        return f"not compared: {compared['incomplete']}"
    differs = should and not compared["bit_equal"]
    return f"differ from iteration {compared['first_difference']}" if differs else ""


def main() -> int:
    """All steps, or those that are named; the exit code."""
    out, steps = Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(os.environ.get("BENCH_SCRATCH", str(out / "scratch"))).absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for step in steps or ["checks", "attention", *TRAININGS]:
        if step in TRAININGS:
            results[step] = train(step, out, scratch)
            if "error" in results[step]:
                problems.append((step, results[step]["error"]))
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
            (out / f"{step}.json").unlink(missing_ok=True)
            code, seconds = run(
                [sys.executable, "-m", f"tests.bench.gpu.{step}", str(out / f"{step}.json")],
                out / f"{step}.log",
                **configs(),
                BENCH_REPO=str(REPO),
            )
            print(step, code, f"{seconds:.0f} s", (out / f"{step}.log").read_text()[-2500:], flush=True)
            if code or not (out / f"{step}.json").exists():
                why = f"exit code {code}" if code else "no result"
                problems.append((step, f"{why}: {(out / f'{step}.log').read_text()}"))
        for (one, two), should in PAIRS.items():
            if step in (one, two) and one in results and two in results:
                compared = compare(results[one], results[two], TRAININGS[two][0])
                results[f"{one} against {two}"] = compared
                print(one, two, json.dumps(compared), flush=True)
                if wrong := judge(compared, should):
                    problems.append((f"{one} against {two}", wrong))
        (out / "trainings.json").write_text(json.dumps(results, indent=1))
    return verdict.end(problems)


if __name__ == "__main__":
    sys.exit(main())
