"""The product of trainings as other people configure them, from lines as their libraries write them: of
mmdetection 2 and 3 and mmsegmentation 0.x and 1.x."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from ddqjobs.detect.job import logs
from ddqjobs.spec.metric import found_as
from ddqjobs.spec.model import TaskKind
from tests.unit.detect.test_product import Bench, run


class Training(NamedTuple):
    """Files that a training left, and the right answer: the checkpoint, and results by the key they are asked
    for with."""

    config: str
    lines: list[str]
    saved: list[str]
    kept: str
    results: dict[str, float | None]
    validations: list[tuple[int, int]]  # epoch (0: none) and iteration, 0 where nothing tells it
    report: dict[str, str] | None = None  # words that the report has of it


def seg(iteration: int, miou: float | None = None) -> list[str]:
    """Return what mmsegmentation 1.x writes at an iteration."""
    row = (
        '{"lr": 0.0062, "data_time": 0.0053, "loss": 0.3182, "decode.loss_ce": 0.2167, "decode.acc_seg": 91.2'
        f', "aux.loss_ce": 0.1015, "aux.acc_seg": 88.1, "time": 0.41, "iter": {iteration}, "memory": 5123,'
        f' "step": {iteration}}}'
    )
    val = f'{{"aAcc": 93.46, "mIoU": {miou}, "mAcc": 74.3, "data_time": 0.0051, "step": {iteration}}}'
    return [row, val] if miou is not None else [row]


def det(epoch: int, metrics: str = "") -> list[str]:
    """Return what mmdetection 3.x writes of an epoch of 50 iterations."""
    row = (
        '{"lr": 0.02, "data_time": 0.0107, "loss": 0.9312, "loss_rpn_cls": 0.0612, "loss_cls": 0.4018'
        f', "loss_bbox": 0.2931, "time": 0.2402, "epoch": {epoch}, "iter": {50 * epoch}, "memory": 3811,'
        f' "step": {50 * epoch}}}'
    )
    return [row, f'{{{metrics}, "data_time": 0.0131, "time": 0.0507, "step": {epoch}}}'] if metrics else [row]


def old(epoch: int, iteration: int, metrics: str = "") -> list[str]:
    """Return what mmcv 1.x writes at an iteration of an epoch; a validation's ``iter`` is its loader's
    length."""
    row = (
        f'{{"mode": "train", "epoch": {epoch}, "iter": {iteration}, "lr": 0.01, "memory": 3811'
        ', "data_time": 0.0107, "loss_cls": 0.4018, "acc": 89.1, "loss": 0.9312, "time": 0.2402}'
    )
    val = f'{{"mode": "val", "epoch": {epoch}, "iter": 500, "lr": 0.01, {metrics}}}'
    return [row, val] if metrics else [row]


META = '{"env_info": "sys.platform: linux", "seed": 0, "exp_name": "a.py", "hook_msgs": {}}'
LVIS = (
    '"lvis/bbox_AP": 0.2251, "lvis/bbox_AP50": 0.3721, "lvis/bbox_AP75": 0.2354, "lvis/bbox_APs": 0.1661,'
    ' "lvis/bbox_APm": 0.2953, "lvis/bbox_APl": 0.3487, "lvis/bbox_APr": 0.0914, "lvis/bbox_APc": 0.2116,'
    ' "lvis/bbox_APf": 0.3018'
)
OLD_LVIS = LVIS.replace("lvis/", "") + ', "bbox_mAP_copypaste": "AP:0.2251 AP50:0.3721"'
COCO = '"coco/bbox_mAP": 0.374, "coco/bbox_mAP_50": 0.581, "coco/bbox_mAP_s": -1.0'
SEGM = ', "coco/segm_mAP": 0.347, "coco/segm_mAP_50": 0.55'
VOC = '"pascal_voc/mAP": 0.7934, "pascal_voc/AP50": 0.793'
TWO = "train_cfg = dict(max_epochs=2, type='EpochBasedTrainLoop', val_interval=1)\n"
TWELVE = (
    "runner = dict(type='EpochBasedRunner', max_epochs=12)\nevaluation = dict(interval=5, metric='bbox')\n"
)
SIX = "train_cfg = dict(max_epochs=6, type='EpochBasedTrainLoop', val_interval=1)\n"
ITERATIONS = "train_cfg = dict(max_iters=40000, type='IterBasedTrainLoop', val_interval=20000)\n"
OLD_ITERATIONS = (
    "runner = dict(type='IterBasedRunner', max_iters=200)\nevaluation = dict(interval=100, metric='mIoU')\n"
)
STOPS = "custom_hooks = [dict(type='EarlyStoppingHook', monitor='mIoU', patience=5)]\n"

TRAININGS = {
    "segmentation, validations in between": Training(
        ITERATIONS,
        [*seg(20000, 66.22), *seg(30000), *seg(40000, 71.04)],
        ["iter_20000.pth", "iter_40000.pth"],
        "iter_40000.pth",
        {"mIoU": 71.04, "aAcc": 93.46, "loss": None},
        [(0, 20000), (0, 40000)],
    ),
    "segmentation, the best only": Training(
        ITERATIONS,
        [*seg(20000, 71.04), *seg(39950), *seg(40000, 70.9)],
        ["best_mIoU_iter_20000.pth"],
        "best_mIoU_iter_20000.pth",
        {"mIoU": 70.9},
        [(0, 20000), (0, 40000)],
        {"checkpoint": "best_mIoU_iter_20000.pth"},
    ),
    "segmentation, stopped early": Training(
        ITERATIONS + STOPS,
        [*seg(4000, 66.22), *seg(8000, 66.1)],
        ["iter_4000.pth", "iter_8000.pth", "best_mIoU_iter_4000.pth"],
        "iter_8000.pth",
        {"mIoU": 66.1},
        [(0, 4000), (0, 8000)],
        {"stopped_early": "iteration 8000 of 40000"},
    ),
    "segmentation of mmcv, validations in between": Training(
        OLD_ITERATIONS,
        [
            META,
            *old(1, 50),
            *old(1, 100, '"aAcc": 0.9214, "mIoU": 0.6622, "mAcc": 0.743, "IoU.road": 0.97, "Acc.road": 0.98'),
            *old(1, 150),
            *old(1, 200, '"aAcc": 0.9346, "mIoU": 0.7104, "mAcc": 0.781, "IoU.road": 0.98, "Acc.road": 0.99'),
        ],
        ["iter_200.pth"],
        "iter_200.pth",
        {"mIoU": 0.7104, "IoU.road": 0.98},
        [(1, 100), (1, 200)],
    ),
    "LVIS": Training(
        TWO,
        [*det(1, LVIS.replace("0.2251", "0.1")), *det(2, LVIS)],
        ["epoch_1.pth", "epoch_2.pth"],
        "epoch_2.pth",
        {"lvis/bbox_AP": 0.2251, "bbox_APr": 0.0914, "bbox_mAP": None},
        [(1, 50), (2, 100)],
    ),
    "LVIS of mmcv, evaluated every fifth epoch": Training(
        TWELVE,
        [
            META,
            *old(5, 50, OLD_LVIS.replace("0.2251", "0.1")),
            *old(10, 50, OLD_LVIS),
            *old(11, 50),
            *old(12, 50),
        ],
        ["epoch_11.pth", "epoch_12.pth"],
        "epoch_12.pth",
        {"bbox_AP": 0.2251, "bbox_APf": 0.3018},
        [(5, 250), (10, 500)],
    ),
    "VOC": Training(
        TWO,
        [*det(1), *det(2, VOC)],
        ["epoch_2.pth"],
        "epoch_2.pth",
        {"pascal_voc/mAP": 0.7934, "AP50": 0.793, "coco/mAP": None},
        [(2, 100)],
    ),
    "VOC of mmcv": Training(
        TWELVE,
        [META, *old(12, 50, '"AP50": 0.793, "mAP": 0.7934')],
        ["epoch_12.pth"],
        "epoch_12.pth",
        {"mAP": 0.7934, "AP50": 0.793},
        [(12, 600)],
    ),
    "two evaluators of one data set": Training(
        TWO,
        [*det(1), *det(2, f"{COCO}{SEGM}, {VOC}")],
        ["epoch_2.pth"],
        "epoch_2.pth",
        {"bbox_mAP": 0.374, "coco/segm_mAP": 0.347, "pascal_voc/mAP": 0.7934, "bbox_mAP_s": -1.0},
        [(2, 100)],
    ),
    "two data sets": Training(
        TWO,
        [*det(1), *det(2, '"day/bbox_mAP": 0.41, "night/bbox_mAP": 0.29')],
        ["epoch_2.pth"],
        "epoch_2.pth",
        {"day/bbox_mAP": 0.41, "night/bbox_mAP": 0.29},
        [(2, 100)],
    ),
    "proposals": Training(
        TWO,
        [*det(2, '"coco/AR@100": 0.45, "coco/AR@1000": 0.58')],
        ["epoch_2.pth"],
        "epoch_2.pth",
        {"AR@1000": 0.58},
        [(2, 100)],
    ),
    "another folder, every second epoch": Training(
        SIX.replace("=6", "=7"),
        [line for epoch in range(1, 8) for line in det(epoch, COCO)],
        ["ckpts/work_dir/epoch_4.pth", "ckpts/work_dir/epoch_6.pth"],
        "ckpts/work_dir/epoch_6.pth",
        {"coco/bbox_mAP": 0.374},
        [(epoch, 50 * epoch) for epoch in range(1, 8)],
        {"checkpoint": "ckpts/work_dir/epoch_6.pth"},
    ),
    "another folder, the best only": Training(
        SIX,
        [line for epoch in range(1, 7) for line in det(epoch, COCO)],
        ["ckpts/work_dir/best_coco_bbox_mAP_epoch_4.pth"],
        "ckpts/work_dir/best_coco_bbox_mAP_epoch_4.pth",
        {"coco/bbox_mAP": 0.374},
        [(epoch, 50 * epoch) for epoch in range(1, 7)],
    ),
    "another folder, stopped early": Training(
        SIX + STOPS,
        [line for epoch in (1, 2, 3) for line in det(epoch, COCO)],
        ["ckpts/work_dir/epoch_2.pth", "ckpts/work_dir/epoch_3.pth"],
        "ckpts/work_dir/epoch_3.pth",
        {"coco/bbox_mAP": 0.374},
        [(1, 50), (2, 100), (3, 150)],
        {"stopped_early": "epoch 3 of 6"},
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_the_product_is_whole_with_what_there_is(tmp_path: Path, name: str) -> None:
    training = TRAININGS[name]
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    write(bench.work, training)
    for saved in training.saved:
        (bench.work / saved).parent.mkdir(parents=True, exist_ok=True)
        bench.checkpoint(saved)
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert bench.look() == 0
    product = bench.product()
    assert product.artifacts["checkpoint"] == f"attempts/1/work_dir/{training.kept}"
    assert {key: result(product.metrics, key) for key in training.results} == training.results
    log = logs.read(bench.work / product.artifacts["log"].rpartition("/")[2])
    assert [(row.epoch, row.step) for row in log.val] == training.validations
    expected = training.report or {}
    assert expected.items() <= product.report.items()
    assert ("stopped_early" in product.report) == ("stopped_early" in expected)


def result(metrics: dict[str, float | None], key: str) -> float | None:
    named = found_as(key, tuple(metrics))
    return None if named is None else metrics[named]


def write(work_dir: Path, training: Training) -> None:
    """Write log and configuration where the library puts them."""
    text = "\n".join(training.lines) + "\n"
    assert all(json.loads(line) for line in training.lines)
    if training.lines[0] == META or '"mode"' in training.lines[0]:
        (work_dir / "20261129_100000.log.json").write_text(text)
        (work_dir / "a.py").write_text(training.config)
        return
    folder = work_dir / "20261129_100000" / "vis_data"
    folder.mkdir(parents=True)
    (folder / "scalars.json").write_text(text)
    (folder / "config.py").write_text(training.config)


def test_what_was_saved_last_in_a_folder_outside_is_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "project", run(TaskKind.TRAIN))
    write(bench.work, TRAININGS["another folder, every second epoch"])
    outside = bench.checkpoint("epoch_6.pth").rename(tmp_path / "epoch_6.pth")
    weights = outside.read_bytes()
    (bench.work / "last_checkpoint").write_text(str(outside))
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert bench.look() == 0
    outside.write_bytes(b"of the next training, which keeps its checkpoints in the same folder")
    assert (bench.run_dir / "artifacts" / "checkpoint").read_bytes() == weights
    assert bench.product().artifacts["checkpoint"] == "attempts/1/work_dir/epoch_6.pth"
