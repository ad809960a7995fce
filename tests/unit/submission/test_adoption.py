"""Results that exist already: taken in whole, marked as adopted, refused when torn."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError, MissingError, StateError
from ddqjobs.spec.model import Product, Status
from tests.support.trivial import EXPERIMENT, TrivialProject, task, until

LOG = (
    '{"lr": 0.1, "loss": 1.5, "epoch": 1, "iter": 1, "step": 1}\n'
    '{"coco/bbox_mAP": 0.25, "coco/bbox_mAP_50": 0.5, "step": 1}\n'
)


@pytest.fixture
def trainer(trivial: TrivialProject) -> TrivialProject:
    """A project with a training of one epoch, and a test after it."""
    trivial.tasks(
        {
            "train": {"kind": "train", "once": True, "code": "shell"},
            "second": task(inputs={"checkpoint": "train.checkpoint"}),
        }
    )
    return trivial


def checkpoint(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("epoch_1/data.pkl", b"weights")
    return path


def work_dir(folder: Path) -> Path:
    """Write the files that mmengine leaves of one epoch; return the folder."""
    data = folder / "20260101_000000" / "vis_data"
    data.mkdir(parents=True)
    (data / "20260101_000000.json").write_text(LOG)
    (data / "scalars.json").write_text(LOG)
    (data / "config.py").write_text("train_cfg = dict(max_epochs=1, type='EpochBasedTrainLoop')\n")
    (folder / "config.py").write_text("train_cfg = dict(max_epochs=1, type='EpochBasedTrainLoop')\n")
    checkpoint(folder / "epoch_1.pth")
    return folder


def adopt(project: TrivialProject, run: str, path: Path) -> Product:
    front = project.open()
    return front.adopt(front.plan(EXPERIMENT), run, path)


def test_a_work_dir_becomes_the_product_and_says_where_it_is_from(
    trainer: TrivialProject, tmp_path: Path
) -> None:
    product = adopt(trainer, "train", work_dir(tmp_path / "old"))
    assert product.metrics["bbox_mAP"] == 0.25
    assert product.adopted_from == str(tmp_path / "old")
    train = trainer.run("train")
    assert (train.status, train.reason) == (Status.DONE, f"adopted from {tmp_path / 'old'}")
    assert trainer.open().products(EXPERIMENT)["train"] == product


def test_what_is_another_training_is_refused_and_taken_in_with_a_reason_that_reports_show(
    trainer: TrivialProject, tmp_path: Path
) -> None:
    old = work_dir(tmp_path / "old")
    (old / "epoch_1.pth").rename(old / "epoch_3.pth")
    with pytest.raises(InputError, match=r"not adopted: the last checkpoint is epoch_3\.pth"):
        adopt(trainer, "train", old)
    front = trainer.open()
    product = front.adopt(front.plan(EXPERIMENT), "train", old, because="named by\nhand")
    assert product.adoption is not None
    train = trainer.run("train")
    assert re.fullmatch(
        r"by \S+ on [\d-]+, though the last checkpoint is epoch_3\.pth, of .* none: named by hand",
        train.accepted,
    )
    assert train.notes[-1].startswith("unverified: configuration, ")
    report = trainer.open().report(EXPERIMENT)
    assert [row.accepted for row in report.runs if row.run == "train"] == [train.accepted]
    assert [n for n in report.footnotes if n.startswith("train: adopted, unverified: configuration")]


def test_what_comes_after_an_adopted_run_uses_it(trainer: TrivialProject, tmp_path: Path) -> None:
    adopt(trainer, "train", work_dir(tmp_path / "old"))
    assert trainer.submit_all()["second"].status is Status.DONE
    assert trainer.executions() == {"second": 1}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda old: (old / "epoch_1.pth").unlink(), "no checkpoint"),
        (lambda old: (old / "epoch_1.pth").write_bytes(b"PK\x03\x04 cut"), "torn or no checkpoint"),
    ],
)
def test_what_is_not_whole_is_refused_and_stops_nothing(
    trainer: TrivialProject, tmp_path: Path, spoil: object, why: str
) -> None:
    old = work_dir(tmp_path / "old")
    assert callable(spoil)
    spoil(old)
    with pytest.raises(InputError, match=f"not adopted: .*{why}"):
        adopt(trainer, "train", old)
    assert trainer.run("train").status is Status.ELIGIBLE
    assert adopt(trainer, "train", work_dir(tmp_path / "better")).attempt == 2


def test_a_run_that_is_done_keeps_what_it_left(trainer: TrivialProject, tmp_path: Path) -> None:
    adopt(trainer, "train", work_dir(tmp_path / "old"))
    with pytest.raises(StateError, match="done already"):
        adopt(trainer, "train", tmp_path / "old")


def test_a_run_that_is_active_must_be_cancelled_first(trivial: TrivialProject, tmp_path: Path) -> None:
    trivial.tasks({"first": task(command=["sleep", "60"])})
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.run("first").status is Status.ACTIVE)
    with pytest.raises(StateError, match=r"is active .* cancel it first"):
        adopt(trivial, "first", tmp_path)


def test_what_is_not_there_cannot_be_adopted(trainer: TrivialProject, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file or folder"):
        adopt(trainer, "train", tmp_path / "gone")
    with pytest.raises(MissingError, match="did you mean 'train'"):
        adopt(trainer, "trian", tmp_path)


@pytest.fixture
def done(trivial: TrivialProject, tmp_path: Path) -> TrivialProject:
    """A project whose runs are done, and a second experiment of the same runs."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "out.txt").write_text("done\n")
    for run in ("first", "second"):
        adopt(trivial, run, tmp_path / "old")
    trivial.write("experiments/again.yaml", {"base": EXPERIMENT, "name": "again"})
    return trivial


def test_results_of_another_experiment_are_taken_in_by_their_digests(done: TrivialProject) -> None:
    ran = done.cli("adopt", "again", "--from", EXPERIMENT, "--json")
    assert ran.code == 0, ran.stderr
    sources = {run: product["adopted_from"] for run, product in json.loads(ran.stdout)["adopted"].items()}
    assert sources == {"first": "first of trivial", "second": "second of trivial"}
    assert {planned.status for planned in done.open().plan("again").runs} == {Status.DONE}
    assert (done.root / "results/again/runs/second/artifacts/out").read_text() == "done\n"
    done.write("experiments/same.yaml", {"base": EXPERIMENT, "name": "same"})
    plain = done.cli("adopt", "same", "first", "--from", EXPERIMENT)
    assert plain.stdout.startswith(f"adopted run first from experiment {EXPERIMENT} (artifacts: out)\n")
    refused = done.cli("adopt", "again", "second", "--from", EXPERIMENT)
    assert (
        "trivial has no result with the digest of an unfinished or stale run (1 run selected)"
        in refused.stderr
    )


def test_a_file_that_changed_since_it_was_recorded_is_not_taken_in(
    done: TrivialProject, tmp_path: Path
) -> None:
    (tmp_path / "old" / "out.txt").write_text("edited\n")
    front = done.open()
    plan = front.plan("again")
    with pytest.raises(InputError, match="it is not the file that was recorded"):
        front.adopt_from(plan, plan.runs, EXPERIMENT)
    assert {planned.status for planned in done.open().plan("again").runs} <= {Status.ELIGIBLE, Status.WAITING}
