"""Progress and length of a live training, read from files that detectors really leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddqjobs.detect.job import live
from ddqjobs.detect.job.training_progress import Progress
from tests.unit.detect.test_logs import recorded, train_line, val_line, work_dir


def test_an_empty_work_dir_and_a_missing_one_tell_nothing(tmp_path: Path) -> None:
    assert live.progress(tmp_path) == Progress()
    assert live.progress(tmp_path / "missing") == Progress()


def test_progress_of_mmengine(tmp_path: Path) -> None:
    folder = tmp_path / "20261122_171804"
    (folder / "vis_data").mkdir(parents=True)
    text = recorded("mmengine-0.10.7.log").decode()
    (folder / "20261122_171804.log").write_text(text)
    config = "max_epochs = 12\ntrain_cfg = dict(max_epochs=2, type='EpochBasedTrainLoop')\n"
    (folder / "vis_data" / "config.py").write_text(config)
    state = live.progress(tmp_path)
    assert state._replace(loss=None) == Progress(2, 16, 16, 0, None, 0.4, 2)
    assert state.loss is not None
    # In the middle of the first epoch, half a line at the end.
    (folder / "20261122_171804.log").write_text(
        text.split("\n")[0] + "\n2026/11/22 17:18:13 - mmengine - INFO - Epo"
    )
    state = live.progress(tmp_path)
    assert (state.epoch, state.iteration, state.iterations, state.eta_s, state.ap) == (1, 1, 16, 43, None)


def test_progress_of_mmcv(tmp_path: Path) -> None:
    lines = [
        "2022-01-01 00:00:00,000 - mmdet - INFO - Epoch(val) [3][625]\tbbox_mAP: 0.3210, bbox_mAP_50: 0.5",
        "2022-01-01 00:00:00,000 - mmdet - INFO - Epoch [4][50/7330]\tlr: 1.0e-05, eta: 1 day, 2:03:04, "
        "time: 0.5, data_time: 0.1, memory: 5123, loss_cls: 0.5, loss: 2.7123",
    ]
    (tmp_path / "20220101_000000.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "ddq.py").write_text("runner = dict(type='EpochBasedRunner', max_epochs=12)\n")
    assert live.progress(tmp_path) == Progress(4, 50, 7330, 93784, 2.7123, 32.1, 12)


@pytest.mark.parametrize(
    ("metrics", "ap"),
    [
        ("A/bbox_mAP: 0.1000  A/bbox_mAP_50: 0.2000  B/bbox_mAP: 0.3000", None),
        ("A/bbox_mAP: 0.1000  A/bbox_mAP_50: 0.2000", 10.0),
        ("A/bbox_mAP: 0.1000  coco/bbox_mAP: 0.3000", 30.0),
    ],
)
def test_the_ap_of_several_data_sets_is_told_only_if_one_is_coco_s(
    tmp_path: Path, metrics: str, ap: float | None
) -> None:
    (tmp_path / "20260101_000000.log").write_text(f"x - INFO - Epoch(val) [1][2/2]    {metrics}\n")
    assert live.progress(tmp_path).ap == ap


def test_progress_without_text_log(tmp_path: Path) -> None:
    place = work_dir(
        tmp_path, ("20260101_000000", train_line(1, 1) + val_line(1, 0.25) + train_line(2, 2, 7.0))
    )
    assert live.progress(place) == Progress(epoch=2, loss=7.0, ap=25.0)


def test_progress_finds_an_ap_far_back_and_reads_no_more_than_needed(tmp_path: Path) -> None:
    folder = tmp_path / "20260101_000000"
    folder.mkdir()
    lines = ["x - mmengine - INFO - Epoch(val) [1][2/2]    coco/bbox_mAP: 0.5000  coco/bbox_mAP_50: 0.6"]
    lines += [
        f"x - mmengine - INFO - Epoch(train)  [2][{i}/9999]  eta: 0:00:09  loss: 1.5  {'y' * 900}"
        for i in range(900)
    ]
    (folder / "20260101_000000.log").write_text("\n".join(lines) + "\n")
    assert live.progress(tmp_path) == Progress(2, 899, 9999, 9, 1.5, 50.0, None)


@pytest.mark.parametrize(
    ("text", "epochs", "iterations"),
    [
        ("train_cfg = dict(max_epochs=3, type='EpochBasedTrainLoop')", 3, None),
        ("max_epochs = 9\ntrain_cfg = dict(type='X', max_epochs=4)", 4, None),
        ("runner = dict(type='EpochBasedRunner', max_epochs=36)\ntotal_epochs = 12", 36, None),
        ("total_epochs = 12", 12, None),
        ("max_epochs = 9\ntrain_cfg = dict(type='IterBasedTrainLoop', max_iters=9)", None, 9),
        ("runner = dict(type='IterBasedRunner', max_iters=90000)", None, 90000),
        ("train_cfg = dict(max_epochs=True)", None, None),
        ("this is no python", None, None),
        ("import os; os.abort()", None, None),
    ],
)
def test_the_length_of_a_training(
    tmp_path: Path, text: str, epochs: int | None, iterations: int | None
) -> None:
    (tmp_path / "config.py").write_text(text)
    assert live.length(tmp_path) == (epochs, iterations)


@pytest.mark.parametrize(
    "line", ["mmengine - INFO - Iter(train) [ 40/9000]  lr: 1e-4", "mmdet - INFO - Iter [40/9000]\tlr: 1e-4"]
)
def test_progress_of_a_training_by_iterations(tmp_path: Path, line: str) -> None:
    lines = ["x - mmengine - INFO - Iter(val) [2/2]    coco/bbox_mAP: 0.5000  coco/bbox_mAP_50: 0.6"]
    (tmp_path / "20260101_000000.log").write_text(
        "\n".join([*lines, f"x - {line}, eta: 0:00:09, loss: 1.5", ""])
    )
    assert live.progress(tmp_path) == Progress(None, 40, 9000, 9, 1.5, 50.0)
