"""The page in a real browser: headless Chromium at three widths, light and dark, with axe-core.

Needs node with npm, Chromium, and once a package registry for what tests/browser/package.json names (it is
kept in .cache/browser). Where one of them is not there the test is skipped, and says what is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pypdf
import pytest

from ddqjobs.base import process
from ddqjobs.spec.metric import METRICS
from tests.support import matrix, paper
from tests.support.paths import ROOT
from tests.unit.report.test_gallery import photographed

SOURCE, CACHE = ROOT / "tests" / "browser", ROOT / ".cache" / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NotThere(Exception):
    """No browser, or nothing that drives it."""


def prepare() -> str:
    """Return a Chromium; install what drives it. Raise NotThere."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None or shutil.which("npm") is None:
        raise NotThere("chromium, node and npm are needed (Debian: apt install ...)")
    package = (SOURCE / "package.json").read_text()
    installed = CACHE / "node_modules" / ".installed"
    if not installed.exists() or installed.read_text() != package:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text(package)
        argv = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = process.run(argv, timeout=300, cwd=CACHE)
        if done.code != 0:
            raise NotThere(f"npm install failed: {done.stderr[-300:]}")
        installed.write_text(package)
    return executable


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium that can be driven."""
    try:
        return prepare()
    except NotThere as error:
        pytest.skip(f"NOT TESTED IN A BROWSER: {error}")


def looks(page: Path, browser: str, pictures: Path) -> list[dict[str, Any]]:
    argv = ["node", str(SOURCE / "look.js"), str(page), browser, str(pictures)]
    env = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
    done = process.run(argv, timeout=400, env=env)
    assert done.code == 0, done.stderr
    views = json.loads(done.stdout)
    assert isinstance(views, list)
    return views


def test_a_browser_finds_nothing_to_complain_about(tmp_path: Path, browser: str) -> None:
    project = photographed(paper.make(tmp_path / "project", models=2, seeds=3))
    attempts = project.root / "results" / "paper" / "runs" / "p3-train.m000.s0" / "attempts"
    (attempts / "1" / "stdout.log").write_text(
        "<script>console.log('run')</script><img src='http://x/y.png'>\n"
    )
    failed = attempts / "2"
    failed.mkdir()
    started = {"ticket": "token.0", "host": "a", "at": paper.AT + 1e6}
    (failed / "started.json").write_text(json.dumps(started))
    (failed / "exit.json").write_text(json.dumps({"code": 1, "failure": "code", "at": paper.AT + 1e6 + 60}))
    page = tmp_path / "report.html"
    page.write_text(project.report_page(project.report("paper", recompute=True), gallery=2))
    check(looks(page, browser, tmp_path))


def test_a_matrix_of_112_runs_takes_eight_screens_and_can_be_filtered(tmp_path: Path, browser: str) -> None:
    project = matrix.make(tmp_path / "project", terms=2)
    page = tmp_path / "matrix.html"
    page.write_text(project.report_page(project.report("matrix", metrics=list(METRICS)), price=2.5))
    views = looks(page, browser, tmp_path)
    check(views)
    for look in views:
        # Eight screens of 800 rows, with room for other fonts: a phone and a tablet hold no less.
        assert look["height"] <= 8 * 800 - 200, look["width"]
    for look in (look for look in views if look["scheme"] == "light"):
        # The failed trainings of one model, by its words; all that failed, by their state.
        failed = ["p4-train.fcn-12e.s1000", *(f"p4-train.detr-5scale.s{seed}" for seed in (0, 1000, 2000))]
        assert look["filtered"] == {"runs": 3, "rows": 1, "failed": failed, "restored": 112}
        # On a phone each model is a card. Elsewhere a head sorts up, down, and not at all.
        assert look["card"] == ("grid" if look["width"] == 360 else "table-row")
        if look["sorted"]:
            up, down, plain = look["sorted"]
            assert (len(up), up, down) == (7, sorted(plain), sorted(plain, reverse=True))
            assert plain != up
        assert bool(look["sorted"]) == (look["width"] > 360)
        # Values under the pointer, with no digits that the picture does not have.
        assert look["tip"].startswith("iteration ")
        assert re.findall(r": -?\d+\.?\d*", look["tip"])
        assert not re.search(r"\.\d{3}", look["tip"])
        small, large, again = look["zoom"]
        assert small == again <= large
        assert large > 2 * small or look["width"] == 360  # a phone shows each as wide as it is
        raw, smooth = ["inline", "none"], ["none", "inline"]
        assert look["smooth"] == [raw, smooth, raw]
        copy = look["copy"]
        assert copy["said"] == "copied"
        assert copy["copied"] == copy["command"]
        assert copy["command"].startswith("ddqjobs retry matrix p4-train.detr-5scale.s0 ")
    sheets = [sheet.extract_text() for sheet in pypdf.PdfReader(tmp_path / "printed.pdf").pages]
    assert 4 < len(sheets) < 20
    # Every run stands on paper, folded or not on the screen, and no page break cuts a card or a row.
    printed = "".join("".join(sheets).split())
    runs = [planned.run.name for planned in project.plan("matrix").runs]
    assert len(runs) == 112
    assert [run for run in runs if run not in printed] == []
    marks = [set(re.findall(r"(begin|end)(\d+)\.", sheet)) for sheet in sheets]
    begun, ended = ([{n for side, n in sheet if side == end} for sheet in marks] for end in ("begin", "end"))
    assert begun == ended
    assert sum(map(len, begun)) > 112 + 4 * 7 + 7 + 4  # runs, rows of AP, rows of the map, causes


def check(views: list[dict[str, Any]]) -> None:
    """Assert what holds of every page at every width, light and dark."""
    assert [(look["width"], look["scheme"]) for look in views] == [
        (width, scheme) for width in (360, 768, 1280) for scheme in ("light", "dark")
    ]
    for look in views:
        assert look["violations"] == []
        assert look["messages"] == []
        assert look["requests"] == []
        assert look["overflow"] == 0
        assert look["opened"] is True  # a cell's link opens the run that it leads to
