"""mmdet 2.22.0 with mmcv 1.4.7, and mmdet 3.3.0 with mmengine 0.7.1, both with torch 1.9.0, train through
``submit``: stopped, killed, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.detect.job import logs, progress
from ddqjobs.environments import environment as environments
from ddqjobs.planning.filters import one_run
from ddqjobs.project import open_project
from ddqjobs.spec.shipped import Files
from tests.legacy.conftest import BUILT, PROJECT, Stack
from tests.support.paths import ROOT
from tests.support.trivial import until

MODELS = {"epochs": "legacy-cpu", "iterations": "legacy-cpu", "mmengine": "new-detr-cpu"}
CONFIGS = PROJECT / "experiments" / "configs" / "legacy"
EVERY = 3  # iterations from checkpoint to checkpoint: legacy.yaml
_LIMIT_S = 300.0
_SAVED = 'import hashlib, sys, torch; d = torch.load(sys.argv[1], map_location="cpu")["state_dict"]; ' + (
    "print(hashlib.sha256(b''.join(v.numpy().tobytes() for v in d.values())).hexdigest(), len(d))"
)


@pytest.fixture(scope="module")
def stacked(stack: Stack) -> Stack:
    """The stack with its data and the trainings that nobody disturbs, tested."""
    done = stack.ddqjobs("submit", "legacy", "--wait", "--task", "data")
    assert done.code == 0, done.stdout + done.stderr
    arguments = ["--task", "train", "--task", "test", "--variant", "undisturbed"]
    done = stack.ddqjobs("submit", "legacy", "--wait", *arguments)
    assert done.code == 0, done.stdout + done.stderr
    return stack


def rows(stack: Stack, run: str) -> list[dict[str, Any]]:
    """All logged training lines of all attempts, the last of each iteration, without what clocks decide."""
    last: dict[tuple[int, int], dict[str, Any]] = {}
    folder = stack.run(run) / "artifacts" / "checkpoint"
    for path in logs.log_files(folder.resolve().parent):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row.get("mode") == "train" or ("mode" not in row and "loss" in row):  # mmcv's, mmengine's
                fields = {k: v for k, v in row.items() if k not in ("time", "data_time", "memory")}
                last[row["epoch"], row.get("iter") or row["step"]] = fields
    return [last[place] for place in sorted(last)]


def weights(stack: Stack, run: str) -> str:
    """A digest of the final weights."""
    return digest(MODELS[run.split(".")[1]], stack.run(run) / "artifacts" / "checkpoint")


def digest(environment: str, checkpoint: Path) -> str:
    """A digest of the weights in a checkpoint that an environment can read."""
    return python(environment, "-W", "ignore", "-c", _SAVED, str(checkpoint), data=None)


def python(environment: str, *arguments: str, data: Path | None) -> str:
    """The output of a program that runs in an environment, with our package and the data set at hand."""
    place = environments.location(BUILT, environments.load(environment, Files(PROJECT)))
    known = {**os.environ, "PYTHONPATH": str(ROOT), "DDQJOBS_INPUT_DATA": str(data)}
    done = process.run([str(place / "bin" / "python"), *arguments], timeout=_LIMIT_S, env=known)
    assert done.code == 0, done.stdout + done.stderr
    return done.stdout


def at_iteration(stack: Stack, run: str, number: int) -> Path:
    """Submit a run and wait until so many iterations are done; the attempt's folder."""
    done = stack.ddqjobs("submit", "legacy", run)
    assert done.code == 0, done.stdout + done.stderr
    attempt = stack.run(run) / "attempts" / "1"

    def reached() -> bool:
        stretch = progress.read(attempt / "work_dir")
        return (attempt / "exit.json").exists() or (stretch is not None and stretch.end >= number)

    until(reached, _LIMIT_S)
    assert not (attempt / "exit.json").exists(), (attempt / "stdout.log").read_text()[-2000:]
    return attempt


def finished(stack: Stack, run: str) -> dict[str, Any]:
    """Wait for a run, started again if it failed; the report of its product."""
    done = stack.ddqjobs("submit", "legacy", run, "--wait")
    if done.code:
        assert stack.ddqjobs("retry", "legacy", run).code == 0
        done = stack.ddqjobs("submit", "legacy", run, "--wait")
    assert done.code == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((stack.run(run) / "product.json").read_text())["report"]
    return report


def tell(attempt: Path, name: str, number: signal.Signals) -> None:
    """Signal the task's own Python, not its launch script."""
    mark = {"DDQJOBS_ATTEMPT_DIR": str(attempt)}
    for pid in process.with_environment(mark):
        if name in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, number)


