"""Interrupted trainings, really trained: what they log, to the last bit, is what an undisturbed one logs.

Needs torch, mmengine and mmdet: runs inside the built environments (tests/training/test_in_environments.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import processor

os.environ.update(processor.ON_THE_CPU)  # before torch and mmengine look for a GPU
pytest.importorskip("torch")
pytest.importorskip("mmcv")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's and mmengine's own, while they are imported
    import torch
    from mmengine.registry import LOOPS
    from mmengine.runner import IterBasedTrainLoop, loops

    from tests.support.resume import EPOCHS, ITERATIONS, PER_EPOCH, Outcome, Training, assert_same, outcome

from ddqjobs.detect import product
from ddqjobs.detect.job import checkpoints, progress
from ddqjobs.detect.training import loops as resume_loops

Undisturbed = Callable[..., Outcome]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return the outcome of an undisturbed training with these options; each is trained once."""
    known: dict[str, Outcome] = {}

    def train(**options: Any) -> Outcome:
        key = json.dumps(options, sort_keys=True)
        if key not in known:
            known[key] = outcome(Training(tmp_path_factory.mktemp("full") / "run", **options).until_done())
        return known[key]

    return train


def stops(*iterations: int) -> list[dict[str, Any]]:
    return [{"what": "stop", "at": iteration} for iteration in iterations]


def steps(training: Training) -> list[int]:
    """Iterations in the logs of all attempts together, in the order in which they were done."""
    return [row["step"] for row in training.rows() if "epoch" in row]


def repeated(training: Training) -> int:
    states = [progress.read(training.folder(n) / "work_dir") for n in range(1, training.attempts + 1)]
    return progress.repeated(s for s in states if s)


EVERY_STEP = list(range(1, EPOCHS * PER_EPOCH + 1))


@pytest.mark.bits
@pytest.mark.parametrize(("workers", "at"), [(0, range(PER_EPOCH, 2 * PER_EPOCH + 1)), (2, (3, 8, 9))])
def test_stopped_after_every_iteration_of_an_epoch_in_turn(
    workers: int, at: Iterable[int], tmp_path: Path, undisturbed: Undisturbed
) -> None:
    training = Training(tmp_path / "run", workers).until_done(*stops(*at))
    assert_same(outcome(training), undisturbed())  # by the way: the number of workers changes nothing
    assert steps(training) == EVERY_STEP
    assert repeated(training) == 0


@pytest.mark.bits
def test_killed_where_it_hurts_and_stopped_in_between(tmp_path: Path, undisturbed: Undisturbed) -> None:
    training = Training(tmp_path / "run", 1, every=3)
    training.until_done(
        {"what": "kill", "at": 5}, *stops(6), {"what": "kill", "at": 11}, {"what": "kill", "validation": 2}
    )
    # Killed in the iterations 5 and 11: the finished ones since the checkpoints after 3 and 9.
    assert repeated(training) == 1 + 1
    whole = undisturbed()
    merged = {row["step"]: row for row in training.rows() if "epoch" in row}
    assert [merged[step] for step in EVERY_STEP] == [row for row in whole.rows if "epoch" in row]
    assert outcome(training).best == whole.best
    again = outcome(training)._replace(rows=whole.rows)
    assert_same(again, whole)


@pytest.mark.bits
def test_a_validation_that_was_stopped_is_done_again(tmp_path: Path, undisturbed: Undisturbed) -> None:
    first, later = ({"what": "stop", "validation": iteration} for iteration in (1, 2))
    training = Training(tmp_path / "run").until_done(first, *stops(EPOCHS * PER_EPOCH), later)
    assert_same(outcome(training), undisturbed())
    assert steps(training) == EVERY_STEP


@pytest.mark.bits
def test_a_torn_checkpoint_is_not_resumed_from(tmp_path: Path, undisturbed: Undisturbed) -> None:
    training = Training(tmp_path / "run", every=2)
    training.until_done_but_for({"what": "kill", "at": 7})
    (_, newest), (older, _) = checkpoints.places(training.work_dir)
    newest.write_bytes(newest.read_bytes()[:-100])
    training.until_done()
    assert repeated(training) == 6 - older.batches
    assert_same(outcome(training)._replace(rows=[]), undisturbed()._replace(rows=[]))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False)
    if mount.returncode:
        pytest.skip("NO SMALL FILE SYSTEM CAN BE MOUNTED HERE, SO FULL DISKS ARE NOT TESTED")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


