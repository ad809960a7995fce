"""Read what configurations of mmdet 2.x and 3.x set, without running them.

Only what is certain counts: literals, ``dict(...)``, names that the file itself gave such values, bases that
can be found. Everything else is :data:`UNKNOWN`, and so is a name that a statement touches which is not an
assignment. A key that a base sets which cannot be found is absent: nothing is claimed of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddqjobs.planning.bases import bases

LARGEST = 4 << 20  # bytes of a configuration
_DEEPEST = 40  # nested bases, and nested settings
Find = Callable[[str, Path], "Path | None"]  # what `_base_` names, and the file that names it -> file


class _Unknown:
    """The type of :data:`UNKNOWN`."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = _Unknown()
OPEN = "*"  # a key of what has more keys than are known
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def of_file(path: Path, find: Find) -> dict[str, Any]:
    """Return what a configuration and its bases set. Empty for what cannot be read."""
    return _of_file(path, find, _DEEPEST)


def of_text(text: str) -> dict[str, Any]:
    """Return what a configuration sets that was written out as a whole, as detectors dump theirs."""
    try:
        return _own(ast.parse(text))
    except _UNREADABLE:
        return {}


def with_options(settings: Mapping[str, Any], options: Iterable[str]) -> dict[str, Any]:
    """Return settings with ``key=value`` words of a command line put into them."""
    changed = dict(settings)
    for word in options:
        key, equals, text = word.lstrip("+").partition("=")
        if equals:
            changed = _merged(changed, _nested(key.split("."), _option(text)))
    return changed


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted path -> value of everything that is known; elements of lists have their numbers."""
    return dict(_flat("", settings, _DEEPEST))


def _of_file(path: Path, find: Find, depth: int) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            tree = ast.parse(stream.read(LARGEST))
        named, unfollowed = bases(tree)
    except (OSError, *_UNREADABLE):
        return {}
    merged: dict[str, Any] = {OPEN: UNKNOWN} if unfollowed or (named and not depth) else {}
    for base in named if depth else ():
        file = find(base, path)
        read = _of_file(file, find, depth - 1) if file is not None else {OPEN: UNKNOWN}
        merged = _merged(merged, read)
    return _merged(merged, _own(tree))


def _own(tree: ast.Module) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and all(isinstance(t, ast.Name) for t in statement.targets):
            value = _value(statement.value, known, _DEEPEST)
            known.update((t.id, value) for t in statement.targets if isinstance(t, ast.Name))
        elif not isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            touched = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            known.update(dict.fromkeys(touched, UNKNOWN))
        if any(isinstance(n, ast.ImportFrom) for n in ast.walk(statement)):  # `with read_base(): from ...`
            known[OPEN] = UNKNOWN
    return {name: value for name, value in known.items() if name != "_base_"}


def _value(node: ast.expr, known: Mapping[str, Any], depth: int) -> Any:
    if not depth:
        return UNKNOWN
    if isinstance(node, ast.Constant):
        computed = isinstance(node.value, str) and "{{" in node.value
        return UNKNOWN if computed else node.value
    if isinstance(node, ast.Name):
        return known.get(node.id, UNKNOWN)
    if isinstance(node, ast.List | ast.Tuple):
        if any(isinstance(e, ast.Starred) for e in node.elts):
            return UNKNOWN
        return [_value(e, known, depth - 1) for e in node.elts]
    if isinstance(node, ast.Dict):
        return _mapping(((_key(k), v) for k, v in zip(node.keys, node.values, strict=True)), known, depth)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args:
            return UNKNOWN
        return _mapping(((k.arg, k.value) for k in node.keywords), known, depth)
    return _arithmetic(node, known, depth)


def _key(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _mapping(
    pairs: Iterable[tuple[str | None, ast.expr]], known: Mapping[str, Any], depth: int
) -> dict[str, Any] | _Unknown:
    values = {}
    for key, node in pairs:
        if key is None:
            return UNKNOWN
        values[key] = _value(node, known, depth - 1)
    return values


def _arithmetic(node: ast.expr, known: Mapping[str, Any], depth: int) -> Any:
    """Return a number that is computed of known ones: ``-1``, ``0.02 / 4``, ``2 * size``."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, known, depth - 1)
        return -value if isinstance(value, int | float) else UNKNOWN
    if isinstance(node, ast.BinOp):
        left, right = (_value(side, known, depth - 1) for side in (node.left, node.right))
        if isinstance(left, int | float) and isinstance(right, int | float):
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Div) and right:
                return left / right
    return UNKNOWN


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with what ``above`` sets, as mmengine and mmcv merge a configuration into its base."""
    merged = dict(below)
    for key, value in above.items():
        there = merged.get(key)
        if isinstance(value, dict):
            own = {k: v for k, v in value.items() if k != "_delete_"}
            if isinstance(there, list) and own and all(k.isdecimal() for k in own):
                merged[key] = _in_list(there, own)
            else:
                kept = len(own) == len(value)
                below_ = {OPEN: UNKNOWN} if there is UNKNOWN else there if isinstance(there, dict) else {}
                merged[key] = _merged(below_ if kept else {}, own)
        else:
            merged[key] = value
    return merged


def _in_list(there: list[Any], own: Mapping[str, Any]) -> Any:
    changed = _merged({str(i): v for i, v in enumerate(there)}, own)
    return list(changed.values()) if len(changed) == len(there) else UNKNOWN


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value if isinstance(value, dict) else {}


def _option(text: str) -> Any:
    if "{" in text or "$" in text:
        return UNKNOWN
    try:
        value = _value(ast.parse(text, mode="eval").body, {"true": True, "false": False}, _DEEPEST)
    except _UNREADABLE:
        value = UNKNOWN
    return text if value is UNKNOWN and "," not in text else value


def _flat(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else key, inner, depth - 1)
    elif isinstance(value, list) and depth and any(isinstance(v, dict | list | _Unknown) for v in value):
        yield f"{path}.len", len(value)
        for number, inner in enumerate(value):
            yield from _flat(f"{path}.{number}", inner, depth - 1)
    elif value is not UNKNOWN:
        yield path, value
