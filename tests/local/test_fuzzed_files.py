"""Files of a stranger's project, changed at random: messages or a plan, within 5 s of CPU and 500 MB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import TINY, opened
from tests.support.fuzzing import TARGETS, Worst, fuzz, fuzz_results
from tests.support.trivial import until


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


def changed_results(folder: Path, count: int) -> Worst:
    """Results of a project whose runs were done, changed at random that often."""
    with opened(folder / "project", TINY.replace("name: tiny", "name: y")) as place:
        (place.root / "experiments/tiny.yaml").rename(place.root / "experiments/y.yaml")
        assert place.invoke("submit", "y", "first", "second.*", "broken.*").code == 0
        results = place.root / "results/y"
        until(lambda: "active" not in place.invoke("status", "y", "--json").out)
        assert place.invoke("report", "y").code == 0
        candidates = [
            *results.rglob("*.json"),
            *results.rglob("*.jsonl"),
            *results.glob("runs/*/attempts/*/stdout.log"),
        ]
        files = [path for path in candidates if "code" not in path.parts and not path.is_symlink()]
        return fuzz_results(place.root, files, count)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of what is changed: whole files
def test_changed_results_cost_little_and_end_in_order(tmp_path: Path) -> None:
    assert changed_results(tmp_path, 4).inputs >= 12


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_thousands_of_changed_results_do(tmp_path: Path) -> None:
    worst = changed_results(tmp_path, 1000)
    print(
        f"results: {worst.inputs} inputs, {worst.refused} refused, {worst.cpu_s:.2f} s, {worst.mib:.0f} MiB"
    )
