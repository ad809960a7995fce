"""Docstrings say what a thing is or does, not as a question; names do not name the detector."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

QUESTIONS = ("What", "Whether", "How", "Where", "Why", "Which", "Who", "Whose", "When")
MAYBE = re.compile(rf"""["'][\s\\]*({"|".join(QUESTIONS)})\b""")  # parsing all files takes seconds
CHECKED = ("ddqjobs", "tests", "tools")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a file in which one may begin as a question."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)) if MAYBE.search(source) else ():
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def first(text: str) -> str:
    return text.split()[0].rstrip(",:")


def test_no_docstring_begins_as_a_question() -> None:
    paths = (path for folder in CHECKED for path in sorted((ROOT / folder).rglob("*.py")))
    questions = [(path, text) for path in paths for text in docstrings(path) if first(text) in QUESTIONS]
    assert [f"{path.relative_to(ROOT)}: {text.splitlines()[0]}" for path, text in questions] == []


def words(tree: ast.Module) -> Iterator[str]:
    """Yield the names and the strings of one word of a module, without its documentation."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from () if " " in node.value else (node.value,)
        for field in ("id", "attr", "arg", "name"):
            yield str(getattr(node, field, ""))


def test_only_the_task_code_knows_the_detector_by_name() -> None:
    """A program that names DDQ may branch on it; another paper then goes another way."""
    paths = (
        path
        for path in sorted((ROOT / "ddqjobs").rglob("*.py"))
        if "detect" not in path.relative_to(ROOT).parts
    )
    named = {(str(path.relative_to(ROOT)), word) for path in paths
             for word in words(ast.parse(path.read_text(encoding="utf-8")))
             if "ddq" in word.lower().replace("ddqjobs", "")}  # fmt: skip
    assert named == set()
