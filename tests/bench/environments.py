"""``python -m tests.bench.environments``: building `modern-cpu` from a warm cache with uv, digests and
verification included, beside `pip install` of the same lock into a new virtual environment, in one run."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from ddqjobs.environments.environment import load
from ddqjobs.spec.shipped import Files
from tests.bench.__main__ import DDQJOBS, cost, print_table

NAME = "modern-cpu"
PIP = """
import subprocess, sys, venv
venv.create(sys.argv[1], with_pip=True, clear=True)
pip = [sys.argv[1] + "/bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
pip += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", sys.argv[2]]
subprocess.run(pip, check=True)
"""


def main() -> None:
    """Measures and prints. What comes first fills the caches and is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lock = root / "lock.txt"
        lock.write_text(load(NAME, Files(root)).lock)
        pip = [sys.executable, "-c", PIP, str(root / "pip"), str(lock)]
        build = [*DDQJOBS, "env", "build", NAME, "--again"]
        cost(pip, root)
        with_pip = cost(pip, root)
        cost(build, root)
        ours = cost(build, root)
        proof = next((root / ".environments").glob(f"{NAME}-*/built.json"))
        steps = json.loads(proof.read_text())["steps"]
        ratio = f"{ours[1] / with_pip[1]:.2f} of pip's wall"
        rows = [
            (f"pip install of {NAME}'s lock, warm cache", *with_pip, "", ""),
            (f"env build {NAME}, warm cache: installed, digested, verified", *ours, ratio, "< 1"),
            (
                "  of which installing",
                0.0,
                steps["packages"],
                0.0,
                f"{steps['packages'] / with_pip[1]:.2f}",
                "",
            ),
        ]
        print_table(rows)


if __name__ == "__main__":
    main()
