"""The documentation says each thing once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def twice(found: list[str]) -> list[str]:
    return [word for word, count in Counter(found).items() if count > 1]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_no_section_is_there_twice(path: Path) -> None:
    assert twice(re.findall(r"^## .+$", path.read_text(), re.M)) == []


def test_no_module_is_listed_twice() -> None:
    modules = (DOCS / "design.md").read_text().partition("## Modules")[2].partition("\n## ")[0]
    listed = re.findall(r"^  (\w+\.py)", modules, re.M)
    assert len(listed) > 30
    assert twice(listed) == []
