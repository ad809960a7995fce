"""Find what a test's own dumped configuration names: the annotations that it evaluates with, and more."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddqjobs.detect.recompute import CannotEvaluate

_FAR = 4 << 20  # bytes of a configuration


def annotation_file(work_dir: Path, tree: Path) -> Path:
    """Return the file that the configuration dumped into a work_dir names: mmengine's ``test_evaluator``,
    mmcv 1.x's ``data.test``, relative to the tree. Raise CannotEvaluate, OSError."""
    path = in_dumped(work_dir, _annotations)
    if path is None:
        raise CannotEvaluate(f"no configuration in {work_dir} names the annotations")
    return tree / path


def in_dumped(work_dir: Path, find: Callable[[ast.Module], Iterator[str]]) -> str | None:
    """Return the first that ``find`` yields in the configurations dumped into a work_dir, the newest first;
    None if it yields nothing. Raise OSError."""
    stamped = sorted(work_dir.glob("*/vis_data/config.py"), reverse=True)
    for config in [*stamped, *sorted(work_dir.glob("*.py"))]:
        with config.open("rb") as stream:
            text = stream.read(_FAR).decode("utf-8", "replace")
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            for value in find(ast.parse(text)):
                return value
    return None


def _annotations(tree: ast.Module) -> Iterator[str]:
    for wanted in (("test_evaluator",), ("data", "test"), ("val_evaluator",)):
        for statement in tree.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if isinstance(statement, ast.Assign) and isinstance(target, ast.Name) and target.id == wanted[0]:
                for call in _inside(statement.value, wanted[1:]):
                    yield from _literal(call, "ann_file")


def _inside(value: ast.expr, names: Sequence[str]) -> Iterator[ast.expr]:
    """Yield the calls of dict(...) at a place of nested ones; of a list all its elements."""
    if isinstance(value, (ast.List, ast.Tuple)):
        for element in value.elts:
            yield from _inside(element, names)
    elif not names:
        yield value
    elif isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == names[0]:
                yield from _inside(keyword.value, names[1:])


def _literal(value: ast.expr, name: str) -> Iterator[str]:
    for keyword in value.keywords if isinstance(value, ast.Call) else []:
        text = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == name and isinstance(text, str):
            yield text
