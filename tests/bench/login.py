"""``python -m tests.bench.login``: the budget of a login node, one core and 2 GiB, for what runs there.

`plan`, `status`, `report` and its page of 10,000 runs, and AP of COCO's val split recomputed. A command that
used several cores would show as CPU seconds beyond its wall seconds, on a machine with little other work.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ddqjobs.report.cache import _variables
from tests.bench import evaluation, large
from tests.bench.endings import Row
from tests.support.trivial import end_of, fork

CORES, MIB = 1.1, 2048  # a tenth for the kernel's work on behalf of a process


def _make(project: Path, split: Path) -> None:
    large.make(project)
    evaluation.make(split)
    (split / "config.py").write_text("")


def main() -> None:
    """Measure and print. Raise SystemExit for what is beyond the budget."""
    from tests.bench.__main__ import DDQJOBS, cost, print_table

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        project, split = Path(folder, "large"), Path(folder, "split")
        split.mkdir()
        if end_of(fork(lambda: _make(project, split))):  # a child's peak begins with that of its parent
            raise SystemExit(1)
        count = 2 * large.MODELS * large.SEEDS
        program = Path(evaluation.recompute.__file__)
        predictions = ["predictions.npz", "--config", ".", "--annotations", "instances.json"]
        os.environ.update(_variables(Path(sys.executable)))
        for title, argv, place in (
            (f"plan, {count} runs", [*DDQJOBS, "plan"], project),
            (f"status, {count} runs", [*DDQJOBS, "status"], project),
            (f"report, {count} runs", [*DDQJOBS, "report"], project),
            (f"report's page, {count} runs", [*DDQJOBS, "report", "-f", "html", "-o", "page.html"], project),
            ("recompute, 5,000 images", [sys.executable, str(program), *predictions], split),
        ):
            cpu, wall, mib = cost(argv, place)
            rows.append((title, cpu, wall, mib, f"{cpu / wall:.2f}", "cores <= 1, < 2 GiB"))
    print_table(rows)
    beyond = [title for title, _, _, mib, cores, _ in rows if float(cores) > CORES or mib > MIB]
    if beyond:
        raise SystemExit(f"beyond the budget of a login node: {', '.join(beyond)}")


if __name__ == "__main__":
    main()
