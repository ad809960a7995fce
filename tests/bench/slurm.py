"""``python -m tests.bench.slurm``: Slurm through ddqjobs, beside Slurm alone, on a virtual cluster.

Root only, since virtual nodes are namespaces. All jobs are held: nothing runs while it is measured.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ddqjobs.base.text import format_table
from tests.bench.large import experiment

LAB = Path(__file__).resolve().parents[1] / "labs" / "slurm"
RUNS, MANY = 1_000, 10_000
SUBMITIT = """
import submitit
executor = submitit.AutoExecutor(folder="submitit-log")
executor.update_parameters(
    slurm_partition="gpu", timeout_min=60, slurm_array_parallelism=1000,
    slurm_additional_parameters={"hold": True},
)
executor.map_array(abs, range(1000))
"""
SCRIPT = "#!/bin/sh\n#SBATCH --hold\n#SBATCH --partition=gpu\n#SBATCH --output=/dev/null\ntrue\n"


def run(argv: Sequence[str], cwd: Path) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{list(argv)[:6]} failed: {done.stderr[-500:]}")
    return done.stdout


class Cost(NamedTuple):
    """Seconds. Those of the CPU are the commands' own, without the controller's, and tell more than the wall
    where others are at work on the machine."""

    wall: float
    cpu: float


def timed(action: Callable[[], object], repeats: int = 1, after: Callable[[], object] = lambda: None) -> Cost:
    """Medians; ``after`` is not timed."""
    walls, cpus = [], []
    for _ in range(repeats):
        begin, used = time.monotonic(), _cpu_s()
        action()
        walls.append(time.monotonic() - begin)
        cpus.append(_cpu_s() - used)
        after()
    return Cost(statistics.median(walls), statistics.median(cpus))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def project(root: Path, models: int) -> Path:
    """A project with 100 seeds of each model to train, on a site that holds its jobs."""
    (root / "experiments").mkdir(parents=True)
    (root / "experiments" / "large.yaml").write_text(experiment(models, 100))
    site = {
        "name": "slurm",
        "scheduler": "slurm",
        "slurm": {"partition": "gpu", "extra": ["--hold"]},
        "limits": {"array_size": 1000},
        "python": sys.executable,
    }
    (root / "templates" / "slurm").mkdir(parents=True)
    (root / "templates" / "slurm" / "site.yaml").write_text(json.dumps(site))
    return root


def ddqjobs(root: Path, *arguments: str) -> str:
    """A command in a project."""
    return run([sys.executable, "-m", "ddqjobs", *arguments, "--site", "slurm"], root)


def empty() -> None:
    """No job is left in the queue."""
    subprocess.run(["scancel", "--user=0"], check=True)
    while subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.2)


def submissions(root: Path) -> list[tuple[str, Cost, str]]:
    """1,000 runs: Slurm alone, ddqjobs, submitit, one job each."""
    (root / "job.sh").write_text(SCRIPT)
    (root / "by_submitit.py").write_text(SUBMITIT)
    places = iter([project(root / f"runs-{n}", RUNS // 100) for n in range(3)])
    array = ["sbatch", f"--array=0-{RUNS - 1}", "job.sh"]

    def one_by_one() -> None:
        for _ in range(RUNS):
            run(["sbatch", "job.sh"], root)

    bare = timed(lambda: run(array, root), 3, empty)
    ours = timed(lambda: ddqjobs(next(places), "submit", "--task", "train"), 3, empty)
    submitit = timed(lambda: run([sys.executable, "by_submitit.py"], root), 3, empty)
    single = timed(one_by_one, 1, empty)
    return [
        (f"sbatch --array=0-{RUNS - 1}", bare, ""),
        (f"ddqjobs submit, {RUNS} runs", ours, f"<= {2 * bare.wall + 0.5:.2f} (twice the bare, plus 0.5)"),
        (f"submitit map_array, {RUNS} jobs", submitit, ""),
        (f"one sbatch per run, {RUNS} jobs", single, ""),
    ]


def questions(root: Path) -> list[tuple[str, Cost, str]]:
    """10,000 jobs in the queue: the bare questions, and a status."""
    place = project(root / "many", MANY // 100)
    ddqjobs(place, "submit", "--task", "train")
    fields = ["squeue", "--array", "--states=all", "--format=%i %T %r %N"]
    bare = timed(lambda: run(fields, root), 3)
    ours = timed(lambda: ddqjobs(place, "status", "--task", "train"), 3)
    empty()
    return [
        (f"squeue --array, {MANY} jobs", bare, ""),
        (f"ddqjobs status, {MANY} jobs", ours, f"<= {bare.wall + 1.0:.2f} (the bare, plus 1.0)"),
    ]


def main() -> None:
    """Measures and prints."""
    if os.geteuid() != 0:
        print("SLURM IS NOT MEASURED: the virtual cluster of tests/labs/slurm needs root")
        return
    root = Path(tempfile.mkdtemp(prefix="slurmlab-bench-"))
    root.chmod(0o755)  # munge wants its socket within everybody's reach
    os.environ["SLURMLAB_DIR"] = str(root / "lab")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
    try:
        subprocess.run([LAB / "up.sh"], check=True)
        os.environ["SLURM_CONF"] = str(root / "lab" / "etc" / "slurm.conf")
        os.environ["PATH"] += ":/usr/sbin"
        rows = submissions(root) + questions(root)
    finally:
        subprocess.run([LAB / "down.sh", "--wipe"], check=False)
        shutil.rmtree(root, ignore_errors=True)
    lines = [(what, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", limit) for what, cost, limit in rows]
    print(format_table(("WHAT", "WALL s", "CPU s", "WANTED"), lines, align="lrrl"))


if __name__ == "__main__":
    main()
