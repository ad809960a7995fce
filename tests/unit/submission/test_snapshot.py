"""The code snapshot that a job runs: named by its content, whole, and made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import InputError
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
    made = make(tmp_path / "code", experiment)
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert {"ddqjobs/detect/product.py", "ddqjobs/detect/hooks/resume.py", "configs/mine.py"} <= files
    assert any(name.startswith("configs/mini/") for name in files)
    assert not [name for name in files if "__pycache__" in name or name.startswith("ddqjobs/cli")]


def test_task_code_runs_from_the_snapshot_alone(tmp_path: Path, experiment: Path) -> None:
    made = make(tmp_path / "code", experiment)
    done = process.run(
        ["python3", "-m", "ddqjobs.detect.product"],
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(made), "PATH": "/usr/bin:/bin"},
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