FILL = {"type": "Interrupt", "what": "fill", "at": 5}


@pytest.mark.bits
def test_a_disk_that_is_full_for_a_while_costs_nothing(small_disk: Path, undisturbed: Undisturbed) -> None:
    """The checkpoint after iteration 6 cannot be written, the next one can."""
    training = Training(small_disk / "run", every=2)
    assert training.attempt(FILL, {"type": "Interrupt", "what": "free", "at": 7}) == 0
    assert_same(outcome(training), undisturbed())


@pytest.mark.bits
def test_a_disk_that_stays_full_costs_what_came_after_the_last_checkpoint(
    small_disk: Path, undisturbed: Undisturbed
) -> None:
    training = Training(small_disk / "run", every=2)
    assert training.attempt(FILL) == 1
    assert [place.batches for place, _ in checkpoints.places(training.work_dir)] == [4, 2]
    (training.root / "big").unlink()
    training.until_done()
    assert repeated(training) == PER_EPOCH - 4
    assert_same(outcome(training)._replace(rows=[]), undisturbed()._replace(rows=[]))


def test_the_last_checkpoints_of_all_attempts_stay(tmp_path: Path) -> None:
    training = Training(tmp_path / "run", every=1)
    training.until_done_but_for(*stops(4, 6))
    names = sorted(path.name for path in training.root.glob("attempts/*/work_dir/resume_*"))
    assert names == ["resume_epoch_0_iter_5.pth", "resume_epoch_0_iter_6.pth"]
    assert not list(training.root.glob("attempts/*/work_dir/.*"))


def test_the_retry_of_a_training_that_ended_without_its_product_repeats_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path / "run")

    def train() -> None:
        folder = training.folder(training.attempts + 1)
        folder.mkdir(parents=True)
        run = {"name": "r", "experiment": "e", "kind": "train", "digest": "d"}
        (folder / "run.json").write_text(json.dumps(run))
        training.until_done()

    def look() -> int:
        (training.work_dir / "a.py").write_text(f"train_cfg = dict(max_epochs={EPOCHS})\n")
        names = ("RUN_DIR", "ATTEMPT", "ATTEMPT_DIR", "WORK_DIR", "CLAIM")
        values = (training.root, training.attempts, training.folder(training.attempts), training.work_dir,
                  training.root / "claim")  # fmt: skip
        variables = {f"DDQJOBS_{name}": str(value) for name, value in zip(names, values, strict=True)}
        return product.main({**variables, "DDQJOBS_EXIT_CODE": "0"})

    train()
    for path in [*training.work_dir.glob("epoch_*"), *training.work_dir.glob("best_*")]:
        path.unlink()  # as a full disk, or somebody who tidies up
    assert look() == product.NOT_WHOLE
    last_line = capfd.readouterr().out.splitlines()[-1]
    assert last_line.startswith("product: none: epoch_2.pth")
    assert last_line.endswith(f"; `ddqjobs adopt e r {training.work_dir} --because WHY` adopts it as it is")
    train()
    assert look() == product.OK
    assert steps(training) == EVERY_STEP
    assert repeated(training) == 0
    assert not list(training.root.glob("attempts/*/work_dir/resume_*"))


