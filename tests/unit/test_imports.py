"""Who may import whom (docs/design.md), read from the source; and what starting the command line loads."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import ddqjobs
from ddqjobs.base import process

PACKAGE = Path(ddqjobs.__file__).resolve().parent
MODULES = {
    ".".join(("ddqjobs", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "shipped_files" not in path.parts
}
DETECT = {name: path for name, path in MODULES.items() if name.startswith("ddqjobs.detect")}
OURS = {name: path for name, path in MODULES.items() if name not in DETECT}
# Modules that read and write no state: text and data in, data out.
PURE = {
    "ddqjobs.spec.model", "ddqjobs.spec.sections",
    "ddqjobs.base.units", "ddqjobs.spec.experiment", "ddqjobs.spec.site",
    "ddqjobs.spec.environment", "ddqjobs.spec.check.experiment", "ddqjobs.spec.check.tasks",
    "ddqjobs.spec.check.commands", "ddqjobs.spec.check.datasets", "ddqjobs.spec.check.reference",
    "ddqjobs.planning.matrix",
    "ddqjobs.store.history", "ddqjobs.planning.plan", "ddqjobs.planning.filters",
    "ddqjobs.planning.estimate", "ddqjobs.planning.failures",
    "ddqjobs.report.verdict", "ddqjobs.store.retention", "ddqjobs.doctor.judgements",
    "ddqjobs.planning.canary", "ddqjobs.planning.bad_nodes",
    "ddqjobs.submission.judge", "ddqjobs.submission.select",
    "ddqjobs.environments.diagnosis",
    "ddqjobs.base.masking", "ddqjobs.base.frozen", "ddqjobs.base.findings",
    "ddqjobs.report.equivalence", "ddqjobs.report.document", "ddqjobs.report.cells",
    "ddqjobs.report.run_rows", "ddqjobs.report.missing", "ddqjobs.report.lookup", "ddqjobs.report.recomputed",
    "ddqjobs.report.loss_curves", "ddqjobs.report.alignment", "ddqjobs.report.repeats",
    "ddqjobs.report.grids", "ddqjobs.report.compare",
}  # fmt: skip
DATA = {
    *PURE,
    "ddqjobs.report.results",
    "ddqjobs.base.errors",
    "ddqjobs.planning.digest",
    "ddqjobs.store.ledger",
}  # the ledger's records are data
OUTSIDE = {"ddqjobs", "ddqjobs.__main__"}  # what `import ddqjobs` and `python -m ddqjobs` mean
FRONT = {
    "ddqjobs.project",
    "ddqjobs.submission.submit",
    "ddqjobs.submission.adoption",
    "ddqjobs.submission.actions",
    "ddqjobs.submission.follow",
    "ddqjobs.submission.rendering",
    "ddqjobs.submission.workspace",
    "ddqjobs.submission.shell",
    "ddqjobs.report.page.facts",
    "ddqjobs.report.page.view",
    "ddqjobs.report.page.render",
    "ddqjobs.doctor.examine",
    "ddqjobs.doctor.needs",
    "ddqjobs.doctor.node",
    "ddqjobs.doctor.storage",
    "ddqjobs.doctor.subject",
    "ddqjobs.data.data",
}


class Import(NamedTuple):
    module: str  # what is imported
    late: bool  # inside a function
    typing: bool  # only for annotations


def imports(name: str) -> list[Import]:
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return list(_walk(ast.parse(path.read_text()), package, late=False, typing=False))


def _walk(node: ast.AST, package: str, *, late: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, late, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - child.level + 1] if child.level else []
            module = ".".join([*above, *([child.module] if child.module else [])])
            for alias in child.names:
                whole = f"{module}.{alias.name}"
                yield Import(whole if whole in MODULES else module, late, typing)
        else:
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, package, late=late or function, typing=typing or guarded)


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_modules_that_the_rule_names_are_there() -> None:
    assert set(MODULES) >= DATA | FRONT | {
        "ddqjobs.cli.main",
        "ddqjobs.detect.product",
        "ddqjobs.base.process",
    }


@pytest.mark.parametrize("name", [n for n in MODULES if not n.startswith("ddqjobs.cli") and n not in OUTSIDE])
def test_nothing_imports_the_command_line(name: str) -> None:
    assert not [i.module for i in imports(name) if i.module.startswith("ddqjobs.cli")]


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_only_data(name: str) -> None:
    ours = {i.module for i in imports(name) if top(i.module) == "ddqjobs"}
    assert ours - {"ddqjobs"} <= DATA
    banned = {"os", "subprocess", "shutil", "socket", "tempfile", "yaml", "jinja2", "pandas", "typer", "rich"}
    assert not banned & {top(i.module) for i in imports(name)}


def test_errors_import_nothing_of_ours_and_words_nothing_but_what_they_are_made_of() -> None:
    for name in ("ddqjobs.base.errors", "ddqjobs.base.frozen"):
        assert not [i for i in imports(name) if top(i.module) == "ddqjobs"]
    assert {i.module for i in imports("ddqjobs.spec.model") if top(i.module) == "ddqjobs"} == {
        "ddqjobs.base.frozen",
        "ddqjobs.spec.sections",
    }


@pytest.mark.parametrize(
    "name", sorted(n for n in {*OURS} - FRONT - OUTSIDE if not n.startswith("ddqjobs.cli"))
)
def test_what_lies_below_the_front_door_does_not_look_up_to_it(name: str) -> None:
    assert not FRONT & {i.module for i in imports(name) if not i.typing}


@pytest.mark.parametrize("name", list(OURS))
def test_detectors_are_imported_only_by_the_task_code(name: str) -> None:
    assert not {"torch", "mmengine", "mmdet", "mmcv", "pycocotools"} & {top(i.module) for i in imports(name)}


@pytest.mark.parametrize("name", list(MODULES))
def test_each_large_dependency_has_one_door(name: str) -> None:
    found = imports(name)
    loaded = [i for i in found if not i.typing]
    if name != "ddqjobs.report.results":
        assert "pandas" not in {top(i.module) for i in loaded}
    assert all(i.late for i in loaded if top(i.module) == "pandas")
    if name not in (
        "ddqjobs.submission.script",
        "ddqjobs.report.page.render",
    ):  # scripts, and the report's page
        assert "jinja2" not in {top(i.module) for i in found}
    if name != "ddqjobs.base.process" and name not in DETECT:
        used = {
            (node.value.id, node.attr)
            for node in ast.walk(ast.parse(MODULES[name].read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        # Its types may be named, as what process.start() returns; nothing may be started with it.
        assert {attr for module, attr in used if module == "subprocess"} <= {"Popen"}
        assert not {"system", "popen", "fork", "execv", "execvp", "spawnv"} & {
            a for m, a in used if m == "os"
        }


@pytest.mark.parametrize("name", list(DETECT))
def test_task_code_is_python_3_8_and_imports_nothing_else_of_ddqjobs(name: str) -> None:
    ast.parse(MODULES[name].read_text(), feature_version=(3, 8))
    ours = {i.module for i in imports(name) if top(i.module) == "ddqjobs"}
    assert all(module.startswith("ddqjobs.detect") for module in ours)


def test_starting_the_command_line_loads_nothing_that_only_some_commands_need() -> None:
    code = "import sys, ddqjobs.cli.main; print(*sys.modules)"
    done = process.run([sys.executable, "-c", code], timeout=60)
    assert (done.code, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert "ddqjobs.cli.main" in loaded
    heavy = {
        "pandas",
        "numpy",
        "jinja2",
        "msgspec",
        "rich.live",
        "yaml",
        "submitit",
        "torch",
        "ddqjobs.project",
    }
    assert not heavy & loaded
