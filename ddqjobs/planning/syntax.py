"""Read Python files by what they mean: a canonical form of the syntax, and the modules and files named.

Comments, docstrings and formatting are not in the form; everything else is. The form is the same on Python
3.10 to 3.13, so it is made of the nodes' own names and values: ``ast.dump`` and ``ast.unparse`` differ
between these versions. Whoever changes the form raises :data:`ddqjobs.planning.digest.FORMAT`.

A file in newer syntax counts by its text on every Python, as on those that cannot read it. Only f-strings
with what Python 3.12 first allowed inside them are not recognised as such: a file with one counts by its text
before 3.12 and by its syntax from then on.

A docstring does not count even where the file prints it (``description=__doc__``): it decides what ``--help``
says and no result.

Standard library only.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ddqjobs.base import files
from ddqjobs.planning.bases import bases
from ddqjobs.planning.outside import Outside, outside

# Task code, and a project's own modules beside its configurations.
MODULE = re.compile(r"(?<![\w.])(?:ddqjobs\.detect|configs)(?:\.[A-Za-z_]\w*)+")
READER = 7  # raised when more is read of a file: what was kept of it is read again
_LIMIT = 8 << 20  # bytes of a file that a person wrote
_LARGEST = 1 << 20  # bytes that are parsed; a syntax tree takes a hundred times its text
_OLDEST = (3, 10)
_DEEPEST = 500  # nested nodes; how many more a Python reads differs
# Derived from the place of a node, or never filled by ast.parse as it is called here.
_OMITTED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_END = ")"
_BLOCKS = frozenset({"body", "orelse", "finalbody"})


class Source(NamedTuple):
    """The parts of a file that decide its behaviour.

    ``form`` is the SHA-256 of its canonical form or, with another marker, of its bytes. ``modules`` are those
    below ``ddqjobs.detect`` and ``configs`` that it imports or names, relative ones with their dots.
    ``bases`` are the configurations that it builds on, relative to its folder. ``unfollowed`` says, for a
    configuration, where it builds on something that cannot be told without running it. ``outside`` are the
    other modules that it imports or names.
    """

    form: str
    modules: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    unfollowed: tuple[str, ...] = ()
    outside: tuple[Outside, ...] = ()


class _UnreadableError(ValueError):
    """Some Python from 3.10 to 3.13 cannot read the file, though this one can."""


def read(data: bytes, *, python: bool = True) -> Source:
    """Return what counts of a file. One that is not Python 3.10 counts by its bytes."""
    large = len(data) > _LARGEST
    try:
        if python and not large:
            return _read(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: null bytes, before 3.11.4
        pass
    named = MODULE.findall(data.decode("utf-8", "replace"))
    unfollowed = (("it is larger than 1 MiB" if large else "it is not Python 3.10"),) if python else ()
    return Source(_sha256(b"text\0" + data), tuple(sorted(set(named))), (), unfollowed)


def read_file(path: Path) -> Source:
    """Return what counts of a file; one not named ``.py`` is not Python, though it may look so. Raise OSError
    also for one that is not regular or is too large."""
    return read(files.read(path, _LIMIT), python=path.suffix == ".py")


def _read(data: bytes) -> Source:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" is a warning whose kind differs between versions
        tree = ast.parse(data, feature_version=_OLDEST)
    form, nodes = canonical(tree)
    modules = {name for node in nodes for name in _modules(node)}
    return Source(_sha256(b"syntax\0" + form), tuple(sorted(modules)), *bases(tree), outside(tree))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(tree: ast.AST) -> tuple[bytes, list[ast.AST]]:
    """Return the canonical form, and the nodes in it that may name modules.

    Each node is written with its filled fields in alphabetical order. Raises ValueError for syntax after 3.10
    that ast.parse lets pass, and for what is nested too deeply for some Python.
    """
    out: list[str] = []
    naming: list[ast.AST] = []
    todo: list[ast.AST | str] = [tree]
    depth = 0
    while todo:
        item = todo.pop()
        if type(item) is str:
            out.append(item)
            depth -= item == _END
        elif isinstance(item, ast.Constant):
            out.append("=" + _value(item.value))  # unlike the None of a list, which stands for no node
            naming.append(item)
        elif isinstance(item, ast.AST):
            _refuse_newer(item)
            if depth > _DEEPEST:
                raise _UnreadableError
            if isinstance(item, ast.Import | ast.ImportFrom):
                naming.append(item)
            out.append("(" + type(item).__name__)
            todo.append(_END)
            depth += 1
            for name, before in _fields(item._fields):
                value: Any = getattr(item, name, None)
                _push(todo, name, before, _merged(value) if isinstance(item, ast.JoinedStr) else value)
    return "".join(out).encode("utf-8", "surrogatepass"), naming


@functools.cache
def _fields(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the fields that are written of those that a node has, last first, with what precedes each."""
    return tuple((name, f" {name}=") for name in sorted(names, reverse=True) if name not in _OMITTED)


def _push(todo: list[ast.AST | str], name: str, before: str, value: Any) -> None:
    """Put a field on the stack of what is to be written, unless it is empty."""
    if isinstance(value, ast.AST):
        if name != "format_spec" or _merged(value.values):  # type: ignore[attr-defined]
            todo += (value, before)
    elif isinstance(value, list):
        if name in _BLOCKS:
            value = [statement for statement in value if not _does_nothing(statement)]
        if value:
            todo.append("]")
            todo += [item if isinstance(item, ast.AST) else _value(item) for item in reversed(value)]
            todo.append(before + "[")
    elif value is not None:
        todo.append(before + _value(value))


def _refuse_newer(node: ast.AST) -> None:
    """Raise for stars in an index or in the annotation of ``*args``, whatever ``feature_version`` says."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        if any(isinstance(element, ast.Starred) for element in node.slice.elts):
            raise _UnreadableError
    elif isinstance(node, ast.arg) and isinstance(node.annotation, ast.Starred):
        raise _UnreadableError


def _does_nothing(node: ast.stmt) -> bool:
    """Tell a docstring or any other statement that is only a string, and ``pass``."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)


def _merged(values: Iterable[ast.expr]) -> list[ast.expr]:
    """Return the values of an f-string with each stretch of text in one piece: where it is cut differs
    between versions."""
    merged: list[ast.expr] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            merged.append(value)
        elif merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(str(merged[-1].value) + str(value.value))
        elif value.value:
            merged.append(value)
    return merged


def _value(value: object) -> str:
    """Return a value with its type and length, so that no two run into each other."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bytes | float):
        text = value.hex()
    elif isinstance(value, complex):
        text = f"{value.real.hex()} {value.imag.hex()}"
    elif type(value) is int:
        text = hex(value)  # decimal digits have a limit
    else:  # None, True, False, Ellipsis
        text = repr(value)
    return f"<{type(value).__name__} {len(text)}:{text}>"


def _modules(node: ast.AST) -> Iterator[str]:
    """Yield the modules that an import or a string names; a string only if it is nothing else."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if MODULE.fullmatch(alias.name))
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        if node.level or f"{module}.".startswith(("ddqjobs.detect.", "configs.")):
            yield module
            yield from (f"{module}{'' if module.endswith('.') else '.'}{a.name}" for a in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
        yield node.value