@pytest.mark.parametrize("how", ["newer attempt", "void claim"])
def test_an_attempt_that_was_given_up_writes_no_checkpoint(how: str, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", every=1)
    assert training.attempt({"type": "Interrupt", "what": how, "at": 4}) == 75
    assert [place.batches for place, _ in checkpoints.places(training.work_dir)] == [3, 2]
    assert "saved" in json.loads((training.folder(1) / "stopped.json").read_text())


def test_a_loss_that_is_no_number_ends_the_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = Training(tmp_path / "run", every=1, poison=4)
    assert training.attempt() == 1
    assert "Diverged: loss is NaN or Inf at epoch 1, iteration 4" in capfd.readouterr().err
    assert [place.batches for place, _ in checkpoints.places(training.work_dir)] == [3, 2]


FINITE, ENDLESS = "DefaultSampler", "InfiniteSampler"  # of which one must be begun again and again
EVERY_ITERATION = list(range(1, ITERATIONS + 1))


def logged(training: Training) -> list[int]:
    """As steps(), where there are no epochs."""
    return [row["step"] for row in training.rows() if "loss" in row]


@pytest.mark.bits
@pytest.mark.parametrize(
    ("sampler", "workers", "processes"), [(FINITE, 2, 1), (ENDLESS, 2, 1), (ENDLESS, 0, 2)]
)
def test_a_training_by_iterations_goes_on_too(
    sampler: str, workers: int, processes: int, tmp_path: Path
) -> None:
    whole = outcome(Training(tmp_path / "full", 0, processes, sampler=sampler).until_done())
    training = Training(tmp_path / "run", workers, processes, sampler=sampler)
    in_a_validation = {"what": "stop", "validation": 1}
    # Before the validations that follow 5, 10 and the last one, at the end of a pass (7), and beside them.
    training.until_done(*stops(4, 5, 7), in_a_validation, *stops(ITERATIONS))
    assert_same(outcome(training), whole)
    assert logged(training) == EVERY_ITERATION
    assert [row["step"] for row in training.rows() if "bbox_mAP" in row] == [5, 10, ITERATIONS]
    assert repeated(training) == 0
    assert {path.name for path in training.work_dir.glob("iter_*")} == {
        "iter_4.pth",
        "iter_8.pth",
        "iter_11.pth",
    }


@pytest.mark.bits
def test_a_training_by_iterations_that_is_killed(tmp_path: Path) -> None:
    whole = outcome(Training(tmp_path / "full", sampler=ENDLESS).until_done())
    training = Training(tmp_path / "run", 1, sampler=ENDLESS, every=3)
    training.until_done({"what": "kill", "at": 9}, {"what": "kill", "validation": 2})
    # Killed in iteration 9, with checkpoints after 3, 5 (before the validation) and 6; then in a validation.
    assert repeated(training) == 8 - 6
    merged = {row["step"]: row for row in training.rows() if "loss" in row}
    assert [merged[step] for step in EVERY_ITERATION] == [row for row in whole.rows if "loss" in row]
    assert_same(outcome(training)._replace(rows=[]), whole._replace(rows=[]))


def test_a_loop_by_iterations_without_the_hook_reads_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops.time, "sleep", lambda _: None)  # mmengine's pause between two passes
    batches = loops._InfiniteDataloaderIterator(torch.utils.data.DataLoader([1, 2, 3]))
    assert [int(next(batches)) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


class OwnLoop(IterBasedTrainLoop):  # type: ignore[misc]
    """Trains as somebody thought fit."""


def test_a_loop_of_its_own_is_refused_in_one_line_before_it_begins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    LOOPS.register_module(module=OwnLoop, force=True)
    training = Training(tmp_path / "run", train_cfg={"type": "OwnLoop", "max_iters": 9})
    assert training.attempt() == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.endswith(
        "OwnLoop: no loop that goes on where it was interrupted; use mmengine's or mmcv's own, by epochs or "
        "by iterations, or leave ResumeHook out"
    )
    assert training.rows() == []


@pytest.mark.bits
@pytest.mark.parametrize(("processes", "at"), [(2, (4,)), (4, (1, 2))])
def test_several_processes_stop_together_and_go_on(
    processes: int, at: tuple[int, ...], tmp_path: Path
) -> None:
    # Wide enough for several buckets, whose order decides the last digits of sums over four processes.
    whole = outcome(Training(tmp_path / "full", processes=processes, width=600).until_done())
    training = Training(tmp_path / "run", processes=processes, width=600).until_done(*stops(*at))
    assert_same(outcome(training), whole)
    assert repeated(training) == 0


class Named(torch.nn.Module):  # type: ignore[misc]
    """Its decoder gets a second name for a part of its head in the first iteration, as DDQ DETR's does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2)
        self.decoder = torch.nn.Module()
        self.seen = torch.nn.BatchNorm1d(2)

    def train_step(self, batch: torch.Tensor, optim_wrapper: Any) -> None:
        self.decoder.branches = self.head
        optim_wrapper.update_params(self.seen(self.head(batch)).sum())


@pytest.mark.bits
def test_an_iteration_for_nothing_leaves_the_state_as_it_was() -> None:
    model = Named()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    resume_loops._settle_buckets(model, torch.ones(3, 2), SimpleNamespace(optim_context=None))
    after = model.state_dict()
    assert "decoder.branches.weight" in after
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
