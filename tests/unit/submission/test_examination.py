"""Results that exist already, compared with the runs that they are to stand for: mmdet 3.x and 2.x."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ddqjobs.planning import settings
from ddqjobs.spec.model import Resources, Run, TaskKind
from ddqjobs.submission.examination import Examination, Expected, examine
from tests.support.paths import RECORDED

STAMP = "20261129_062536"
CONFIG = "configs/nano/ddq-detr_r18_shapes.py"
# A configuration in the style of mmdet 2.x; its logs were recorded after that version's format.
MMDET2 = """
model = dict(type='DDQFCN', backbone=dict(type='ResNet', depth=50), bbox_head=dict(num_classes=80))
data = dict(samples_per_gpu=2, workers_per_gpu=2, train=dict(ann_file='data/coco/annotations/train.json'))
optimizer = dict(type='SGD', lr=0.02)
runner = dict(type='EpochBasedRunner', max_epochs=2)
gpu_ids = range(0, 8)
work_dir = '/elsewhere'
"""


def checkpoint(path: Path, **meta: object) -> Path:
    """A checkpoint with the beginning that torch gives it."""
    data = pickle.dumps({"meta": meta, "state_dict": {}}, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", data)
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the results that nano left, once, on some machine; return their folder."""
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(RECORDED / "results-1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "results" / "mine"


def expected(recorded: Path, name: str) -> Expected:
    """A run of these results as it was asked for, with its configuration as it was then."""
    attempt = recorded / "runs" / name / "attempts" / "1"
    run = msgspec.json.decode((attempt / "run.json").read_bytes(), type=Run)
    code = next((recorded / "code").iterdir())
    read = settings.of_file(code / CONFIG, lambda base, named_by: named_by.parent / base)
    return Expected(run=run, settings=settings.with_options(read, run.options), packages={}, inputs={})


@pytest.fixture
def mmdet3(recorded: Path, tmp_path: Path) -> tuple[Expected, Path]:
    """A training that really was, and its run."""
    name = "p3-train.ddq-detr-r18"
    work_dir = tmp_path / "work_dir"
    shutil.copytree(recorded / "runs" / name / "attempts" / "1" / "work_dir", work_dir)
    for epoch in (1, 2):
        checkpoint(work_dir / f"epoch_{epoch}.pth", epoch=epoch, iter=4 * epoch)
    return expected(recorded, name), work_dir


@pytest.fixture
def mmdet2(tmp_path: Path) -> tuple[Expected, Path]:
    """A training of mmdet 2.x with an evaluation of its last checkpoint, and its run."""
    work_dir = tmp_path / "work_dir"
    work_dir.mkdir()
    (work_dir / "ddq_fcn_r50_1x.py").write_text(MMDET2)
    shutil.copy(RECORDED / "logs" / "mmcv-1.4.7.log.json", work_dir / "20260101_000000.log.json")
    shutil.copy(RECORDED / "logs" / "mmcv-1.4.7.eval.json", work_dir / "eval_20260101_090000.json")
    checkpoint(work_dir / "epoch_2.pth", epoch=2, iter=1250, config=MMDET2)
    run = Run(
        name="t", experiment="e", task="t", kind=TaskKind.TRAIN, seed=0, config="projects/ddq_fcn_r50_1x.py",
        resources=Resources(gpus=8),
    )  # fmt: skip
    return Expected(run=run, settings=settings.of_text(MMDET2), packages={}, inputs={}), work_dir


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def evaluation(work_dir: Path, config: str, ap: float) -> None:
    content = {"config": config, "metric": {"bbox_mAP": ap}}
    (work_dir / "eval_20260101_100000.json").write_text(json.dumps(content))


def config3(work_dir: Path) -> Path:
    return work_dir / STAMP / "vis_data" / "config.py"


def test_a_real_training_is_its_own_run(mmdet3: tuple[Expected, Path]) -> None:
    assert examine(*mmdet3) == Examination()


def test_a_training_of_mmdet_2_is_its_own_run(mmdet2: tuple[Expected, Path]) -> None:
    assert examine(*mmdet2) == Examination([], ["versions of its packages"])


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda w: edit(config3(w), "type='DDQDETR',", "type='DINO',"), "model.type is 'DINO', not 'DDQD"),
        (lambda w: edit(config3(w), "lr=0.001,", "lr=0.01,"), "optimizer.lr is 0.01, not 0.001"),
        (lambda w: edit(config3(w), "max_epochs=2", "max_epochs=12"), "number of epochs is 12, not 2"),
        (lambda w: edit(w / STAMP / f"{STAMP}.log", "    seed: 7", "    seed: 8"), "seed is 8, not 7"),
        (lambda w: (w / "epoch_2.pth").unlink(), "last checkpoint is epoch_1.pth, of epoch 2 there is none"),
        (lambda w: checkpoint(w / "epoch_2.pth", epoch=1), "epoch_2.pth holds epoch 1"),
        (lambda w: checkpoint(w / "epoch_2.pth", epoch=2, cfg="model = dict(type='DINO')"),
         "configuration in the checkpoint: model.type is 'DINO'"),
        (lambda w: checkpoint(w / "epoch_2.pth", seed=8, epoch=2), "seed in the checkpoint is 8, not 7"),
        (lambda w: checkpoint(w / "epoch_2.pth", seed=7, mmengine_version="0.8.5+f1a2", epoch=2),
         "version of MMEngine in the checkpoint is '0.8.5+f1a2', not '0.10.7'"),
    ],
)  # fmt: skip
def test_what_is_no_training_of_its_run_is_named(
    mmdet3: tuple[Expected, Path], spoil: Callable[[Path], object], difference: str
) -> None:
    expectation, work_dir = mmdet3
    spoil(work_dir)
    examination = examine(dataclasses.replace(expectation, packages={"mmengine": "0.10.7"}), work_dir)
    assert any(difference in line for line in examination.differences)


