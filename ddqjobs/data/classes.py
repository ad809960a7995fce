"""The classes that a configuration declares, read from its syntax; nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from posixpath import dirname, join, normpath

from ddqjobs.planning.bases import bases
from ddqjobs.spec.model import Run

Find = Callable[[str], Path | None]
_MOST = 1 << 20  # bytes of a configuration
_NAMES = frozenset({"classes", "CLASSES"})


def of_runs(runs: Iterable[Run], find: Find) -> dict[str, tuple[str, ...]]:
    """Return the classes of each configuration of the runs that declares some."""
    configs = dict.fromkeys(run.config for run in runs if run.config)
    return {config: names for config in configs if (names := of_config(config, find))}


def of_config(config: str, find: Find) -> tuple[str, ...]:
    """Return the classes that a configuration or, where it names none, its bases name (``classes`` in
    ``metainfo`` or by itself); empty if none does, or if they are computed."""
    seen: set[str] = set()
    todo = [config]
    while todo:
        name = todo.pop(0)
        path = find(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        try:
            tree = ast.parse(path.read_bytes()[:_MOST])
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        for names in _classes(tree):
            return names
        todo += [normpath(join(dirname(name), base)) for base in bases(tree).names]
    return ()


def _classes(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in _NAMES:
                yield from _strings(node.value)
        elif isinstance(node, ast.keyword) and node.arg in _NAMES:
            yield from _strings(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in _NAMES:
                    yield from _strings(value)


def _strings(node: ast.expr) -> Iterator[tuple[str, ...]]:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        yield tuple(value)
