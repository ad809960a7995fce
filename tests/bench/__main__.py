"""``python -m tests.bench``: what the command line costs, each beside a bare reference of the same run."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ddqjobs.base.text import format_table
from tests.bench import endings, large, pages, trainings
from tests.bench.endings import Row

REPEATS = 9
TYPER = """
import typer
app = typer.Typer()
@app.command()
def one(number: int = 1) -> None: "The first."
@app.command()
def two(text: str = "a") -> None: "The second."
app()
"""
DDQJOBS = [sys.executable, "-m", "ddqjobs"]


def cost(argv: Sequence[str], cwd: Path) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, peak MiB) of a command. Raises SystemExit if it fails."""
    before = os.times()
    pid = os.posix_spawn(argv[0], list(argv), dict(os.environ), file_actions=_quiet(cwd))
    _, status, used = os.wait4(pid, 0)
    wall = os.times().elapsed - before.elapsed
    if status != 0:
        raise SystemExit(f"{argv} failed in {cwd}")
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024


def _quiet(cwd: Path) -> list[tuple[int, ...] | tuple[int, int, str, int, int]]:
    os.chdir(cwd)  # posix_spawn has no working directory
    return [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]


def middle(argv: Sequence[str], cwd: Path, repeats: int = REPEATS) -> tuple[float, float, float]:
    """Medians of several runs."""
    costs = [cost(argv, cwd) for _ in range(repeats)]
    return tuple(statistics.median(c[i] for c in costs) for i in range(3))  # type: ignore[return-value]


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "two.py").write_text(TYPER)
        project = root / "large"
        count = large.make(project)
        bare = middle([sys.executable, str(root / "two.py"), "--help"], root)
        rows = [("two-command Typer app --help", *bare, "1.0", "")]
        for title, arguments, repeats, limit in (
            ("ddqjobs --help", ["--help"], REPEATS, "ratio <= 1.25"),
            (f"plan, {count} runs", ["plan"], REPEATS, "CPU < 1.0 s"),
            (f"status, {count} runs", ["status"], REPEATS, "CPU < 1.0 s"),
            (f"report, {count} runs, first time", ["report"], 1, "CPU < 5 s"),
            (f"report, {count} runs, again", ["report"], REPEATS, "CPU < 1.5 s"),
        ):
            figures = middle([*DDQJOBS, *arguments], project, repeats)
            rows.append((title, *figures, f"{figures[0] / bare[0]:.2f}", limit))
        completing = ["_DDQJOBS_COMPLETE=complete_bash", "COMP_WORDS=ddqjobs plan large ", "COMP_CWORD=3"]
        program = str(Path(sys.executable).with_name("ddqjobs"))
        figures = middle(["/usr/bin/env", *completing, program], project)
        rows.append((f"completion of {count} runs", *figures, f"{figures[0] / bare[0]:.2f}", "ratio <= 3"))
        rows += _before_submission(root, completing, program, bare[0])
        rows += trainings.measure(root, bare[0], middle)
        rows += pages.measure(root, bare[0], cost)
        rows += endings.measure(root, bare[0], cost)
        print_table(rows)


def _before_submission(root: Path, completing: list[str], program: str, bare: float) -> list[Row]:
    """Return what completion costs where nothing was submitted: the first time, and from then on."""
    (new := root / "new").mkdir()
    completing = [word.replace("large", "ddq") for word in completing]
    argv = ["/usr/bin/env", f"XDG_CACHE_HOME={new}", *completing, program]
    first, again = middle(argv, new, 1), middle(argv, new)
    return [
        ("completion of ddq before a submission, first time", *first, f"{first[0] / bare:.2f}", "ratio <= 3"),
        ("completion of ddq before a submission, again", *again, f"{again[0] / bare:.2f}", "ratio <= 3"),
    ]


def print_table(rows: Sequence[tuple[str, float, float, float, str, str]]) -> None:
    """CPU and wall milliseconds, memory, ratio of CPU to the bare reference."""
    lines = [(t, f"{c * 1e3:.0f}", f"{w * 1e3:.0f}", f"{m:.0f}", r, limit) for t, c, w, m, r, limit in rows]
    print(format_table(("WHAT", "CPU ms", "WALL ms", "MiB", "RATIO", "WANTED"), lines, align="lrrrrl"))
    print(f"memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
