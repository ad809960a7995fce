"""Faults of a configuration, reported before it runs. Needs mmdet."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import check, ops, runtime
from ddqjobs.detect.checks import data, truth, types
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = str(ROOT / "experiments/configs/nano/ddq-detr_r18_shapes.py")


@pytest.fixture(scope="module")
def checker() -> check.Checker:
    runtime.set_up()
    return check.Checker()


@pytest.fixture(autouse=True)
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of the miniature's classes, without its images."""
    folder = tmp_path / "data"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        write(folder, split, ("rectangle_0", "disc_0", "triangle_0"))
    monkeypatch.setenv("DDQJOBS_INPUT_DATA", str(folder))
    return folder


def write(folder: Path, split: str, names: tuple[str, ...]) -> None:
    path = folder / "annotations" / f"{split}.json"
    path.parent.mkdir(exist_ok=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))


def lines(checker: check.Checker, *options: str, config: str = CONFIG, **keys: Any) -> list[str]:
    """Return the findings of a training, of which the run's data is all that it may read."""
    subject = check.Subject(config, options, **{"kind": "train", "declared": True, **keys})
    own = keys.get("own") or [os.environ["DDQJOBS_INPUT_DATA"]]
    return [finding.line() for finding in checker.check(subject._replace(own=own))]


@pytest.mark.parametrize(
    ("options", "processes", "images"),
    [
        ((), 4, 0),
        (("optim_wrapper.accumulative_counts=2",), 2, 0),
        (("auto_scale_lr.enable=True",), 1, 0),
        ((), 0, 0),  # no GPU: a miniature
        ((), 2, 8),
        (("optim_wrapper.accumulative_counts=2",), 4, 32),
    ],
)
def test_a_batch_that_the_learning_rate_is_not_for(
    checker: check.Checker, options: tuple[str, ...], processes: int, images: int
) -> None:
    of = ("train_dataloader.batch_size=4", "auto_scale_lr.base_batch_size=16", *options)
    findings = [line for line in lines(checker, *of, processes=processes) if "learning rate" in line]
    assert [f"but this run has {images} (" in line for line in findings] == [True] * bool(images)


def test_a_program_of_a_tree_lacks_the_operators_of_mmcv_lite(checker: check.Checker) -> None:
    assert ops.install()  # this environment has mmcv-lite
    for kind in ("train", "test"):
        (line,) = lines(checker, kind=kind, of_tree=True)
        assert "mmcv has no compiled operators" in line
        assert "-m ddqjobs.detect.train" in line
    assert lines(checker, kind="convert", of_tree=True) == []  # makes no model


