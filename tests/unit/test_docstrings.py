"""Docstrings say what a thing is or does; they do not begin as a question."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

QUESTIONS = ("What", "Whether", "How", "Where", "Why", "Which", "Who", "When")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def first(text: str) -> str:
    return text.split()[0].rstrip(",:")


def test_no_docstring_begins_as_a_question() -> None:
    paths = sorted((ROOT / "ddqjobs").rglob("*.py"))
    found = {path: text for path in paths for text in docstrings(path) if first(text) in QUESTIONS}
    assert [f"{path.relative_to(ROOT)}: {text.splitlines()[0]}" for path, text in found.items()] == []
