"""The names of an experiment's folder: what the project calls them is what the jobs call them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.paths import PACKAGE
from ddqjobs.store import layout
from tests.support.paths import ROOT

# Shell variables of the job scripts and what they stand for; a task's folders have the same names.
_PLACES: dict[str, type] = {
    "results": layout.Layout,
    "submission": layout.SubmissionFolder,
    "DDQJOBS_RUN_DIR": layout.RunFolder,
    "run_dir": layout.RunFolder,
    "attempt_dir": layout.AttemptFolder,
}
# Of jobs alone: the project does not read them.
_OF_JOBS = {
    ("attempt_dir", "hang.json"),
    ("attempt_dir", "loaded.txt"),
    ("attempt_dir", "no_product"),
    ("attempt_dir", "stopped.json"),
    ("attempt_dir", "proof.json"),
    ("attempt_dir", "refused"),
    ("attempt_dir", "task_exit"),
    ("submission", "meet"),
}


def names(kind: type) -> set[str]:
    """The first component of every path that a class of the layout makes."""
    instance = kind(Path("/x"))
    paths = {
        getattr(instance, name) for name, _ in inspect.getmembers(kind, lambda m: isinstance(m, property))
    }
    if kind is layout.Layout:
        paths.add(instance.submission("token").path)
    return {path.relative_to("/x").parts[0] for path in paths}


def in_templates() -> Iterator[tuple[str, str, str]]:
    for path in sorted((ROOT / "templates").rglob("*.j2")):
        for match in re.finditer(r"\$\{?(\w+)\}?\"?/([\w.]+)", path.read_text()):
            if match[1] in _PLACES:
                yield path.name, match[1], match[2]


def in_task_code() -> Iterator[tuple[str, str, str]]:
    for path in sorted((PACKAGE / "detect").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Div)
                and isinstance(node.right, ast.Constant)
            ):
                place = getattr(node.left, "attr", getattr(node.left, "id", ""))
                if place in _PLACES:
                    yield path.name, place, str(node.right.value)


def test_jobs_use_the_names_of_the_layout() -> None:
    uses = [*in_templates(), *in_task_code()]
    assert {(place, name) for _, place, name in uses} >= {
        ("results", "claims"), ("results", "runs"), ("results", "submissions"), ("results", "code"),
        ("submission", "manifest.jsonl"), ("submission", "elements.sh"),
        ("DDQJOBS_RUN_DIR", "attempts"), ("run_dir", "product.json"),
        ("attempt_dir", "started.json"), ("attempt_dir", "exit.json"), ("attempt_dir", "stdout.log"),
    }  # fmt: skip
    unknown = [
        (file, place, name)
        for file, place, name in uses
        if name not in names(_PLACES[place]) and (place, name) not in _OF_JOBS
    ]
    assert not unknown


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (layout.Layout(Path("r/e")).run("p3.x").attempt(2).log, "r/e/runs/p3.x/attempts/2/stdout.log"),
        (layout.Layout(Path("r/e")).submission("t").script, "r/e/submissions/t/job.sh"),
        (layout.Layout(Path("r/e")).cache, "r/e/report/cache"),
        (layout.Layout(Path("r/e")).in_run("x", "product.json"), "r/e/runs/x/product.json"),
    ],
)  # fmt: skip
def test_where_things_lie(path: Path | str, expected: str) -> None:
    assert str(path) == expected


def test_checkpoints_of_all_attempts_are_found(tmp_path: Path) -> None:
    places = layout.Layout(tmp_path)
    for run, number in (("a", 1), ("a", 2), ("b", 1)):
        work_dir = places.run(run).attempt(number).work_dir
        work_dir.mkdir(parents=True)
        (work_dir / "epoch_1.pth").touch()
        (work_dir / "notes.txt").touch()
    assert len(list(places.checkpoints())) == 3
    assert {path.parent.parent.name for path in places.run("a").checkpoints()} == {"1", "2"}


def test_a_project_has_results_once_something_was_submitted(tmp_path: Path) -> None:
    (tmp_path / "results" / "mini" / "runs").mkdir(parents=True)
    assert not layout.has_results(tmp_path)
    layout.Layout(tmp_path / "results" / "mini").ledger.mkdir()
    assert layout.has_results(tmp_path)
