"""A real training of the nano configuration, stopped and taken up again. Needs the environment mini-new."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmcv")

from ddqjobs.detect import product
from ddqjobs.detect.job import progress
from tests.support import processor
from tests.support.paths import ROOT

CONFIG = ROOT / "experiments" / "configs" / "nano" / "ddq-detr_r18_shapes.py"
OPTIONS = ["--cfg-options", "randomness.seed=5", "train_cfg.max_epochs=3"]
DATASET = ["--images-train", "8", "--images-val", "2", "--size", "96x64", "--classes", "3"]


class Job:
    """Runs programs of ddqjobs.detect as the launch script would."""

    def __init__(self, root: Path, where: dict[str, str] = processor.ON_THE_CPU) -> None:
        self.root, self.where = root, where
        (root / "claim").write_text("run 1\n")

    def start(self, attempt: int, *arguments: object) -> subprocess.Popen[str]:
        variables = {
            **processor.variables(self.where, ROOT),
            "DDQJOBS_INPUT_DATA": str(self.root / "data"),
            "DDQJOBS_RUN_DIR": str(self.root / "run"),
            "DDQJOBS_ATTEMPT": str(attempt),
            "DDQJOBS_STOP": str(self.root / "run" / "attempts" / str(attempt) / "stop"),
            "DDQJOBS_CLAIM": str(self.root / "claim"),
            "DDQJOBS_ATTEMPT_DIR": str(self.root / "run" / "attempts" / str(attempt)),
            "DDQJOBS_GPUS": "2",  # processes, where a launcher starts them
        }
        Path(variables["DDQJOBS_ATTEMPT_DIR"]).mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", *map(str, arguments)]
        output = subprocess.STDOUT
        deaf = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as the launch script starts a training
        try:
            return subprocess.Popen(
                argv,
                env=variables,
                text=True,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGTERM, deaf)

    def run(self, attempt: int, *arguments: object) -> tuple[int, str]:
        process = self.start(attempt, *arguments)
        text, _ = process.communicate(timeout=600)
        return process.returncode, text

    def work_dir(self, attempt: int) -> Path:
        folder = self.root / "run" / "attempts" / str(attempt) / "work_dir"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    job = Job(tmp_path_factory.mktemp("job"))
    arguments = ["ddqjobs.detect.prepare", "dataset", "--out", job.root / "data", *DATASET]
    assert job.run(0, *arguments)[0] == 0
    return job


@pytest.mark.bits
def test_stopped_and_resumed_training_is_the_uninterrupted_one(job: Job) -> None:
    stop_and_resume(job, *OPTIONS)


@pytest.mark.gpu
def test_on_a_gpu_too_if_it_is_deterministic(job: Job, tmp_path: Path) -> None:
    processor.require(processor.ON_A_GPU)
    on_gpu = Job(tmp_path, processor.ON_A_GPU)
    (tmp_path / "data").symlink_to(job.root / "data")
    stop_and_resume(on_gpu, *OPTIONS, "randomness.deterministic=True")


def stop_and_resume(job: Job, *options: str) -> None:
    full = job.root / "full"
    train = ["ddqjobs.detect.train", CONFIG, "--work-dir"]
    assert job.run(1, *train, full, *options)[0] == 0

    first = job.work_dir(1)
    process = job.start(1, *train, first, *options)
    while process.poll() is None and (progress.read(first) or progress.Stretch(0, 0)).end < 2:
        time.sleep(0.1)
    (first.parent / "stop").touch()
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 75, text
    assert "a stop was asked for, at epoch 1, iteration" in text

    second = job.work_dir(2)
    assert job.run(2, *train, second, *options)[0] == 0
    for kind, a, b in [("losses", full, second), ("weights", full / "epoch_3.pth", second / "epoch_3.pth")]:
        code, text = job.run(2, "ddqjobs.detect.align", kind, a, b, "--out", job.root / f"{kind}.json")
        assert code == 0, text
        assert "align: bit-equal" in text


def test_attempt_that_was_given_up_writes_no_checkpoint(job: Job) -> None:
    third = job.work_dir(3)
    job.work_dir(4)
    longer = [*OPTIONS[:-1], "train_cfg.max_epochs=4"]
    code, text = job.run(3, "ddqjobs.detect.train", CONFIG, "--work-dir", third, *longer)
    assert code == 75, text
    assert "attempt 4 is newer" in text
    taken_over = {path.name for path in job.work_dir(2).glob("*.pth")}
    assert {path.name for path in third.glob("*.pth")} <= taken_over


def test_checkpoint_that_lacks_weights_is_not_tested(job: Job) -> None:
    import torch

    torch.save({"state_dict": {}}, job.root / "empty.pth")
    arguments = ["ddqjobs.detect.test", CONFIG, job.root / "empty.pth", "--work-dir", job.root / "t"]
    code, text = job.run(1, *arguments)
    assert code == 2
    assert "lacks 194 weights" in text


BY_ITERATIONS = """
_base_ = {base!r}
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=3)
default_hooks = dict(checkpoint=dict(by_epoch=False))
"""


def test_a_training_by_iterations_is_stopped_goes_on_and_leaves_its_product(job: Job, tmp_path: Path) -> None:
    run = Job(tmp_path)
    (tmp_path / "data").symlink_to(job.root / "data")
    config = tmp_path / "iterations.py"
    config.write_text(BY_ITERATIONS.format(base=str(CONFIG)))
    arguments = ("ddqjobs.detect.train", config, "--cfg-options", "randomness.seed=5", "--work-dir")
    first = run.work_dir(1)
    process = run.start(1, *arguments, first)
    while process.poll() is None and (progress.read(first) or progress.Stretch(0, 0)).end < 1:
        time.sleep(0.1)
    (first.parent / "stop").touch()
    text, _ = process.communicate(timeout=300)
    assert (process.returncode, "a stop was asked for, at iteration" in text) == (75, True), text
    with pytest.raises(product.NotWhole, match=r"iter_4\.pth"):
        product.look({"kind": "train"}, first)
    second = run.work_dir(2)
    code, text = run.run(2, *arguments, second)
    assert code == 0, text
    result = product.look({"kind": "train"}, second)
    assert result.artifacts["checkpoint"] == Path("iter_4.pth")
    assert (set(result.metrics) >= {"bbox_mAP"}, result.report["iterations"]) == (True, 4)


GROUP = """
import atexit, sys, torch, torch.distributed as dist
from ddqjobs.detect.training import distributed

dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
model(torch.ones(1, 2)).sum().backward()
# In one piece: two processes say it.
atexit.register(lambda: sys.stdout.write(f"in a group: {dist.is_initialized()}\\n"))
distributed.finish(0)
"""


def test_processes_leave_their_group_before_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Job(tmp_path)
    program = tmp_path / "group.py"
    program.write_text(GROUP)
    monkeypatch.setenv("DDQJOBS_PORT", run.run(0, "ddqjobs.detect.launch", "--port", 22000)[1].strip())
    code, text = run.run(1, "ddqjobs.detect.launch", "torchrun", sys.executable, program)
    assert (code, text.count("in a group: False")) == (0, 2), text


def test_processes_of_a_launcher_save_when_everyone_is_told_to_terminate(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm sends TERM to every process of a job that it preempts, torch's launcher among them."""
    run = Job(tmp_path)
    (tmp_path / "data").symlink_to(job.root / "data")
    port = run.run(0, "ddqjobs.detect.launch", "--port", 21000)[1].strip()
    launch = ["ddqjobs.detect.launch", "torchrun", sys.executable, "-m", "ddqjobs.detect.train", CONFIG]
    first = run.work_dir(1)
    monkeypatch.setenv("DDQJOBS_PORT", port)
    process = run.start(1, *launch, "--work-dir", first, *OPTIONS)
    while process.poll() is None and (progress.read(first) or progress.Stretch(0, 0)).end < 2:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGTERM)
    (first.parent / "stop").touch()
    text, _ = process.communicate(timeout=300)
    assert json.loads((first.parent / "stopped.json").read_text())["saved"], text
    second = run.work_dir(2)
    code, text = run.run(2, *launch, "--work-dir", second, *OPTIONS)
    assert code == 0, text
    before, after = progress.read(first), progress.read(second)
    assert before is not None
    assert after == progress.Stretch(before.end, 6)  # 8 images, 2 processes, 2 at a time, 3 epochs
