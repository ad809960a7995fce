"""Where the repository and the tests' own files lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
RECORDED = TESTS / "recorded"
LABS = TESTS / "labs"
