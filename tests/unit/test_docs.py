"""The documentation says each thing once."""

from __future__ import annotations

import itertools
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


def test_the_picture_of_the_packages_is_that_of_the_import_contracts() -> None:
    text = (DOCS / "design.md").read_text()
    picture = text.partition("```mermaid")[2].partition("```")[0]
    arrows = re.findall(r"^  (\w+) --> (\w+)$", picture, re.M)
    layers = re.findall(
        r'"(\w+)"', (ROOT / "pyproject.toml").read_text().partition("\nlayers = [")[2].partition("]")[0]
    )
    assert len(layers) == 13
    assert arrows == list(itertools.pairwise(layers))


def test_the_modules_that_the_design_names_are_there() -> None:
    section = (DOCS / "design.md").read_text().partition("## Modules")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)/` \|.*\|(.*)\|$", section, re.M)
    named = [
        f"{package}/{name}" for package, words in rows for name in re.findall(r"`([\w.]+(?:\.py|/))`", words)
    ]
    answers = section.partition("| question |")[2]
    named += re.findall(r"`((?:\w+/)+\w+\.py)`", answers)
    assert len(named) > 50
    assert [path for path in named if not (ROOT / "ddqjobs" / path).exists()] == []


def test_the_tests_that_the_promises_name_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (DOCS / "promises.md").read_text())
    assert len(named) > 40
    gone = [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert gone == []
