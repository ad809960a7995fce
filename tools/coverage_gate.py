#!/usr/bin/env python3
"""Print the coverage of each package, and exit with 1 if one is below its gate.

    tools/coverage_gate.py

Reads what `coverage run` left in .coverage/ (pyproject.toml). The tests of task code run in the built
environments, whose Pythons measure nothing, and a Donau is simulated: `detect` and `schedulers/donau` have
gates of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GATE = 85.0  # percent of the lines
OWN = {"detect": 33.0, "schedulers/donau": 90.0}


def package(path: str) -> str:
    """Return the package of a module, as the gates name it."""
    parts = Path(path).relative_to("ddqjobs").parts
    name = parts[0] if len(parts) > 1 else "project and package"
    return "schedulers/donau" if parts[:2] == ("schedulers", "donau") else name


def main() -> int:
    """Print one line per package; the exit code."""
    coverage = [sys.executable, "-W", "ignore", "-m", "coverage"]  # what was killed left half a file
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run(
            [*coverage, "json", "--quiet", "--ignore-errors", "-o", str(report)], cwd=ROOT, check=True
        )
        files = json.loads(report.read_text())["files"]
    lines, covered = Counter[str](), Counter[str]()
    for path, record in files.items():
        if Path(path).is_absolute():  # a snapshot in a folder whose name no pattern of pyproject.toml matches
            continue
        lines[package(path)] += record["summary"]["num_statements"]
        covered[package(path)] += record["summary"]["covered_lines"]
    failed = False
    for name in sorted(lines):
        share, gate = 100 * covered[name] / max(lines[name], 1), OWN.get(name, GATE)
        failed |= share < gate
        print(
            f"{name:20} {share:5.1f} % of {lines[name]:5} lines{'' if share >= gate else f'  BELOW {gate} %'}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
