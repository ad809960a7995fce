"""Trains two iterations of DDQ DETR-4scale R-50 at full size, and prints one JSON object.

    python -m tests.bench.gpu.two_iterations FOLDER [OPTION ...]

In an environment with compiled mmcv its operators are used. OPTIONs are those of ``--cfg-options``: on a CPU,
``train_dataloader.dataset.pipeline.3.scale="(333,200)"``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.bench.gpu import __main__ as bench
from tests.bench.gpu import data, verdict


def main(folder: Path, options: list[str]) -> int:
    """Exit code of the training, 1 if it is not whole; its log goes to FOLDER/log, FOLDER/work is made
    anew."""
    data.write(folder / "data", 4)
    shutil.rmtree(folder / "work", ignore_errors=True)
    argv = [
        sys.executable,
        "-m",
        "ddqjobs.detect.train",
        str(bench.CONFIG),
        "--work-dir",
        str(folder / "work"),
    ]
    argv += ["--cfg-options", "randomness.seed=7", "default_hooks.checkpoint.interval=-1"]
    argv += ["default_hooks.checkpoint.save_last=False", *options]
    log = folder / "log"
    variables = {"BENCH_DATA": str(folder / "data"), **bench.configs()}
    code, seconds = bench.run(argv, log, **variables)
    if code:
        print(log.read_text()[-3000:], file=sys.stderr)
        return code
    keys = ("loss", "grad_norm", "memory", "time")
    try:
        rows = verdict.scalars(folder / "work")
        measured = json.loads((folder / "work" / "bench.json").read_text())
    except (OSError, ValueError) as error:
        return verdict.end([("two iterations", str(error))])
    if wrong := bench.incomplete({"rows": rows, **measured}, 2, -1):
        return verdict.end([("two iterations", wrong)])
    iterations = [{k: v for k, v in row.items() if k in keys} for row in rows]
    print(json.dumps({"wall_s": round(seconds, 1), "iterations": iterations, **measured}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