def test_what_a_result_has_beyond_its_run_is_named(mmdet3: tuple[Expected, Path]) -> None:
    expectation, work_dir = mmdet3
    whole = config3(work_dir).read_text()
    assert "optim_wrapper = dict(" in whole
    for text, difference in (
        (whole.replace("optim_wrapper = dict(", "optim_wrapper = dict(accumulative_counts=8, "),
         "optim_wrapper.accumulative_counts is 8, and the run has none"),
        (f"{whole}fp16 = dict(loss_scale=512.0)", "fp16.loss_scale is 512.0, and the run has none"),
        (f"{whole}custom_hooks = [dict(type='EMAHook')]", "custom_hooks.EMAHook.type is 'EMAHook', and the"),
        (f"{whole}load_from = '/old/coco.pth'", "load_from is '/old/coco.pth', and the run has none"),
        (f"{whole}load_from = '/old/epoch_1.pth'\nresume = True", ""),  # mmengine's own
        (f"{whole}custom_hooks = [dict(type='NumClassCheckHook')]", ""),
    ):  # fmt: skip
        result_file = checkpoint(work_dir.parent / "a.pth", epoch=2, cfg=text, seed=7)
        differences = examine(expectation, result_file).differences
        assert len(differences) == bool(difference)
        assert all(difference in line for line in differences)


def test_the_same_name_in_another_zoo_is_another_backbone(mmdet2: tuple[Expected, Path]) -> None:
    expectation, work_dir = mmdet2
    for ours, theirs, differing in (
        ("torchvision://resnet50", "open-mmlab://resnet50", ["configuration: model.backbone.pretrained"]),
        ("file:///a/r50.pth", "/b/r50.pth", []),
    ):
        text = MMDET2.replace("depth=50", f"depth=50, pretrained={ours!r}")
        (work_dir / "ddq_fcn_r50_1x.py").write_text(text.replace(ours, theirs))
        checkpoint(work_dir / "epoch_2.pth", epoch=2, iter=1250, config=text)
        differences = examine(
            dataclasses.replace(expectation, settings=settings.of_text(text)), work_dir
        ).differences
        assert [line.partition(" is ")[0] for line in differences] == differing


def test_the_last_checkpoint_of_mmcv_1_by_iterations_says_one_less(mmdet2: tuple[Expected, Path]) -> None:
    expectation, work_dir = mmdet2
    text = MMDET2.replace("type='EpochBasedRunner', max_epochs=2", "type='IterBasedRunner', max_iters=16")
    expectation = dataclasses.replace(expectation, settings=settings.of_text(text))
    result_file = checkpoint(work_dir.parent / "iter_16.pth", epoch=3, iter=15, config=text)
    assert examine(expectation, result_file).differences == []
    result_file = checkpoint(work_dir.parent / "iter_16.pth", epoch=3, iter=14, config=text)
    assert examine(expectation, result_file).differences == ["the checkpoint is of iteration 14 of 16"]


