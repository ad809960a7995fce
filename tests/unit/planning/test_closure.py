"""The task code that a digest covers, read from the source, is all that a job can load."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ddqjobs
from ddqjobs.planning.catalog import find_module
from ddqjobs.planning.digest import Digester

PARENT = Path(ddqjobs.__file__).resolve().parent.parent
FILES = {
    path.relative_to(PARENT).as_posix(): path for path in sorted((PARENT / "ddqjobs/detect").rglob("*.py"))
}
# What commands and launch scripts start by `python -m`, and what the files of users name.
COMMANDS = {name for name, path in FILES.items() if 'if __name__ == "__main__":' in path.read_text()}
CONFIGURED = {"ddqjobs/detect/models/__init__.py", "ddqjobs/detect/hooks/resume_mmcv1.py"}
# Their modules are named on the command line, or are not this project's.
BY_NAME = {
    "ddqjobs/detect/capture.py", "ddqjobs/detect/checks/pretrained.py",
    "ddqjobs/detect/training/determinism.py", "ddqjobs/detect/verify.py",
}  # fmt: skip


def module(relative: str) -> str:
    return relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_file_is_imported_in_words_by_what_jobs_start_or_configurations_name() -> None:
    entries = COMMANDS | CONFIGURED
    assert set(FILES) - entries  # else this says nothing
    digester = Digester(lambda _: None, find_module, {})
    assert set(digester.closure(module(name) for name in entries)) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_no_file_makes_up_the_name_of_what_it_imports(name: str) -> None:
    """A name that is put together at run time is in nobody's digest."""
    calls = [node for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.Call)]
    made_up = [
        ast.unparse(call)
        for call in calls
        if ast.unparse(call.func).rpartition(".")[2] in ("import_module", "__import__")
        and not isinstance(call.args[0], ast.Constant)
    ]
    assert not made_up or name in BY_NAME
    assert not any("__package__" in call or "ddqjobs" in call for call in made_up)