@pytest.mark.parametrize("model", MODELS)
def test_a_training_ends_with_weights_that_can_be_tested(model: str, stacked: Stack) -> None:
    assert len(rows(stacked, f"train.{model}.undisturbed")) == 16
    product = json.loads((stacked.run(f"test.{model}.undisturbed") / "product.json").read_text())
    assert min(value for name, value in product["metrics"].items() if name.endswith("bbox_mAP")) >= 0


@pytest.mark.parametrize("model", MODELS)
def test_a_requeued_training_goes_on_as_if_nothing_had_happened(model: str, stacked: Stack) -> None:
    run = f"train.{model}.stopped"
    at_iteration(stacked, run, 2)
    project = open_project(stacked.root)
    job = one_run(project.plan("legacy"), run).job
    project.workspace("legacy").scheduler("local").requeue(job)  # type: ignore[attr-defined]
    report = finished(stacked, run)
    # TERM reaches the data loader's workers too: one that ends before the iteration does ends the attempt,
    # and what came after the last checkpoint is done again.
    assert report["attempts"] == 2
    assert report["repeated_iterations"] <= EVERY
    assert rows(stacked, run) == rows(stacked, f"train.{model}.undisturbed")
    assert weights(stacked, run) == weights(stacked, f"train.{model}.undisturbed")


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_training_goes_on_from_its_last_checkpoint(model: str, stacked: Stack) -> None:
    run = f"train.{model}.killed"
    tell(at_iteration(stacked, run, 4), "train.py", signal.SIGKILL)
    report = finished(stacked, run)
    assert report["attempts"] == 2
    assert rows(stacked, run) == rows(stacked, f"train.{model}.undisturbed")
    assert weights(stacked, run) == weights(stacked, f"train.{model}.undisturbed")


@pytest.mark.parametrize("model", MODELS)
def test_a_training_at_its_time_limit_goes_on_in_another_attempt(model: str, stacked: Stack) -> None:
    run = f"limited.{model}"
    attempt = at_iteration(stacked, run, 2)
    # A fast machine is done before the limit: the training rests until it is warned.
    tell(attempt, "train.py", signal.SIGSTOP)
    until((attempt / "stop").exists, _LIMIT_S)
    tell(attempt, "train.py", signal.SIGCONT)
    report = finished(stacked, run)
    assert report["attempts"] >= 2
    assert report["repeated_iterations"] == 0
    assert json.loads((attempt / "exit.json").read_text())["failure"] == "timeout"
    assert rows(stacked, run) == rows(stacked, f"train.{model}.undisturbed")
    assert weights(stacked, run) == weights(stacked, f"train.{model}.undisturbed")


def test_mmdet_2_dumps_what_every_module_makes_of_images(stacked: Stack, tmp_path: Path) -> None:
    dump = tmp_path / "dump.npz"
    arguments = ["-m", "ddqjobs.detect.capture", str(CONFIGS / "retinanet_mmdet2.py"), "--mode", "predict"]
    weights = str(stacked.run("train.epochs.undisturbed") / "artifacts" / "checkpoint")
    data = stacked.run("data") / "artifacts" / "data"
    python(
        "legacy-cpu", *arguments, "--weights", weights, "--images", "0", "1", "--out", str(dump), data=data
    )
    with zipfile.ZipFile(dump) as arrays:
        names = " ".join(arrays.namelist())
    assert "|data|0|inputs.npy" in names
    assert "|bbox_head.retina_cls|" in names


def test_weights_of_mmcv_1_are_the_same_in_mmdet_3_once_converted(stacked: Stack, tmp_path: Path) -> None:
    checkpoint = stacked.run("train.epochs.undisturbed") / "artifacts" / "checkpoint"
    out = tmp_path / "converted.pth"
    argv = ["-m", "ddqjobs.detect.convert", str(checkpoint), "--out", str(out)]
    argv += ["--config", str(CONFIGS / "retinanet_mmdet3.py"), "--report", str(tmp_path / "convert.json")]
    python("new-detr-cpu", *argv, data=tmp_path)
    assert digest("new-detr-cpu", out) == weights(stacked, "train.epochs.undisturbed")


def test_a_worker_that_is_killed_under_the_launcher_of_torch_1_9_ends_the_attempt(stacked: Stack) -> None:
    done = stacked.ddqjobs("submit", "legacy", "two")
    assert done.code == 0, done.stdout + done.stderr
    attempt = stacked.run("two") / "attempts" / "1"
    until(lambda: len(list(attempt.glob("work_dir/pid*"))) == 2, _LIMIT_S)
    began = time.monotonic()
    os.kill(int((attempt / "work_dir" / "pid1").read_text()), signal.SIGKILL)
    until(lambda: (attempt / "exit.json").exists(), 60)
    assert time.monotonic() - began < 60
    assert json.loads((attempt / "exit.json").read_text())["code"] != 0
    finished(stacked, "two")
