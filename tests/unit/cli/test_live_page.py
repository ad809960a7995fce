"""``--page FILE`` of commands that follow runs: a page that reloads itself until all is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, finish, interrupt, opened
from tests.support.trivial import until

GOES_AWAY = """
name: tiny
implementations: {{}}
codes: {{shell: {{path: .}}}}
models: {{}}
tasks:
  away: {{kind: smoke, once: true, code: shell, command: [bash, -c, "rm -r {folder}; exit 3"]}}
"""
RELOADS = '<meta http-equiv="refresh" content="60">'


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def test_a_page_lives_as_long_as_one_waits(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert place.invoke("advance", "--page", str(page)).code == 0
    assert RELOADS in page.read_text()
    assert place.invoke("submit", "tiny", "first", "--wait", "--page", str(page)).code == 0
    assert RELOADS not in page.read_text()
    assert "1 of 1 required runs done" in page.read_text()
    page.unlink()
    assert place.invoke("submit", "tiny", "first", "--follow", "--page", str(page)).code == 0
    assert RELOADS not in page.read_text()
    assert "1 of 1 required runs done" in page.read_text()


def test_a_page_that_cannot_be_written_changes_nothing_of_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    with opened(tmp_path / "project", GOES_AWAY.format(folder=folder)) as place:
        ran = place.invoke("submit", "--wait", "--page", str(folder / "page.html"))
        assert ran.code == 1
        assert "1 failed" in ran.out
        assert "warning: page not written: " in ran.err
        plain = place.invoke("advance")
        ran = place.invoke("advance", "--page", str(folder / "page.html"))
        assert (ran.code, ran.out) == (plain.code, plain.out)
        assert ran.err.startswith("warning: page not written: ")


def test_an_interrupted_wait_leaves_a_page_that_is_at_rest(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    process = place.spawn("submit", "tiny", "wait", "--wait", "--page", str(page))
    until(lambda: place.attempts("wait"))
    assert RELOADS in page.read_text()
    interrupt(process)
    assert finish(process).code == 130
    assert RELOADS not in page.read_text()


def test_a_page_that_nobody_can_write_is_reported_before_anything_is_submitted(place: Place) -> None:
    ran = place.invoke("submit", "--wait", "--page", str(place.root / "no" / "page.html"))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert set(place.states().values()) <= {"eligible", "waiting"}
    assert "--page needs --wait" in place.invoke("submit", "--page", "x.html").err
