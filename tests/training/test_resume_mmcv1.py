"""The hook for mmcv 1.x in real trainings with mmcv 1.4.7's runner, without its compiled ops.

mmcv comes from its source, put before the newer one of a built environment. Where it cannot be had the tests
are skipped, and say why.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.detect.job import logs, progress
from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support.paths import ROOT

PROGRAM = ROOT / "tests" / "support" / "mmcv1_training.py"
PER_EPOCH, ITERATIONS = 6, 12
_LIMIT_S = 600.0


@pytest.fixture(scope="module")
def mmcv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mmcv 1.4.7, built from its source without ops."""
    tools, folder = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("mmcv")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
    variables = {**os.environ, "MMCV_WITH_OPS": "0", "PYTHONPATH": str(tools)}
    for arguments in (
        [str(tools), "setuptools<81", "wheel"],  # its setup.py imports pkg_resources
        [str(folder), "--no-deps", "--no-build-isolation", "mmcv==1.4.7"],
    ):
        done = process.run([*pip, *arguments], timeout=_LIMIT_S, env=variables)
        if done.code:
            pytest.skip(
                f"NOT TESTED with mmcv 1.x: {arguments[-1]} cannot be installed: {done.stderr[-300:]}"
            )
    return folder


class Training:
    """A run of the program in attempts."""

    def __init__(self, root: Path, mmcv: Path, workers: int, iterations: int = 0) -> None:
        self.root, self.mmcv, self.workers, self.attempts = root, mmcv, workers, 0
        self.iterations = iterations  # where it has no epochs
        root.mkdir()
        (root / "claim").write_text("run 1\n")
        place = environment.location(ROOT / ".environments", environment.load("mini-new", Files(ROOT)))
        self.python = place / "bin" / "python"
        if not self.python.exists():
            pytest.fail("environment mini-new is not built: make environments")

    @property
    def work_dir(self) -> Path:
        return self.root / "attempts" / str(self.attempts) / "work_dir"

    def attempt(self, what: str = "nothing", at: int = 0) -> process.Completed:
        self.attempts += 1
        self.work_dir.mkdir(parents=True)
        folder = self.work_dir.parent
        variables = {
            "PYTHONPATH": os.pathsep.join([str(self.mmcv), str(ROOT)]),
            "DDQJOBS_RUN_DIR": str(self.root),
            "DDQJOBS_ATTEMPT": str(self.attempts),
            "DDQJOBS_ATTEMPT_DIR": str(folder),
            "DDQJOBS_CLAIM": str(self.root / "claim"),
            "DDQJOBS_STOP": str(folder / "stop"),
            "OMP_NUM_THREADS": "1",
        }
        argv = [str(self.python), str(PROGRAM), str(self.work_dir), str(self.workers), what, str(at)]
        argv.append(str(self.iterations))
        return process.run(argv, timeout=_LIMIT_S, env={**os.environ, **variables})

    def rows(self) -> list[dict[str, Any]]:
        """All logged lines of all attempts, without what clocks decide."""
        lines = [line for path in logs.log_files(self.work_dir) for line in path.read_text().splitlines()]
        rows = [json.loads(line) for line in lines]
        noise = ("time", "data_time", "memory")
        return [{k: v for k, v in row.items() if k not in noise} for row in rows if "mode" in row]

    def repeated(self) -> int:
        folders = [self.root / "attempts" / str(n + 1) / "work_dir" for n in range(self.attempts)]
        return progress.repeated(s for s in map(progress.read, folders) if s)


@pytest.fixture(scope="module")
def undisturbed(mmcv: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    training = Training(tmp_path_factory.mktemp("mmcv1") / "full", mmcv, 0)
    done = training.attempt()
    assert done.code == 0, done.stderr
    assert len(training.rows()) == ITERATIONS // 2
    return training.rows()


@pytest.mark.bits
def test_stopped_trainings_log_what_an_undisturbed_one_logs(
    mmcv: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", mmcv, 2)
    for at in (3, PER_EPOCH, 9):
        done = training.attempt("stop", at)
        assert done.code == 75, done.stderr
    done = training.attempt()
    assert done.code == 0, done.stderr
    assert training.rows() == undisturbed
    assert training.repeated() == 0


@pytest.mark.bits
def test_a_killed_training_repeats_what_came_after_its_last_checkpoint(
    mmcv: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", mmcv, 0)
    assert training.attempt("kill", 11).code == -9
    done = training.attempt()
    assert done.code == 0, done.stderr
    assert training.repeated() == 10 - 8
    last = {(row["epoch"], row["iter"]): row for row in training.rows()}
    assert list(last.values()) == undisturbed


@pytest.mark.bits
def test_a_training_by_iterations_goes_on_too(mmcv: Path, tmp_path: Path) -> None:
    whole = Training(tmp_path / "full", mmcv, 0, iterations=10)
    done = whole.attempt()
    assert done.code == 0, done.stderr
    assert [row["iter"] for row in whole.rows()] == [2, 4, 6, 8, 10]
    best = done.stdout.splitlines()[-1]
    training = Training(tmp_path / "run", mmcv, 2, iterations=10)
    for what, at, code in [("stop", 3, 75), ("stop", PER_EPOCH, 75), ("kill", 8, -9), ("nothing", 0, 0)]:
        done = training.attempt(what, at)
        assert done.code == code, done.stderr
    assert training.repeated() == 7 - PER_EPOCH  # it was killed in its eighth iteration, after seven
    last = {row["iter"]: row for row in training.rows()}
    assert list(last.values()) == whole.rows()
    assert done.stdout.splitlines()[-1] == best
    assert (training.work_dir / "iter_10.pth").exists()


def test_a_runner_of_its_own_is_refused_in_one_line_before_it_begins(mmcv: Path, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", mmcv, 0)
    done = training.attempt("own runner")
    assert done.code == 1
    assert done.stderr.splitlines()[-1].endswith(
        "OwnRunner: no loop that goes on where it was interrupted; use mmengine's or mmcv's own, by epochs "
        "or by iterations, or leave ResumeHook out"
    )
    assert training.rows() == []
