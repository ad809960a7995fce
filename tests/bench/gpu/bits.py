"""DDQ DETR, FCN and R-CNN on one GPU, each twice and through a kill, compared bit by bit:

    python -m tests.bench.gpu.bits OUT [SECONDS [ITERATIONS [RUN ...]]]

200 iterations if not said otherwise; a RUN is FAMILY-first, -again or -killed, all nine if none is named.
Each goes through ``ddqjobs submit`` on the local site, in a project of its own, and all at the same time, so
nothing is timed. Two images per batch, of eleven sizes by chance (the shorter edge 480 to 800), so most
batches are padded; one image in four has no box; ``speed=True``, deterministic, seed 7.

Exit code 1, with a line on stderr for each, if a training failed or is not bit-equal to its family's first.
``BENCH_TINY=1`` is the rehearsal on a machine without GPUs.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.gpu import session, several, verdict

FAMILIES = ("detr", "fcn", "rcnn")
RUNS = tuple(f"{family}-{way}" for way in ("first", "again", "killed") for family in FAMILIES)
SCALES = [(edge, 1333) for edge in range(480, 801, 32)]
TINY_SCALES = [(edge, 200) for edge in (64, 96, 120)]


class Bits(several.Several):
    """The project of one training."""

    resize = f"""dict(type="RandomChoiceResize", scales={TINY_SCALES if session.tiny() else SCALES},
        keep_ratio=True)"""
    iterations_each = 200

    def expected(self, run: str) -> int:
        """Return the number of iterations of a run."""
        return several.TINY if session.tiny() else self.iterations_each


def train(project: Bits, run: str) -> dict[str, Any]:
    """Train one run; where it was killed and went on from, if that was its way. Raises RuntimeError."""
    project.prepare()
    if run.endswith("killed"):
        return project.interrupted(run)
    project.submit(run)
    return {"iterations": project.expected(run)}


def main() -> int:
    """All runs at once; the exit code."""
    argv = dict(enumerate(sys.argv))
    out, seconds = Path(argv[1]).absolute(), float(argv.get(2, 560))
    Bits.iterations_each = int(argv.get(3, 200))
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update({k: v for k, v in session.variables().items() if k.startswith("BENCH_")})
    projects = {run: Bits(out, seconds, 1, run) for run in sys.argv[4:] or RUNS}
    results: dict[str, Any] = {}
    with ThreadPoolExecutor(len(projects)) as pool:
        futures = {run: pool.submit(train, project, run) for run, project in projects.items()}
        for run, future in futures.items():
            try:
                results[run] = future.result()
            except Exception as error:  # the others are worth as much
                results[run] = {"error": f"{type(error).__name__}: {error}"[-3000:]}
    for run, project in projects.items():
        first = f"{run.split('-')[0]}-first"
        if run != first and not {"error"} & (results[run].keys() | results.get(first, {"error": ""}).keys()):
            results[f"{run} against {first}"] = several.compare(projects[first], first, project, run)
    print(json.dumps(results, indent=1), flush=True)
    (out / "bits.json").write_text(json.dumps(results, indent=1))
    return verdict.end([(run, why) for run, value in results.items() for why in _wrong(value)])


def _wrong(value: dict[str, Any]) -> list[str]:
    if "error" in value:
        return [value["error"]]
    return ["not bit-equal"] if value.get("bit_equal", True) is not True else []


if __name__ == "__main__":
    sys.exit(main())
