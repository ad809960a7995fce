"""Runs the tests that are marked ``bits`` with several instruction sets of the processor.

    python -m tests.isa [GROUP ...]

A group is a set of files that one environment runs (tests/support/inside.py), ``triton``, or ``local`` for
the tests of real runs on this machine; all of them if none is named. Ends with a table, and with exit code 1
if a test failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ddqjobs.base import process
from tests.support import inside, processor
from tests.support.paths import ROOT

SETTINGS = [
    *(("ATEN_CPU_CAPABILITY", capability) for capability in processor.CAPABILITIES),
    ("DNNL_MAX_CPU_ISA", "AVX2"),
]
MARKS = ("-m", "bits and not gpu")
LOCAL = ("tests/training/test_nano.py", "tests/training/test_resume_mmcv1.py")


class Counts(NamedTuple):
    """Tests by how they ended."""

    passed: int
    failed: int
    skipped: int


def counts(report: Path) -> Counts:
    """Return what a JUnit report counts; a process that left none counts as one failure."""
    if not report.exists():
        return Counts(0, 1, 0)
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    )
    return Counts(total - failures - errors - skipped, failures + errors, skipped)


class Runs:
    """One process of pytest per group and setting."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = inside.tools(folder / "tools")
        self.triton = inside.triton(folder / "triton")

    def run(self, group: str, setting: tuple[str, str]) -> Counts:
        """Run a group with a setting; the output is shown if a test fails."""
        report = self.folder / "junit.xml"
        report.unlink(missing_ok=True)
        arguments = (*MARKS, f"--junitxml={report}")
        done = self._pytest(group, dict([setting]), arguments)
        result = counts(report)
        print(f"{'='.join(setting)} {group}: {result.passed} passed, {result.failed} failed", flush=True)
        if done.code not in (0, 5):  # 5: no test of the group has the mark
            print(done.stdout[-20000:], done.stderr[-5000:], sep="\n", flush=True)
            return result if result.failed else result._replace(failed=1)
        return result

    def _pytest(self, group: str, variables: dict[str, str], arguments: tuple[str, ...]) -> process.Completed:
        if group == "local":
            argv = [sys.executable, "-m", "pytest", "-q", *arguments, *LOCAL]
            return process.run(argv, timeout=2 * inside.LIMIT_S, cwd=ROOT, env={**os.environ, **variables})
        if group == "triton":
            folders = [self.tools, self.triton]
            return inside.run("mini-new", [inside.INTERPRETED], folders, *arguments, variables=variables)
        name, files = inside.GROUPS[group]
        return inside.run(name, files, [self.tools], *arguments, variables=variables)


def table(rows: list[list[str]]) -> str:
    """Return rows of cells as lines; all columns but the first are aligned to the right."""
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (
        [row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def main() -> int:
    """Run all groups or those that are named, with each setting; the exit code."""
    every = [*inside.GROUPS, "triton", "local"]
    chosen = sys.argv[1:] or every
    if unknown := [group for group in chosen if group not in every]:
        print(f"isa: unknown group {unknown[0]!r}; there are {', '.join(every)}", file=sys.stderr)
        return 2
    there = processor.capabilities(inside.python("mini-new"))
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        runs = Runs(Path(temporary))
        for setting in SETTINGS:
            if setting[0] == "ATEN_CPU_CAPABILITY" and setting[1] not in there:
                print(f"*** NOT RUN: {'='.join(setting)}: this processor does not have it ***", flush=True)
                rows.append(["=".join(setting), "not run", "", "", ""])
                continue
            start = time.monotonic()
            results = [runs.run(group, setting) for group in chosen]
            total = [sum(column) for column in zip(*results, strict=True)]
            failed += total[1]
            rows.append(["=".join(setting), *map(str, total), f"{time.monotonic() - start:.0f}"])
    print(table([["setting", "passed", "failed", "skipped", "seconds"], *rows]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
