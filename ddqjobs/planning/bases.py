"""Read from a configuration's syntax which files it builds on, and where that cannot be told. Pure.

Nothing is executed: names are replaced by the strings and lists that the file itself gave them before.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# What mmengine puts into a file before it is read; the name of the folder is enough to find a file beside it.
_FOLDER = re.compile(r"^\{\{\s*fileDirname\s*\}\}/?")
# Functions that load what their argument says, in configurations and in the modules that they import.
_LOADING = frozenset({"import_module", "__import__", "exec", "eval", "fromfile", "open", "run_path"})
# Functions that read data; the `main` of a program reads what its command says.
_READING = frozenset(
    {
        "read_text",
        "read_bytes",
        "load",
        "safe_load",
        "loadtxt",
        "genfromtxt",
        "list_from_file",
        "dict_from_file",
    }
)
# Methods that change a list in place.
_CHANGING = frozenset({"append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort", "__iadd__"})
# The run's own configuration, which every digest has: in the snapshot, or in the code tree.
_OWN = "os.environ['DDQJOBS_CONFIG']"
_COMPUTED = "_base_ is computed"
READS = "reads the variable "
# Variables that a job sets for its run, and those by which its processes differ.
_OF_JOB = ("DDQJOBS_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES")
# It says where files lie, as `~` in an experiment; the data's version is declared, and checkpoints are named.
_HOME = "HOME"
_IN_HOME = re.compile(r"\{\{\s*\$\s*HOME\s*(?::[^{}]*)?\}\}")
_TAKING = frozenset({"environ", "get", "pop", "setdefault", "getenv"})
# A checkpoint by its path; what is downloaded has its digest in its name.
_WEIGHTS = re.compile(r"(?!\w+://)[^\s{}%]*/[^\s{}%/]+\.(?:pth|pt|ckpt)")
_PUT_IN = re.compile(r"\{\{\s*\$\s*(\w+)")  # {{$NAME:default}}, which mmengine replaces before it reads
_Value = str | list["_Value"]


class Bases(NamedTuple):
    """The files of ``_base_``, relative to the file's folder, and what cannot be followed, with its line."""

    names: tuple[str, ...] = ()
    unfollowed: tuple[str, ...] = ()


def bases(tree: ast.Module) -> Bases:
    """Return what an mmengine-style configuration names in ``_base_``."""
    known: dict[str, _Value] = {}
    names: list[str] = []
    changed = sorted(_changed(tree))
    open_names = {name for _, name in changed}
    unfollowed = [f"line {line}: {reason}" for line, reason in sorted(_loads(tree))]
    unfollowed += [f"line {line}: {_COMPUTED}" for line, name in changed if name == "_base_"]
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        value = _value(node.value, known)
        for target in node.targets:
            if not isinstance(target, ast.Name):
                continue
            if target.id != "_base_":
                known.pop(target.id, None)
                if value is not None and target.id not in open_names:
                    known[target.id] = value
                continue
            spelled = [_FOLDER.sub("", name) for name in _flat([] if value is None else value)]
            names += (name for name in spelled if "{{" not in name)
            if value is None or any("{{" in name for name in spelled):
                unfollowed.append(f"line {node.lineno}: {_COMPUTED}")
    return Bases(tuple(names), tuple(dict.fromkeys(unfollowed)))


def _changed(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each variable that is changed in place, or set in another way than by
    an assignment of its own at the top of the file."""
    plain = {id(t) for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load) and id(node) not in plain:
                yield node.lineno, node.id
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name):
            method = isinstance(node, ast.Attribute) and node.attr in _CHANGING
            element = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            if method or element:
                yield node.lineno, node.value.id
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name


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
    of_program = _program(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _LOADING:
                yield node.lineno, f"{name}() loads what its argument says"
            elif name in _READING and id(node) not in of_program:
                yield node.lineno, f"{name}() reads a file"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield node.lineno, "sys.path is changed or read"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and names_weights(node.value):
            yield node.lineno, f"names {node.value}"
        for name in _variables(node):
            if name != _HOME and not name.startswith(_OF_JOB):
                yield getattr(node, "lineno", 0), f"{READS}{name}"


def names_weights(value: str) -> bool:
    """Tell whether a value is the path of a checkpoint, whose content no digest has."""
    return _WEIGHTS.fullmatch(_IN_HOME.sub("~", value)) is not None


def _variables(node: ast.AST) -> Iterator[str]:
    """Yield the environment variables that an expression reads by their names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _PUT_IN.findall(node.value)
    named = node.slice if isinstance(node, ast.Subscript) else None
    place = node.value if isinstance(node, ast.Subscript) else None
    if isinstance(node, ast.Call) and node.args:
        named, place = node.args[0], node.func
    if getattr(place, "attr", getattr(place, "id", "")) not in _TAKING:
        return
    source = ast.unparse(place).rpartition("os.")[2] if place is not None else ""
    if source in ("environ", "getenv") or source.rpartition(".")[0] == "environ":
        yield named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else "..."


def _program(tree: ast.Module) -> frozenset[int]:
    """Return the nodes of a file that run only where it is started as a program: its ``main``."""
    started = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    return frozenset(id(node) for main in mains if started for node in ast.walk(main))
