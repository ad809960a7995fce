"""Read from a configuration's syntax which files it builds on, and where that cannot be told. Pure.

Nothing is executed: names are replaced by the strings and lists that the file itself gave them before.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# What mmengine puts into a file before it is read; the name of the folder is enough to find a file beside it.
_FOLDER = re.compile(r"\{\{\s*fileDirname\s*\}\}/?")
# Functions that load what their argument says, in configurations and in the modules that they import.
_LOADING = frozenset({"import_module", "__import__", "exec", "eval", "fromfile", "open", "run_path"})
# The run's own configuration, which every digest has: in the snapshot, or in the code tree.
_OWN = "os.environ['DDQJOBS_CONFIG']"
_Value = str | list["_Value"]


class Bases(NamedTuple):
    """The files of ``_base_``, relative to the file's folder, and what cannot be followed, with its line."""

    names: tuple[str, ...] = ()
    unfollowed: tuple[str, ...] = ()


def bases(tree: ast.Module) -> Bases:
    """Return what an mmengine-style configuration names in ``_base_``."""
    known: dict[str, _Value] = {}
    names: list[str] = []
    unfollowed = [f"line {line}: {words}" for line, words in sorted(_loads(tree))]
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        value = _value(node.value, known)
        for target in node.targets:
            if not isinstance(target, ast.Name):
                continue
            if target.id != "_base_":
                known.pop(target.id, None)
                if value is not None:
                    known[target.id] = value
            elif value is None:
                unfollowed.append(f"line {node.lineno}: _base_ is computed")
            else:
                names += _flat(value)
    return Bases(tuple(_FOLDER.sub("", name) for name in names), tuple(unfollowed))


def _flat(value: _Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value:
            yield from _flat(part)


def _value(node: ast.expr, known: Mapping[str, _Value]) -> _Value | None:
    """Return the string or list that an expression stands for; None if that cannot be told."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if ast.unparse(node) == _OWN:
        return []
    if isinstance(node, ast.List | ast.Tuple):
        parts = [_value(element, known) for element in node.elts]
        return None if None in parts else [part for part in parts if part is not None]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sum(_value(node.left, known), _value(node.right, known))
    if isinstance(node, ast.JoinedStr):
        return _text(node, known)
    return None


def _sum(left: _Value | None, right: _Value | None) -> _Value | None:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return left + right
    return None


def _text(node: ast.JoinedStr, known: Mapping[str, _Value]) -> str | None:
    """Return an f-string whose fields are known strings without a format."""
    text = ""
    for part in node.values:
        plain = isinstance(part, ast.FormattedValue) and part.conversion == -1 and part.format_spec is None
        value = _value(part.value if plain else part, known)  # type: ignore[attr-defined]
        if not isinstance(value, str):
            return None
        text += value
    return text


def _loads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the words of whatever loads files that no name in the syntax stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _LOADING:
                yield node.lineno, f"{name}() loads what its argument says"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield node.lineno, "sys.path is changed or read"
