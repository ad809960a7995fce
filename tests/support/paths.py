"""Paths of the repository and of the tests' own files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
RECORDED = TESTS / "recorded"
LABS = TESTS / "labs"
