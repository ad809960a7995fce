"""Rules on imports and size that the import contracts and ruff's rules (pyproject.toml) cannot express."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import ddqjobs
from ddqjobs.base import process

PACKAGE = Path(ddqjobs.__file__).resolve().parent
# Imports inside functions and for annotations count.
GRAPH = grimp.build_graph("ddqjobs", include_external_packages=True, cache_dir=None)
OURS = sorted(name for name in GRAPH.modules if name.partition(".")[0] == "ddqjobs")
# Modules that read and write no state: text and data in, data out.
PURE = {
    "ddqjobs.spec.model", "ddqjobs.spec.metric", "ddqjobs.spec.notify", "ddqjobs.spec.sections",
    "ddqjobs.spec.table",
    "ddqjobs.detect.job.exit_codes", "ddqjobs.detect.job.training_progress",
    "ddqjobs.base.units", "ddqjobs.spec.code", "ddqjobs.spec.dataset", "ddqjobs.spec.experiment",
    "ddqjobs.spec.site",
    "ddqjobs.spec.environment", "ddqjobs.spec.check.experiment", "ddqjobs.spec.check.tasks",
    "ddqjobs.spec.check.commands", "ddqjobs.spec.check.datasets", "ddqjobs.spec.check.reference",
    "ddqjobs.spec.check.figures", "ddqjobs.planning.bases",
    "ddqjobs.planning.matrix",
    "ddqjobs.store.history", "ddqjobs.planning.plan", "ddqjobs.planning.filters",
    "ddqjobs.planning.estimate", "ddqjobs.planning.failures", "ddqjobs.planning.causes",
    "ddqjobs.planning.endings",
    *(f"ddqjobs.planning.known.{name}" for name in
      ("cause", "errnos", "gpus", "processes", "programs", "python", "schedulers")),
    "ddqjobs.report.verdict", "ddqjobs.store.retention", "ddqjobs.doctor.judgements",
    "ddqjobs.planning.canary", "ddqjobs.planning.bad_nodes",
    "ddqjobs.submission.judge", "ddqjobs.submission.select",
    "ddqjobs.environments.diagnosis",
    "ddqjobs.base.html", "ddqjobs.report.notebook",
    "ddqjobs.base.masking", "ddqjobs.base.text", "ddqjobs.base.frozen", "ddqjobs.base.findings",
    "ddqjobs.report.equivalence", "ddqjobs.report.document", "ddqjobs.report.cells",
    "ddqjobs.report.run_rows", "ddqjobs.report.missing", "ddqjobs.report.lookup", "ddqjobs.report.recomputed",
    "ddqjobs.report.loss_curves", "ddqjobs.report.alignment", "ddqjobs.report.repeats",
    "ddqjobs.report.grids", "ddqjobs.report.compare", "ddqjobs.report.ran", "ddqjobs.report.columns",
    "ddqjobs.report.footnotes",
    "ddqjobs.report.hours", "ddqjobs.report.share", "ddqjobs.report.classes", "ddqjobs.report.variants",
    "ddqjobs.spec.grid", "ddqjobs.spec.check.grids",
    "ddqjobs.report.page.charts", "ddqjobs.report.page.strips", "ddqjobs.base.shell_variables",
    "ddqjobs.planning.retries", "ddqjobs.report.verdict_colours",
}  # fmt: skip
DATA = {
    *PURE,
    "ddqjobs.report.results",
    "ddqjobs.base.errors",
    "ddqjobs.base.secrets",
    "ddqjobs.planning.digest",
    "ddqjobs.store.ledger",
}  # the ledger's records are data
LIMIT = 400  # lines


def imports(name: str) -> set[str]:
    return GRAPH.find_modules_directly_imported_by(name)


def ours(name: str) -> set[str]:
    return {module for module in imports(name) if module.partition(".")[0] == "ddqjobs"}


def test_the_modules_that_the_rule_names_are_there() -> None:
    assert set(OURS) >= DATA


def test_no_module_imports_itself_by_way_of_others() -> None:
    order = TopologicalSorter({name: ours(name) for name in OURS})
    order.prepare()  # raises CycleError, with the circle


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_only_data(name: str) -> None:
    assert ours(name) <= DATA
    banned = {"os", "subprocess", "shutil", "socket", "tempfile", "yaml", "jinja2", "pandas", "typer", "rich"}
    assert not banned & imports(name)


def test_errors_import_nothing_of_ours_and_words_nothing_but_what_they_are_made_of() -> None:
    for name in ("ddqjobs.base.errors", "ddqjobs.base.frozen"):
        assert not ours(name)
    assert ours("ddqjobs.spec.model") == {
        "ddqjobs.base.html",
        "ddqjobs.base.frozen",
        "ddqjobs.spec.sections",
    }


def test_names_for_completion_need_no_checks() -> None:
    """Check the imports that the shell waits for when Tab is pressed after a file changed."""
    needed = GRAPH.find_upstream_modules("ddqjobs.planning.lookup")
    assert not [n for n in needed if n.startswith(("ddqjobs.schedulers", "ddqjobs.spec.check.", "jinja2"))]


def test_only_what_starts_a_program_imports_the_package_itself() -> None:
    """Whoever needs the version imports base.version; ``ddqjobs`` itself leads to everything."""
    assert not [name for name in OURS if "ddqjobs" in imports(name)]


def test_modules_are_short() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if len(path.read_text().splitlines()) > LIMIT
    }
    assert not long


def test_every_module_is_in_a_package() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_starting_the_command_line_loads_nothing_that_only_some_commands_need() -> None:
    code = (
        "import sys; from ddqjobs.cli.commands import COMMANDS, load; list(map(load, COMMANDS)); "
        "print(*sys.modules)"
    )
    done = process.run([sys.executable, "-c", code], timeout=60)
    assert (done.code, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert "ddqjobs.cli.plan" in loaded
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


def test_task_code_evaluates_no_generic_builtins() -> None:
    """Python 3.8 knows ``tuple[int]`` in annotations that nobody evaluates, and nowhere else."""
    builtin = {"dict", "frozenset", "list", "set", "tuple", "type"}
    for path in sorted((PACKAGE / "detect").rglob("*.py")):
        tree = ast.parse(path.read_text())
        notes = [getattr(n, k, None) for n in ast.walk(tree) for k in ("annotation", "returns")]
        annotation_ids = {id(part) for note in notes if note is not None for part in ast.walk(note)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.value, ast.Name)
                and id(node) not in annotation_ids
            ):
                assert node.value.id not in builtin, f"{path}:{node.lineno}: {ast.unparse(node)}"
