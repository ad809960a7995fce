"""The page of a matrix of 112 runs, some of which failed: one unit, and the causes of failures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddqjobs.project import open_project
from ddqjobs.report.document import Report
from ddqjobs.report.page import plots
from ddqjobs.report.page.plots import Line, Panel
from tests.support import matrix
from tests.unit.report.test_page import Reader


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrix.make(tmp_path_factory.mktemp("matrix") / "project", rows=30, distinct=2, terms=1).root


@pytest.fixture(scope="module")
def report(root: Path) -> Report:
    return open_project(root).report("matrix")


@pytest.fixture(scope="module")
def page(root: Path, report: Report) -> str:
    return open_project(root).report_page(report, price=2.5)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def test_higher_results_are_not_short_and_not_unknown(report: Report) -> None:
    said = {s.phase: s.text for s in report.summary}
    assert said["1"] == "phase 1: reproduced 6 of 7 (1 exceeds)"
    assert said["2"].startswith("phase 2: equal 6 of 7 (1 differs)")
    assert (report.summary[0].exceeds, report.summary[0].unknown, report.summary[1].short) == (1, 0, 0)
    assert report.ok is False


def test_a_failed_attempt_is_named_as_status_names_it(read: Reader) -> None:
    assert f"1: out-of-memory: GPU memory: exit 1: {matrix.OUT_OF_MEMORY}" in read.text
    assert not re.search(r"\d: exit 1\b", read.text)


def test_hours_without_an_estimate_are_not_called_free_of_gpus(read: Reader) -> None:
    assert "no GPUs" not in read.text


def test_metrics_have_one_unit_and_words_for_what_is_not_there(read: Reader) -> None:
    assert "AP50 59.1" in read.text
    assert "bbox_mAP" not in read.text
    assert "51.3 ± 0.10 SD (n=3)" in read.text


def test_no_two_trainings_of_a_panel_share_colour_and_dash(page: str) -> None:
    for legend in re.findall(r'<ul class="legend">(.*?)</ul>', page, re.DOTALL):
        styles = re.findall(r'class="(series-\d dash-\d)"', legend)
        assert len(set(styles)) == len(styles) > 1


def test_ticks_of_small_numbers_keep_their_digits() -> None:
    line = Line(label="a", style=0, points=[(1, 0.021), (2, 0.034), (3, 0.048)])
    drawn = plots.draw([Panel(title="loss", x="epoch", lines=(line,))], "x")[0]
    ticks = re.findall(r"<text[^>]*>(0\.0\d+)</text>", drawn)
    assert len(set(ticks)) == len(ticks) >= 2
