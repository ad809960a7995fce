"""Files of a stranger's project, changed at random: messages or a plan, within 5 s of CPU and 500 MB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fuzzing import TARGETS, fuzz


@pytest.mark.parametrize("kind", TARGETS)
def test_a_changed_file_costs_little_and_ends_in_order(tmp_path: Path, kind: str) -> None:
    assert fuzz(tmp_path, kind, 10).inputs >= 10


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", TARGETS)
def test_thousands_of_changed_files_do(tmp_path: Path, kind: str) -> None:
    """``-s`` shows the figures of ``docs/measurements/hostile-input.md``."""
    worst = fuzz(tmp_path, kind, 1000)
    print(f"{kind}: {worst.inputs} inputs, {worst.refused} refused, {worst.cpu_s:.2f} s, {worst.mib:.0f} MiB")