def test_what_is_right_is_not_reported(checker: check.Checker) -> None:
    options = [
        "optim_wrapper.optimizer.lr=1e-4",  # there
        "optim_wrapper.optimizer.betas=(0.9,0.99)",  # taken by AdamW, as are the following by what they name
        "train_cfg.val_begin=2",
        "randomness.seed=7",
        "train_dataloader.dataset.indices=4",
        "optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1",
        "model.backbone.init_cfg=None",
        "speed=True",
        "+anything.at_all=3",
    ]
    assert lines(checker, *options) == []
    assert lines(checker, kind="test") == []


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("optim_wraper.optimizer.lr=0.01", "has no 'optim_wraper' (+optim_wraper.optimizer.lr adds it); "
         "the nearest is optim_wrapper.optimizer.lr"),
        ("optimizer.lr=0.01", "the nearest is optim_wrapper.optimizer.lr"),
        ("model.bbox_head.num_class=3", "the nearest is model.bbox_head.num_classes"),
        ("optim_wrapper.optimizer.beta=(0.9,0.99)", "the nearest is optim_wrapper.optimizer.betas"),
        ("default_hooks.checkpoint.interva1=2", "the nearest is default_hooks.checkpoint.interval"),
        ("randomness.sed=7", "the nearest is randomness.seed"),
        ("max_epochs=8", "max_epochs changes a name of the file alone, which was read before the options; "
         "the nearest is train_cfg.max_epochs"),
        ("model.decoder.num_layers.x=3", "option model.decoder.num_layers"),
        ("optim_wrapper.optimizer.lr=fast", "'fast' is a str; expected"),
        ("train_cfg.max_epochs=4.5", "4.5 is a float; expected int"),
        ("param_scheduler.0.milestones=8", "8 is a int; expected List[int]"),
        ("train_dataloader.num_workers=two", "'two' is a str; expected int"),
        ("randomness.seed=x", "'x' is a str; expected"),
        ("model.backbone.type=ResNett", "type 'ResNett' is not registered; the nearest is ResNet"),
        ("model.bbox_head.num_classes=4", "num_classes is 4, and train_dataloader.dataset has 3 classes"),
        ("default_hooks.checkpoint=None", "default_hooks.checkpoint is None: a training must leave"),
        ("default_hooks.checkpoint.by_epoch=False", "by_epoch is False: a training must leave"),
        ("train_dataloader=None", "train_dataloader is missing: this configuration does not train"),
        ("val_evaluator.ann_file=other.json", "other.json is not what val_dataloader reads"),
        ("train_dataloader.batch_size=0", "train_dataloader.batch_size is 0; expected at least 1"),
        ("train_cfg.max_epochs=-1", "train_cfg.max_epochs is -1; expected at least 1"),
        ("load_from=/nowhere/epoch_12.pth", "load_from: no file /nowhere/epoch_12.pth"),
        ("default_hooks.checkpoint.save_best=bbox_mAP", "save_best is 'bbox_mAP', and the evaluator logs "
         "coco/bbox_mAP, ...; the nearest is coco/bbox_mAP"),
        ("default_hooks.checkpoint.save_best=coco/bbox_mAP50", "the nearest is coco/bbox_mAP_50"),
        ("default_scope=mmdett", "'mmdett' is neither a registry's nor a package's; the nearest is mmdet"),
        ("resume=maybe", "option resume: 'maybe' is a str; expected bool"),
        ("val_evaluator.classwise=yess", "'yess' is a str; expected bool"),
        ("param_scheduler.5.gamma=0.1", "Index 5 exceeds the length of list"),
        ("train_dataloader.dataset.ann_file=other.json", "train_dataloader.dataset.ann_file: no file"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_meant(checker: check.Checker, option: str, line: str) -> None:
    findings = lines(checker, option)
    assert len(findings) == 1, findings
    assert line in findings[0]
    assert "\n" not in findings[0]


def test_a_training_that_leaves_out_its_last_checkpoint(checker: check.Checker) -> None:
    options = ("train_cfg.max_epochs=8", "default_hooks.checkpoint.save_last=False")
    (finding,) = lines(checker, *options, "default_hooks.checkpoint.interval=5")
    assert "saves every 5 epochs and not the last of 8: a training must leave the checkpoint" in finding
    assert lines(checker, *options, "default_hooks.checkpoint.interval=4") == []


@pytest.mark.usefixtures("checker")
def test_types_that_are_no_registered_ones() -> None:
    def unknown(**section: str) -> list[str]:
        findings = types.Registries().unknown({k: {"type": v} for k, v in section.items()}, "model")
        return [f"{finding.level} {finding.key}" for finding in findings]

    assert unknown(roi_layer="RoIAlign", nms="soft_nms", norm_cfg="GN", scoped="mmdet.DDQDETR") == []
    assert unknown(adapt_cfg="dilation") == ["warning model.adapt_cfg.type"]  # the head's own word
    assert unknown(neck="FPNN") == ["error model.neck.type"]


def test_what_a_type_takes_is_asked_of_the_right_one(checker: check.Checker) -> None:
    def found(*options: str, config: str = CONFIG) -> list[str]:
        return [one.line() for one in checker.check(check.Subject(config, options))]

    shipped = (
        Path(str(sys.modules["mmdet"].__file__)).parent
        / ".mim/configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
    )
    with_mask = "train_dataloader.dataset.pipeline.1.with_mask=True"  # mmdet's LoadAnnotations, not mmcv's
    assert found(with_mask, config=str(shipped)) == []
    assert "no 'loss_scale'" in found("optim_wrapper.loss_scale=dynamic")[0]
    assert found("optim_wrapper.loss_scale=dynamic", "optim_wrapper.type=AmpOptimWrapper") == []
    assert found("train_cfg.max_iters=9", "train_cfg.type=IterBasedTrainLoop") == []
    assert found("env_cfg.dist_cfg.timeout=1800") == []


@pytest.mark.usefixtures("checker")
def test_what_a_constructor_hands_on() -> None:
    class Above:
        def __init__(self, depth: int = 1) -> None:
            raise NotImplementedError

    class Names(Above):
        def __init__(self, width: int = 1, **others: int) -> None:
            raise NotImplementedError

    class Free:
        def __init__(self, width: int = 1, **others: int) -> None:
            raise NotImplementedError

    assert (set(types.takes(Names).names), types.takes(Names).others) == ({"width", "depth"}, False)
    assert types.takes(Free).others
    registries = types.Registries()
    assert all(types.takes(registries.find(name)).others for name in ("EMAHook", "RandomResize"))


def test_a_head_that_is_told_the_names_of_its_classes() -> None:
    datasets = [data.Dataset("train_dataloader.dataset", "a.json", "", ("cat", "dog"))]

    def level(number: int, **model: object) -> list[str]:
        return [f.level for f in data.heads({**model, "bbox_head": {"num_classes": number}}, datasets)]

    assert level(256) == level(1) == ["error"]
    assert level(256, language_model={"type": "BertModel"}) == ["warning"]
    assert level(1, language_model={"type": "BertModel"}) == ["error"]


def test_types_that_the_program_of_a_code_tree_registers(
    checker: check.Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def levels(**keys: Any) -> list[str]:
        subject = check.Subject(CONFIG, ["model.neck.type=TreeNeck"], **keys)
        return [f"{finding.level} {finding.key}" for finding in checker.check(subject)]

    assert levels() == ["error model.neck.type"]
    assert levels(registers=True) == ["warning model.neck.type"]
    (tmp_path / "projects").mkdir()
    package = tmp_path / "projects/__init__.py"
    package.write_text("import nothing_of_this_name\n")
    assert levels(registers=True) == ["warning model.neck.type"]
    package.write_text(
        "from mmdet.registry import MODELS\n\n\n@MODELS.register_module()\nclass TreeNeck:\n    pass\n"
    )
    try:
        assert levels(registers=True) == []
    finally:
        sys.modules.pop("projects", None)


def test_checkpoints_in_a_folder_that_all_runs_share(
    checker: check.Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDQJOBS_RUN", "p4-train.ddq")
    monkeypatch.setenv("DDQJOBS_WORK_DIR", "/results/runs/p4-train.ddq/attempts/1/work_dir")
    key = "default_hooks.checkpoint.out_dir"
    (line,) = lines(checker, f"+{key}=/scratch/c")
    assert line == (
        f"{key} is /scratch/c: runs that share it all write /scratch/c/work_dir/epoch_1.pth, ...; "
        "leave it out: checkpoints go to the work_dir"
    )
    for own in ("/results/runs/p4-train.ddq/attempts/1/work_dir/c", "/scratch/p4-train.ddq"):
        assert lines(checker, f"+{key}={own}") == []
    assert lines(checker, f"+{key}=/scratch/c", kind="test") == []


def test_a_test_needs_no_weights_to_begin_with(checker: check.Checker) -> None:
    backbone = "+model.backbone.init_cfg"
    options = (
        "load_from=/nowhere/a.pth",
        f"{backbone}.type=Pretrained",
        f"{backbone}.checkpoint=/nowhere/b.pth",
    )
    assert [line[-6:] for line in lines(checker, *options)] == ["/a.pth", "/b.pth"]
    assert lines(checker, *options, kind="test") == []


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (
            "open-mmlab://detectron/resnet50_caffe",
            "https://download.openmmlab.com/pretrain/third_party/resnet50_caffe-788b5fa3.pth",
        ),
        ("torchvision://resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
    ],
)
def test_names_of_weights_come_with_the_url_to_declare(
    checker: check.Checker, name: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    options = (
        "+model.backbone.init_cfg.type=Pretrained",
        f"+model.backbone.init_cfg.checkpoint={name}",
    )
    (line,) = lines(checker, *options)
    assert line.startswith(f"model.backbone.init_cfg.checkpoint: {name} is neither in torch's cache")
    assert f'`weights: {{NAME: {{url: "{url}"}}}}`' in line
    assert lines(checker, *options, weights=[url.rpartition("/")[2]]) == []
    assert lines(checker, *options, kind="test") == []


def test_a_test_that_leaves_no_ap(checker: check.Checker) -> None:
    assert "has no metric 'bbox'" in lines(checker, "test_evaluator.metric=proposal", kind="test")[0]
    assert "does not test" in lines(checker, "test_evaluator=None", kind="test")[0]
    masks = lines(checker, kind="test", metric="segm_mAP")
    assert masks == ["test_evaluator: a test must log the AP of masks, and this one has no metric 'segm'"]
    assert lines(checker, "test_evaluator.metric=proposal", kind="test", metric="AR@100") == []


def test_classes_of_configuration_and_annotations(checker: check.Checker, data_set: Path) -> None:
    write(data_set, "val", ("rectangle_0", "disk", "triangle_0"))
    assert lines(checker) == [
        "val_dataloader.dataset.metainfo.classes: val.json has no category 'disc_0'; it has rectangle_0, "
        "disk, triangle_0"
    ]
    write(data_set, "val", ("rectangle_0", "disc_0", "triangle_0", "hexagon"))
    (line,) = lines(checker)
    assert "the objects of category 'hexagon' of val.json are left out" in line
    findings = checker.check(check.Subject(CONFIG, kind="train", own=[str(data_set)]))
    assert [finding.level for finding in findings] == ["warning"]


def test_data_that_is_not_the_run_s(checker: check.Checker, tmp_path: Path, data_set: Path) -> None:
    other = str(tmp_path / "other")
    assert "is no file of the run's data, which is" in lines(checker, own=[other])[0]
    os.environ["DDQJOBS_INPUT_DATA"] = "/nowhere"  # another folder than the experiment says
    assert lines(checker, own=[str(tmp_path)])[0].endswith(f"; the experiment's data is {tmp_path}")
    os.environ["DDQJOBS_INPUT_DATA"] = other  # an input that an earlier run has yet to make
    assert lines(checker, own=[other]) == []


def test_a_configuration_that_does_not_load(checker: check.Checker, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("_base_ = './nowhere.py'\n")
    (line,) = lines(checker, config=str(path))
    assert line.startswith(f"{path}: FileNotFoundError: ")


def test_categories_are_found_without_reading_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    path.write_text(
        '{"info": {"note": "\\"categories\\": no"}, "categories": [{"id": 1, "name": "a"}], "x": []}'
    )
    assert data.categories(str(path)) == ["a"]
    path.write_text("")
    assert data.categories(str(path)) is None


@pytest.mark.usefixtures("checker")
def test_the_program_answers_in_the_order_of_the_requests(tmp_path: Path, data_set: Path) -> None:
    requests = tmp_path / "requests.json"
    wrong = {"config": CONFIG, "options": ["mode1.x=1"], "variables": {"DDQJOBS_INPUT_DATA": "/nowhere"}}
    requests.write_text(json.dumps([{"config": CONFIG, "kind": "test", "own": [str(data_set)]}, wrong]))
    assert check.main([str(requests), str(tmp_path / "answers.json")]) == 0
    first, second = json.loads((tmp_path / "answers.json").read_text())
    assert first["findings"] == []
    assert second["findings"][0]["kind"] == "option"
    assert "nowhere" not in os.environ["DDQJOBS_INPUT_DATA"]


def test_a_job_checks_once_more_and_records_what_it_runs_with(
    checker: check.Checker, tmp_path: Path, data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(run: dict[str, Any], *options: str) -> Any:
        (tmp_path / "run.json").write_text(json.dumps({"kind": "train", **run}))
        return check.load(CONFIG, options)

    monkeypatch.setenv("DDQJOBS_ATTEMPT_DIR", str(tmp_path))
    wrong = ("model.extra=1", "train_cfg.max_epochs=3")
    with pytest.raises(runtime.CannotLoad, match="model has no 'extra'"):
        job({}, *wrong)
    assert not (tmp_path / "resolved.json").exists()
    assert job({"options": ["+model.extra=1"]}, *wrong).model.extra == 1
    assert job({"unchecked": True}, *wrong).train_cfg.max_epochs == 3
    recorded = json.loads((tmp_path / "resolved.json").read_text())
    assert recorded["train_cfg"]["max_epochs"] == 3
    assert recorded["data_root"] == "$DDQJOBS_INPUT_DATA"
    write(data_set, "train", ("rectangle_0", "disk", "triangle_0"))  # by now the data is there
    with pytest.raises(runtime.CannotLoad, match="has no category 'disc_0'"):
        job({})


def test_a_job_records_which_annotations_it_reads(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDQJOBS_ATTEMPT_DIR", str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"kind": "train", "unchecked": True}))
    assert check.load(CONFIG, [])
    before = truth.read(tmp_path)
    parts = {"", " images", " classes"}
    assert before.keys() == {f"{split}{part}" for split in ("train", "val") for part in parts}
    assert check.load(CONFIG, ["val_dataloader.dataset.indices=10"])
    part = truth.read(tmp_path)
    assert {what for what in before if part[what] != before[what]} == {"val images"}
    write(data_set, "val", ("rectangle_0",))
    assert check.load(CONFIG, [])
    after = truth.read(tmp_path)
    assert after["train"] == before["train"]
    assert after["val"] != before["val"]
    (data_set / "annotations" / "val.json").unlink()
    assert check.load(CONFIG, [])  # that a file is missing is for others to say


@pytest.mark.usefixtures("checker")
def test_before_a_program_of_a_code_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDQJOBS_ATTEMPT_DIR", str(tmp_path))
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"kind": "train"}))
    assert check.main(["--job", CONFIG, "mode1.x=1"]) == 2
    assert check.main(["--job", CONFIG, "model.neck.type=OfTheTree"]) == 0
    assert check.main(["--job", CONFIG, "train_cfg.max_epochs=3"]) == 0
    assert json.loads((tmp_path / "resolved.json").read_text())["train_cfg"]["max_epochs"] == 3
    run.write_text(json.dumps({"kind": "train", "unchecked": True}))
    assert check.main(["--job", CONFIG, "mode1.x=1"]) == 0
