"""The page of 200 trainings of 90,000 logged iterations each, and what one such log costs the job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ddqjobs.detect.job import logs
from tests.support.paper import a_log, make

ITERATIONS = 90_000
Row = tuple[str, float, float, float, str, str]
Measure = Callable[[Sequence[str], Path, int], tuple[float, float, float]]
THIN = """
import json, sys
from ddqjobs.detect.job import curves, logs
json.dumps(curves.thin(logs.read(sys.argv[1])))
"""


def measure(root: Path, bare: float, middle: Measure) -> list[Row]:
    """Rows of the table: two shapes of 200 trainings, then the job's side."""
    rows = []
    for models, seeds in ((20, 5), (100, 1)):
        folder = root / f"paper-{models}-{seeds}"
        make(folder, models=models, seeds=seeds, rows=ITERATIONS, distinct=2)
        page = folder / "page.html"
        argv = [sys.executable, "-m", "ddqjobs", "report", "paper", "-f", "html", "-o", str(page)]
        figures = middle(argv, folder, 1)
        title = f"HTML page, 200 trainings of {ITERATIONS:,} iterations, {models} models"
        size = page.stat().st_size / 1e6
        rows.append((f"{title}: {size:.1f} MB", *figures, f"{figures[0] / bare:.2f}", "wall < 20 s, < 8 MB"))
    log = root / "log.jsonl"
    log.write_text(logs.to_lines(a_log(ITERATIONS, 1)))
    figures = middle([sys.executable, "-c", THIN, str(log)], Path.cwd(), 1)
    title = f"one log of {ITERATIONS:,} iterations, {log.stat().st_size / 1e6:.0f} MB, thinned by its job"
    rows.append((title, *figures, f"{figures[0] / bare:.2f}", ""))
    return rows
