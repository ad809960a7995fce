"""Name what changed since stale runs ran, from the snapshot that a job ran and the files of today."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ddqjobs.planning.changes import Change, Then, grouped, of_run
from ddqjobs.planning.digest import Digester
from ddqjobs.spec.model import Input, Run
from tests.support.trivial import a_run

FILES = {
    "configs/base.py": "lr = 0.1\n",
    "configs/model.py": "_base_ = 'base.py'\ndepth = 18\n",
    "ddqjobs/detect/train.py": "from ddqjobs.detect.job import logs\nEPOCHS = 12\n",
    "ddqjobs/detect/job/logs.py": "WIDTH = 3\n",
}
RUN = a_run("train", config="configs/model.py", command=("python", "-m", "ddqjobs.detect.train"))


def tree(folder: Path, changed: dict[str, str] | None = None) -> Digester:
    for name, text in {**FILES, **(changed or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def find(relative: str) -> Path | None:
        path = folder / relative
        return path if path.is_file() else None

    return Digester(find, find, {})


def digest(config: str = "c", code: str = "c", **parts: str) -> str:
    names = ("definition", "config", "code", "environment", "data", "upstream")
    return "2:" + "-".join({"config": config, "code": code, **parts}.get(name, "0") for name in names)


def compare(tmp_path: Path, then: Then, now: Run, changed: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return of_run(then, now, tree(tmp_path / "then"), tree(tmp_path / "now", changed))


def stale(**parts: str) -> tuple[Then, Run]:
    then = msgspec.structs.replace(RUN, digest=digest())
    return Then(run=then, version="0.1.0"), msgspec.structs.replace(RUN, digest=digest(**parts))


def test_task_code_is_named_by_its_file(tmp_path: Path) -> None:
    then, now = stale(code="d")
    edited = {"ddqjobs/detect/job/logs.py": "WIDTH = 4\n"}
    assert compare(tmp_path, then, now, edited) == {"code": ("ddqjobs/detect/job/logs.py",)}


def test_a_comment_is_no_change_of_a_file(tmp_path: Path) -> None:
    then, now = stale(code="d")
    edited = {
        "ddqjobs/detect/train.py": FILES["ddqjobs/detect/train.py"] + "# new\n",
        "ddqjobs/detect/job/logs.py": "WIDTH = 4\n",
    }
    assert compare(tmp_path, then, now, edited) == {"code": ("ddqjobs/detect/job/logs.py",)}


def test_a_configuration_is_named_by_the_base_that_changed(tmp_path: Path) -> None:
    then, now = stale(config="d")
    assert compare(tmp_path, then, now, {"configs/base.py": "lr = 0.2\n"}) == {"config": ("configs/base.py",)}


def test_a_changed_tree_is_named_by_its_code(tmp_path: Path) -> None:
    then, now = stale(code="d")
    now = msgspec.structs.replace(now, code="release")
    assert compare(tmp_path, then, now, {}) == {"code": ("the code tree of release",)}


@pytest.mark.parametrize(
    ("edit", "keys"),
    [
        ({"seed": 7}, ("seed",)),
        ({"options": ("a=1",), "deterministic": True}, ("deterministic", "options")),
        ({"inputs": (("init", Input(artifact="", path="w.pth")),)}, ("inputs",)),
    ],
)
def test_a_definition_is_named_by_its_keys(
    tmp_path: Path, edit: dict[str, object], keys: tuple[str, ...]
) -> None:
    then, now = stale(definition="1")
    assert compare(tmp_path, then, msgspec.structs.replace(now, **edit), {}) == {"definition": keys}


def test_an_environment_is_named(tmp_path: Path) -> None:
    then, now = stale(environment="1")
    now = msgspec.structs.replace(now, environment="mini-new")
    assert compare(tmp_path, then, now, {}) == {"environment": ("mini-new",)}


def test_without_its_snapshot_a_change_of_code_has_no_files(tmp_path: Path) -> None:
    then, now = stale(code="d", config="d")
    then = msgspec.structs.replace(then, snapshot=False)
    explanation = ("not recorded when it ran",)
    assert compare(tmp_path, then, now, {}) == {"config": explanation, "code": explanation}


def test_runs_that_changed_alike_are_told_together() -> None:
    code = {"code": ("ddqjobs/detect/train.py",)}
    changed_runs = [("a", "0.1.0", code), ("b", "", code), ("c", "0.1.0", {"environment": ("mini-new",)})]
    assert grouped(changed_runs) == (
        Change(part="code", what=("ddqjobs/detect/train.py",), runs=("a", "b"), versions=("0.1.0",)),
        Change(part="environment", what=("mini-new",), runs=("c",), versions=("0.1.0",)),
    )


def test_an_upstream_change_is_told_only_where_nothing_else_changed() -> None:
    changed_runs = [
        ("a", "", {"code": ("x.py",), "upstream": ("data",)}),
        ("b", "", {"upstream": ("a",)}),
    ]
    assert [(change.part, change.runs) for change in grouped(changed_runs)] == [
        ("code", ("a",)),
        ("upstream", ("b",)),
    ]
