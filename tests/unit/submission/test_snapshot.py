"""The code snapshot that a job runs: named by its content, whole, and made once."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import InputError, StateError
from ddqjobs.detect.job.snapshot import problem
from ddqjobs.spec.shipped import Files
from ddqjobs.submission.snapshot import snapshot
from tests.support.trivial import end_of, fork


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "experiments" / "e.yaml"
    (path.parent / "configs" / "__pycache__").mkdir(parents=True)
    (path.parent / "configs" / "mine.py").write_text("lr = 1\n")
    (path.parent / "configs" / "__pycache__" / "mine.pyc").write_text("")
    return path


def make(folder: Path, experiment: Path) -> Path:
    return folder / snapshot(folder, Files(experiment.parent.parent), experiment)


def test_a_snapshot_holds_the_task_code_and_all_configurations(tmp_path: Path, experiment: Path) -> None:
    tree = make(tmp_path / "code", experiment)
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert {"ddqjobs/detect/product.py", "ddqjobs/detect/hooks/resume.py", "configs/mine.py"} <= files
    assert any(name.startswith("configs/mini/") for name in files)
    assert not [name for name in files if "__pycache__" in name or name.startswith("ddqjobs/cli")]


def test_a_plugin_package_of_the_project_is_in_the_snapshot(tmp_path: Path, experiment: Path) -> None:
    names = {"configs/own/__init__.py", "configs/own/model.py", "configs/own/heads/deep.py"}
    for name in names:
        (experiment.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (experiment.parent / name).write_text(f"name = {name!r}\n")
    tree = make(tmp_path / "code", experiment)
    assert {(tree / name).read_text() for name in names} == {f"name = {name!r}\n" for name in names}


def test_task_code_runs_from_the_snapshot_alone(tmp_path: Path, experiment: Path) -> None:
    tree = make(tmp_path / "code", experiment)
    done = process.run(
        ["python3", "-m", "ddqjobs.detect.product"],
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin"},
    )
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("product: cannot be looked for: KeyError")


def test_the_same_content_is_one_snapshot_and_another_is_another(tmp_path: Path, experiment: Path) -> None:
    first = make(tmp_path / "code", experiment)
    time = first.stat().st_mtime_ns
    assert make(tmp_path / "code", experiment) == first
    assert first.stat().st_mtime_ns == time
    (experiment.parent / "configs" / "mine.py").write_text("lr = 2\n")
    assert make(tmp_path / "code", experiment) != first
    assert (first / "configs" / "mine.py").read_text() == "lr = 1\n"


def test_a_file_too_large_for_a_configuration_is_named(tmp_path: Path, experiment: Path) -> None:
    weights = experiment.parent / "configs" / "r50.pth"
    with weights.open("wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(InputError) as refused:
        make(tmp_path / "code", experiment)
    assert str(refused.value) == f"{weights}: larger than 256 MiB; move it out of configs/"
    assert not (tmp_path / "code").exists()


def test_terminals_that_snapshot_at_once_get_the_same_whole_one(tmp_path: Path, experiment: Path) -> None:
    pids = [fork(lambda: make(tmp_path / "code", experiment)) for _ in range(4)]
    assert [end_of(pid) for pid in pids] == [0] * 4
    (only,) = (tmp_path / "code").iterdir()
    assert only == make(tmp_path / "code", experiment)


def test_what_editors_and_file_systems_leave_is_neither_submitted_nor_judged(
    tmp_path: Path, experiment: Path
) -> None:
    files = (".a.py.swp", ".nfs0001", ".DS_Store", "a.py~", ".mine.py.12-ab.tmp", "._mine.py", ".idea/a.py")
    own = experiment.parent / "configs"
    (own / ".base.py").write_text("lr = 1\n")  # a configuration may be called so
    for name in files:
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text("")
    tree = make(tmp_path / "code", experiment)
    assert not [name for name in files if (tree / "configs" / name).exists()]
    for name in files:
        (tree / "configs" / name).parent.mkdir(exist_ok=True)
        (tree / "configs" / name).write_text("")
    assert problem(tree) == ""
    assert make(tmp_path / "code", experiment) == tree
    (tree / "configs" / ".base.py").write_text("lr = 2\n")
    assert problem(tree).startswith(f"{tree}/configs/.base.py is not what was submitted")


def test_terminals_that_mend_at_once_all_succeed(tmp_path: Path, experiment: Path) -> None:
    tree = make(tmp_path / "code", experiment)
    for number in range(100):
        (tree / "configs" / f"new{number}.py").write_text("")
    pids = [fork(lambda: make(tmp_path / "code", experiment)) for _ in range(4)]
    assert [end_of(pid) for pid in pids] == [0] * 4
    assert problem(tree) == ""


def test_who_may_not_mend_a_snapshot_is_told_whom_to_ask(tmp_path: Path, experiment: Path) -> None:
    tree = make(tmp_path / "code", experiment)
    (tree / "configs" / "mine.py").write_text("lr = 2\n")
    (tree / "configs").chmod(0o555)

    def submit() -> None:
        # Of root its capabilities alone.
        ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
        with pytest.raises(StateError) as refused:
            make(tmp_path / "code", experiment)
        what = f"{tree} is not what was submitted, and you may not fix it (Permission denied)"
        message = f"{what}: ask {tree.owner()} to submit, or to move that folder away"
        assert str(refused.value) == message

    assert end_of(fork(submit)) == 0
