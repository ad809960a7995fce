"""The examples of the page on Python run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import markdown
from tests.support.cli import opened
from tests.support.paths import ROOT


def test_the_examples_in_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [text for language, text in markdown.blocks(ROOT / "docs/reference/python.md") if language]
    assert len(blocks) > 3
    namespace: dict[str, object] = {}
    with opened(tmp_path / "project") as place:
        monkeypatch.chdir(place.root)
        for text in blocks:
            exec(text, namespace)
    assert "<html" in str(namespace["page"])
