"""A command that a message tells works in every project: it names the experiment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ddqjobs

_PACKAGE = Path(ddqjobs.__file__).parent
_COMMAND = re.compile(r"[`']ddqjobs (?:submit|retry|logs|accept)\b(?! (?:EXPERIMENT|\{|\$))[^`']*[`']")


def _texts(path: Path) -> Iterator[str]:
    """Yield the strings of a module that are not documentation, with ``{}`` for what is filled in."""
    source = path.read_text()
    if "ddqjobs " not in source:
        return
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)  # type: ignore[misc]
            documentation |= {id(value) for value in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_commands_in_messages_name_the_experiment() -> None:
    lacking = [
        f"{path.relative_to(_PACKAGE)}: {command}"
        for path in sorted(_PACKAGE.rglob("*.py"))
        for text in _texts(path)
        for command in _COMMAND.findall(text)
    ]
    scripts = sorted((_PACKAGE.parent / "templates").rglob("*.j2"))
    lacking += [
        f"{path.name}: {command}" for path in scripts for command in _COMMAND.findall(path.read_text())
    ]
    assert lacking == []
    assert _COMMAND.search("`ddqjobs retry` takes it")
    assert _COMMAND.search("`ddqjobs submit --stale` runs it")
