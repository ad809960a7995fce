"""Code trees and input files that an experiment names by path count with their content."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.detect import tree
from ddqjobs.planning import fingerprint
from ddqjobs.planning.filters import Filters
from ddqjobs.planning.fingerprint import Fingerprints
from ddqjobs.spec.model import FailureClass, Status
from tests.support.trivial import EXPERIMENT, TrivialProject, task, until

TOOL = '#!/bin/sh\ntouch {gate}.asked; until [ -e {gate} ]; do sleep 0.02; done; echo old > "$1/out"\n'


def git(folder: Path, *arguments: str) -> None:
    named = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(folder), *arguments]
    done = process.run(named, timeout=60)
    assert done.code == 0, done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a tree"
    folder.mkdir()
    (folder / ".gitignore").write_text("build/\n")
    (folder / "train.py").write_text("first")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def edit(folder: Path) -> None:
    (folder / "train.py").write_text("other")


def stage(folder: Path) -> None:
    edit(folder)
    git(folder, "add", "-A")


def commit(folder: Path) -> None:
    git(folder, "commit", "-q", "--allow-empty", "-m", "second")


def add(folder: Path) -> None:
    (folder / "new.py").write_text("1")


def add_other(folder: Path) -> None:
    (folder / "new.py").write_text("2")


def link(folder: Path) -> None:
    (folder / "data").symlink_to("/somewhere")


@pytest.mark.parametrize("change", [edit, stage, commit, add, link])
def test_whatever_git_does_not_ignore_counts(checkout: Path, change: Callable[[Path], None]) -> None:
    before = tree.digest(checkout)
    assert before == tree.digest(checkout)
    change(checkout)
    assert tree.digest(checkout) != before


def test_untracked_files_count_with_their_content(checkout: Path) -> None:
    add(checkout)
    before = tree.digest(checkout)
    add_other(checkout)
    assert tree.digest(checkout) != before


def test_what_git_ignores_does_not_count(checkout: Path) -> None:
    before = tree.digest(checkout)
    (checkout / "build").mkdir()
    (checkout / "build" / "ops.so").write_bytes(b"\x00")
    assert tree.digest(checkout) == before


def test_without_git_the_sources_count(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train.py").write_text("1")
    before = tree.digest(tmp_path)
    (tmp_path / "epoch_1.pth").write_text("weights")
    assert tree.digest(tmp_path) == before
    (tmp_path / "tools" / "train.py").write_text("2")
    assert tree.digest(tmp_path) != before
    assert tree.digest(tmp_path / "nowhere") == ""


@pytest.mark.parametrize("versioned", [True, False])
def test_what_runs_write_into_the_tree_does_not_count(checkout: Path, versioned: bool) -> None:
    if not versioned:
        shutil.rmtree(checkout / ".git")
    before = tree.digest(checkout)
    for folder in ("results/mini/runs/r", "work_dirs/x", "tools/__pycache__"):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "run.json").write_text("{}")
    assert tree.digest(checkout) == before


def test_a_broken_repository_is_told_in_one_line(checkout: Path) -> None:
    (checkout / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(tree.UntoldError) as error:
        tree.digest(checkout)
    assert "\n" not in str(error.value)
    outside = Fingerprints(checkout.parent)
    assert outside.tree("a tree") == ""
    assert "its changes are not noticed" in outside.warnings[0]
    assert tree.main([str(checkout), "0" * 64]) == 0  # a job is not stopped by a guess


def with_tree(trivial: TrivialProject, checkout: Path, gate: Path) -> None:
    """``first`` runs a tool of the tree, which waits for ``gate`` and blocks the only CPU for ``second``."""
    tool = checkout / "tool.sh"
    tool.write_text(TOOL.format(gate=gate))
    tool.chmod(0o755)
    code = {"path": str(checkout), "commands": {"prepare": ["./tool.sh", "{work_dir}"]}}
    site = {"base": "local", "grace": "0s", "local": {"cpus": 1}}
    trivial.write("templates/local/site.yaml", site)
    definition = {"kind": "prepare", "code": "shell", "once": True, "products": {"out": "out"}}
    trivial.tasks({"first": definition, "second": definition}, codes={"shell": code})


def test_a_job_that_waited_does_not_run_a_tree_that_has_changed(
    trivial: TrivialProject, checkout: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with_tree(trivial, checkout, gate)
    assert len(trivial.open().submit(EXPERIMENT).submitted) == 2
    until(gate.with_name("gate.asked").exists)
    edit(checkout)
    gate.touch()
    plan = trivial.until_over()
    waited = plan["second"]
    assert (waited.status, waited.failure) == (Status.FAILED, FailureClass.CODE)
    assert "changed since this run was submitted" in waited.reason
    assert not (trivial.results / "runs" / "second" / "product.json").exists()
    assert plan["first"].stale == "stale: code changed since it ran"

    project = trivial.open()
    former_plan = project.plan(EXPERIMENT)
    project.retry(former_plan, [planned for planned in former_plan.runs if planned.run.name == "second"])
    project.submit(EXPERIMENT, Filters(runs=("second",)))
    assert trivial.until_over()["second"].status is Status.DONE


def test_another_file_at_the_same_path_makes_a_run_stale(trivial: TrivialProject, tmp_path: Path) -> None:
    weights = tmp_path / "released.pth"
    weights.write_text("first")
    trivial.tasks({"first": task(inputs={"checkpoint": f"path:{weights}"})})
    assert trivial.submit_all()["first"].stale == ""
    weights.write_text("again")
    assert trivial.run("first").stale == "stale: data changed since it ran"
    weights.write_text("first")
    assert trivial.run("first").stale == ""


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    old = Path(fingerprint.__file__)  # nobody has just written it
    cache = tmp_path / "results" / ".fingerprints.json"

    def read(path: str) -> str:
        return Fingerprints(tmp_path).file(path).sha256

    first = read(str(old))
    cache.write_text(cache.read_text().replace(first, "kept"))
    assert read(str(old)) == "kept"
    monkeypatch.setenv("FOLDER", str(old.parent))
    assert read(f"$FOLDER/{old.name}") == "kept"
    cache.write_bytes(b"torn")
    assert read(str(old)) == first
    assert read("nowhere.pth") == ""
