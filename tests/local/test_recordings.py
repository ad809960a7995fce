"""The recordings in the documentation are what the commands show."""

from __future__ import annotations

from pathlib import Path

from tests.support import recordings


def test_the_page_of_recordings_is_what_a_terminal_shows_today(tmp_path: Path) -> None:
    assert recordings.page(tmp_path) == recordings.PAGE.read_text(), "run python -m tests.support.recordings"
