"""One ``status`` after thousands of queued runs were cancelled, as a user does it on the local site.

python -m tests.bench.endings [RUNS ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ddqjobs.project import open_project
from ddqjobs.spec.model import Status

Row = tuple[str, float, float, float, str, str]
Measure = Callable[[Sequence[str], Path], tuple[float, float, float]]
LIMITS = {10_000: "wall <= 5 s", 50_000: "wall <= 25 s, < 300 MB"}
_DDQJOBS = [sys.executable, "-m", "ddqjobs"]
_EXPERIMENT = """
name: ended
implementations: {{}}
models: {{}}
codes: {{shell: {{commands: {{prepare: [sh, -c, "sleep 1000 # {{seed}}"]}}}}}}
resources: {{cpus: 1}}
tasks:
  t: {{kind: prepare, once: true, code: shell, products: {{out: out.txt}}, seeds: [{seeds}]}}
"""
_SITE = "base: local\nname: local\ngrace: 0s\nlocal: {cpus: 1}\n"


def write(root: Path, runs: int) -> None:
    """Write the project of that many runs, none of which is submitted yet."""
    for relative, text in (
        ("experiments/ended.yaml", _EXPERIMENT.format(seeds=", ".join(map(str, range(runs))))),
        ("templates/local/site.yaml", _SITE),
    ):
        (root / relative).parent.mkdir(parents=True)
        (root / relative).write_text(text)


def make(root: Path, runs: int) -> None:
    """Submit that many runs, of which one starts, cancel them, and wait until the queue has let go of all."""
    write(root, runs)
    for arguments in (["submit"], ["cancel", "--yes"]):
        subprocess.run([*_DDQJOBS, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)
    time.sleep(3)  # the one that ran


def measure(root: Path, bare: float, cost: Measure, sizes: Sequence[int] = tuple(LIMITS)) -> list[Row]:
    """Rows of the table."""
    rows = []
    for runs in sizes:
        folder = root / f"ended-{runs}"
        make(folder, runs)
        figures = cost([*_DDQJOBS, "status"], folder)
        active_runs = [
            planned
            for planned in open_project(folder).plan(refresh=False).runs
            if planned.status is Status.ACTIVE
        ]
        if active_runs:
            raise SystemExit(f"{len(active_runs)} of {runs} runs have not ended")
        title = f"status after the end of {runs:,} queued runs"
        rows.append((title, *figures, f"{figures[0] / bare:.2f}", LIMITS.get(runs, "")))
    return rows


def main() -> None:
    """Measures and prints."""
    from tests.bench.__main__ import cost, print_table

    sizes = tuple(int(word) for word in sys.argv[1:]) or tuple(LIMITS)
    with tempfile.TemporaryDirectory() as folder:
        print_table(measure(Path(folder), 1.0, cost, sizes))


if __name__ == "__main__":
    main()
