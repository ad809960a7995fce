"""A check of an environment sees a copy of the files that it lists and nothing else of this project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support.paths import ROOT

SHIPPED = Files(ROOT)


@pytest.mark.parametrize("name", environment.declared(SHIPPED))
def test_a_copy_of_the_files_that_a_check_lists_can_be_imported(name: str) -> None:
    checks = environment.load(name, SHIPPED).declaration.checks
    assert checks
    for check in checks.values():
        listed = {file for entry in check.files for file in python_files(ROOT / entry)}
        program = check.command[check.command.index("-m") + 1]
        started = ROOT / (program.replace(".", "/") + ".py")
        assert started in listed
        for file in listed:
            # The program's functions run; of what it imports, those that it calls.
            needed = set(imported(file, ast.parse(file.read_text()), late=file == started))
            assert needed <= listed, file


def python_files(entry: Path) -> list[Path]:
    return sorted(entry.rglob("*.py")) if entry.is_dir() else [entry]


def imported(file: Path, node: ast.AST, *, late: bool) -> Iterator[Path]:
    """Files of this project that running ``node`` imports; with ``late`` also those inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            assert not any(alias.name.startswith("ddqjobs") for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and (child.level or "ddqjobs" in (child.module or "")):
            folder = file.parents[child.level - 1] if child.level else ROOT
            base = folder.joinpath(*(child.module or "").split("."))
            for place in (base, *(base / alias.name for alias in child.names)):
                yield from (
                    candidate
                    for candidate in (place.with_suffix(".py"), place / "__init__.py")
                    if candidate.is_file()
                )
        elif late or not isinstance(child, ast.FunctionDef):
            yield from imported(file, child, late=late)