def test_of_what_a_base_that_is_not_known_may_set_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "top.py").write_text("import os\n_base_ = os.environ['B']\nmodel = dict(type='DDQFCN')\n")
    read = settings.of_file(tmp_path / "top.py", lambda base, named_by: None)
    run = Run(name="t", experiment="e", task="t", kind=TaskKind.TRAIN)
    old = checkpoint(tmp_path / "a.pth", epoch=2, config=MMDET2)
    examination = examine(Expected(run=run, settings=read, packages={}, inputs={}), old)
    assert examination.differences == []
    assert (
        "configuration in the checkpoint (data.samples_per_gpu and 8 more: not known of the run)"
        in examination.unverified
    )


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda w: evaluation(w, "atss_r50.py", 0.415), "is of another configuration (atss_r50.py)"),
        (
            lambda w: evaluation(w, "ddq_fcn_r50_1x.py", 0.302),
            "has AP 0.302, the log's last validation 0.415",
        ),
        (lambda w: edit(w / "ddq_fcn_r50_1x.py", "train.json", "val.json"), "ann_file is 'data/coco/annota"),
        (lambda w: edit(w / "ddq_fcn_r50_1x.py", "range(0, 8)", "range(0, 4)"), "number of GPUs is 4, not 8"),
        (
            lambda w: edit(w / "20260101_000000.log.json", '"epoch": 2', '"epoch": 1'),
            "log ends in epoch 1 of 2",
        ),
    ],
)
def test_what_is_no_training_of_mmdet_2_of_its_run_is_named(
    mmdet2: tuple[Expected, Path], spoil: Callable[[Path], object], difference: str
) -> None:
    spoil(mmdet2[1])
    assert any(difference in line for line in examine(*mmdet2).differences)


def test_of_a_configuration_that_is_not_here_the_name_is_compared(mmdet2: tuple[Expected, Path]) -> None:
    expectation, work_dir = mmdet2
    unread = dataclasses.replace(expectation, settings={}, absent=("projects/ddq_fcn_r50_1x.py",))
    examination = examine(unread, work_dir)
    assert (examination.differences, examination.unverified[0]) == (
        [],
        "configuration (projects/ddq_fcn_r50_1x.py is not here)",
    )
    (work_dir / "ddq_fcn_r50_1x.py").rename(work_dir / "atss_r50_1x.py")
    assert (
        "configuration is 'atss_r50_1x.py', not 'ddq_fcn_r50_1x.py'" in examine(unread, work_dir).differences
    )


def test_a_test_of_another_checkpoint_is_named(recorded: Path, tmp_path: Path) -> None:
    name = "p3-test.ddq-detr-r18"
    expectation = expected(recorded, name)
    work_dir = shutil.copytree(recorded / "runs" / name / "attempts" / "1" / "work_dir", tmp_path / "w")
    assert examine(expectation, work_dir) == Examination([], ["checkpoint that was tested"])
    theirs = checkpoint(tmp_path / "epoch_2.pth", epoch=2)
    there = "/srv/reproduction/results/mine/runs/p3-train.ddq-detr-r18/artifacts/checkpoint"
    for config in (*work_dir.glob("*.py"), *work_dir.glob("*/vis_data/config.py")):
        edit(config, there, str(theirs))
    same = Path(shutil.copy(theirs, tmp_path / "same.pth"))
    expectation = Expected(
        run=expectation.run, settings=expectation.settings, packages={}, inputs={"checkpoint": same}
    )
    assert examine(expectation, work_dir) == Examination()
    checkpoint(tmp_path / "same.pth", epoch=1)
    assert "checkpoint that was tested is 'epoch_2.pth" in examine(expectation, work_dir).differences[0]


def test_what_a_bare_checkpoint_tells_is_compared(mmdet3: tuple[Expected, Path], tmp_path: Path) -> None:
    expectation, work_dir = mmdet3
    config = config3(work_dir).read_text()
    whole = examine(expectation, checkpoint(tmp_path / "a.pth", epoch=2, cfg=config, seed=7))
    assert whole == Examination([], ["versions of its packages"])
    half = examine(expectation, checkpoint(tmp_path / "b.pth", epoch=1, cfg=config))
    assert half.differences == ["the checkpoint is of epoch 1 of 2"]
    assert "configuration (none was left)" in examine(expectation, checkpoint(tmp_path / "c.pth")).unverified


def test_a_configuration_is_read_with_its_bases_and_options_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("a = dict(b=dict(c=1, d=2), e=[dict(f=1), dict(f=2)])\ng = 1\n")
    top = tmp_path / "top.py"
    top.write_text(
        "_base_ = 'base.py'\nh = 3\na = dict(b=dict(_delete_=True, c=h), i=open('x'))\nif h: g = 2\n"
    )
    read = settings.of_file(top, lambda base, named_by: named_by.parent / base)
    values = settings.flat(settings.with_options(read, ["a.e.1.f=7", "+a.j=k.l", "a.m={input.x}"]))
    assert values == {"a.b.c": 3, "a.e.len": 2, "a.e.0.f": 1, "a.e.1.f": 7, "a.j": "k.l"}
