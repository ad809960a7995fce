"""The first module that differs is found and named: dumps of a small DDQ FCN with planted defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import align, capture, prepare, runtime  # noqa: E402
from ddqjobs.detect.compare import dumps, modules, recorder  # noqa: E402
from tests.support import shrunken  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
POINTS = shrunken.CONFIGS / "ddq" / "points.json"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DDQ FCN with its data, as a file; the images' sizes are no multiples of 32."""
    folder = tmp_path_factory.mktemp("config")
    prepare.write_dataset(folder / "data", {"train": 4, "val": 1}, (120, 90), shrunken.CLASSES, 1)
    runtime.set_up()
    cfg = runtime.load_config(str(shrunken.MINI))
    cfg.model = shrunken.model("ddq-fcn-12e")
    cfg.custom_imports = {"imports": ["ddqjobs.detect.models"]}
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(folder / "data"), ann_file="annotations/train.json")
        loader.dataset.data_prefix = {"img": "train/"}
    # The mini configuration's scale would keep the size a multiple of 32.
    for pipeline in (cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        for step in pipeline:
            if step.type == "Resize":
                step.scale = (120, 90)
    cfg.dump(str(folder / "config.py"))
    return folder / "config.py"


def dump(config: Path, out: Path, *arguments: str) -> Path:
    argv = [str(config), "--out", str(out), "--points", str(POINTS), "--images", "0", "1", "2"]
    assert capture.main([*argv, *([] if "--seed" in arguments else ["--seed", "3"]), *arguments]) == 0
    return out


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    return dump(config, config.parent / "whole.npz")


def first(a: Path, b: Path, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "align.json"
    assert align.main(["modules", str(a), str(b), "--out", str(out)]) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.mark.bits
def test_the_same_twice(config: Path, whole: Path, tmp_path: Path) -> None:
    result = first(whole, dump(config, tmp_path / "b.npz"), tmp_path)
    assert (result["first"], result["bit_equal"], result["metrics"]["left_over"]) == (None, True, 0)
    assert result["metrics"]["modules"] > 100
    names = {key.split("|")[1] for key in dumps.read(whole)}
    assert {
        "data",
        "backbone.conv1",
        "neck.0",
        "bbox_head.dense_queries",
        "bbox_head.distinct_queries",
    } <= names
    assert {"bbox_head.aux_loss.assigner", "bbox_head.main_loss.assigner"} <= names
    assert "bbox_head" not in names  # each side structures it in its own way


def test_assigner_without_inverse_sigmoid(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddqjobs.detect.models import assigner

    monkeypatch.setattr(assigner, "inverse_sigmoid", lambda x: x)
    result = first(whole, dump(config, tmp_path / "b.npz"), tmp_path)
    # Of the losses the auxiliary one is the first.
    assert result["first"]["name"] == "bbox_head.aux_loss.assigner"
    assert result["first"]["part"] == "gt_inds"
    assert not [name for name in result["differing"] if name.startswith(("data", "backbone", "neck"))]


def test_padding_to_1_instead_of_32(
    config: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dump(config, tmp_path / "b.npz", "--cfg-options", "model.data_preprocessor.pad_size_divisor=1")
    result = first(whole, other, tmp_path)
    assert result["first"]["name"] == "data.inputs"
    assert (result["first"]["a"]["shape"], result["first"]["b"]["shape"]) == (
        [3, 3, 96, 128],
        [3, 3, 90, 120],
    )
    assert "first difference in data.inputs" in capsys.readouterr().out


def test_images_are_made_small(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = dumps.read(dump(config, tmp_path / "a.npz", "--scale", "60", "45"))
    assert small["000000|data|0|inputs"].shape == (3, 3, 64, 64)  # 45x60, padded to multiples of 32
    none = tmp_path / "none.py"
    none.write_text(f"_base_ = {str(config)!r}\ntest_dataloader = dict(dataset=dict(pipeline=[]))\n")
    options = ["--seed", "3", "--scale", "60", "45", "--out", str(tmp_path / "b.npz")]
    assert capture.main([str(none), *options]) == 2
    assert "no step of the pipeline has a scale" in capsys.readouterr().err


@pytest.mark.bits
def test_a_sample_of_each_output(config: Path, whole: Path, tmp_path: Path) -> None:
    """Few values, the data whole; the first module that differs is the same."""
    small = dump(config, tmp_path / "a.npz", "--values", "100")
    outputs = dumps.read(small)
    sizes = {key: value.size for key, value in outputs.items()}
    whole_ones = ("|data|", "|bbox_head.distinct_queries|")  # the second: rows that are matched
    assert max(size for key, size in sizes.items() if not any(w in key for w in whole_ones)) <= 100
    assert any(size > 100 for key, size in sizes.items() if "|data|" in key)
    assert first(small, dump(config, tmp_path / "b.npz", "--values", "100"), tmp_path)["bit_equal"] is True
    assert small.stat().st_size < whole.stat().st_size / 10
    option = "model.bbox_head.shuffle_channels=8"
    other = dump(config, tmp_path / "c.npz", "--values", "100", "--cfg-options", option)
    result = first(small, other, tmp_path)
    assert result["first"]["name"] == "bbox_head.cls_convs.2.conv"  # the first that is shuffled


def test_a_model_that_calls_cuda_is_captured_on_the_cpu(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the release's heads do in their forward passes, on machines with a GPU and without."""
    from ddqjobs.detect.models import fcn_head

    original = vars(fcn_head)["distance2bbox"]
    monkeypatch.setattr(
        fcn_head, "distance2bbox", lambda points, sides: original(points.cuda(), sides.cuda(0))
    )
    assert first(whole, dump(config, tmp_path / "b.npz"), tmp_path)["first"] is None


def test_samples_reach_every_column() -> None:
    import numpy as np

    array = np.arange(64 * 64).reshape(64, 64)
    sample = recorder.thinned(array, 1000)
    assert 500 < len(sample) <= 1000
    assert len(set((sample % 64).tolist())) == len(set((sample // 64).tolist())) == 64


def test_two_equal_scores_may_change_places() -> None:
    lists = ([torch.tensor([0.5, 0.5])], [torch.tensor([[1.0] * 4, [2.0] * 4])], [torch.tensor([7, 3])])
    point = recorder.Point("head.pre()", ("scores", "boxes", "points"), "points")
    (image,) = recorder.arranged(lists, point)
    assert image["points"].tolist() == [3, 7]
    assert image["boxes"][:, 0].tolist() == [2.0, 1.0]


def test_a_point_ordered_by_boxes_is_compared_as_a_set() -> None:
    lists = ([torch.tensor([0.5, 0.4])], [torch.tensor([[1.0] * 4, [2.0] * 4])])
    point = recorder.Point("head.dqs()", ("scores", "boxes"), "boxes")
    assert recorder._unordered(recorder.arranged(lists, point), point)
    (image,) = images = recorder.arranged(lists, point)
    assert image["scores"].tolist() == pytest.approx([0.5, 0.4])
    taken = recorder.Recorder(values=3)
    taken.add("head.dqs", images, unordered=True)
    assert taken.arrays["000000|head.dqs|0|0.boxes"].shape == (2, 4)  # whole: rows are to be matched


def test_boxes_whose_coordinates_are_swapped_in_the_data(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdet.datasets import CocoDataset

    original = CocoDataset.parse_data_info

    def swapped(self: Any, raw: Any) -> Any:
        info = original(self, raw)
        for instance in info["instances"]:
            x1, y1, x2, y2 = instance["bbox"]
            instance["bbox"] = [y1, x1, y2, x2]
        return info

    monkeypatch.setattr(CocoDataset, "parse_data_info", swapped)
    result = first(whole, dump(config, tmp_path / "b.npz"), tmp_path)
    assert result["first"]["name"] == "data.0.boxes"
    # With the other side's batch it is gone.
    again = first(whole, dump(config, tmp_path / "c.npz", "--batch", str(whole)), tmp_path)
    assert again["first"] is None


def test_boxes_whose_sides_are_swapped_in_the_model(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddqjobs.detect.models import fcn_head

    original = vars(fcn_head)["distance2bbox"]
    monkeypatch.setattr(
        fcn_head, "distance2bbox", lambda points, sides: original(points, sides[:, [1, 0, 3, 2]])
    )
    result = first(whole, dump(config, tmp_path / "b.npz"), tmp_path)
    assert result["first"]["name"] == "bbox_head.dense_queries"
    statistics = result["first"]["a"]
    assert statistics["shape"][1] == 4
    assert statistics["min"] < statistics["mean"] < statistics["max"]


def test_one_weight(config: Path, whole: Path, tmp_path: Path) -> None:
    runtime.set_up()
    model = runtime.build_model(runtime.load_config(str(config)))
    from ddqjobs.detect import parity

    parity.fill(model, 3)
    state = model.state_dict()
    state["bbox_head.reg_convs.2.conv.weight"][0, 0, 0, 0] += 0.5
    state["ema_bbox_head_conv_cls_bias"] = state["bbox_head.conv_cls.bias"] + 1  # mmcv 1.x's, left out
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    argv = [str(config), "--out", str(tmp_path / "b.npz"), "--points", str(POINTS), "--images", "0", "1", "2"]
    assert capture.main([*argv, "--weights", str(tmp_path / "w.pth")]) == 0
    assert first(whole, tmp_path / "b.npz", tmp_path)["first"]["name"] == "bbox_head.reg_convs.2.conv"


@pytest.mark.bits
def test_losses_of_a_few_iterations(config: Path, tmp_path: Path) -> None:
    curves = []
    for name, options in (("a", ()), ("b", ()), ("c", ("--cfg-options", "optim_wrapper.optimizer.lr=0.002"))):
        scalars = tmp_path / f"{name}.json"
        arguments = ("--split", "train", "--iterations", "3", "--scalars", str(scalars))
        dump(config, tmp_path / f"{name}.npz", *arguments, *options)
        curves.append(scalars)
    same, other = (tmp_path / "same.json", tmp_path / "other.json")
    assert align.main(["losses", str(curves[0]), str(curves[1]), "--out", str(same)]) == 0
    assert json.loads(same.read_text())["bit_equal"] is True
    assert align.main(["losses", str(curves[0]), str(curves[2]), "--out", str(other)]) == 0
    report = json.loads(other.read_text())
    assert report["metrics"]["first_difference"] == 2  # one step apart
    assert {"loss", "loss_cls", "aux_loss_bbox", "grad_norm"} <= set(report["terms"])


@pytest.mark.bits
def test_losses_of_batches_that_both_sides_share(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pipelines that make other images of the same file: with one side's batches losses are the same."""
    options = ("--split", "train", "--iterations", "2", "--scalars")
    theirs = dump(config, tmp_path / "a.npz", *options, str(tmp_path / "a.json"))
    calls = {key.split("|")[2] for key in dumps.read(theirs) if key.split("|")[1] == "data"}
    assert calls == {"0", "1", "2"}
    small = ("--scale", "60", "45")
    own = dump(config, tmp_path / "b.npz", *options, str(tmp_path / "b.json"), *small)
    difference = first(theirs, own, tmp_path)["first"]
    assert (difference["name"], difference["call"]) == ("data.inputs", 0)
    shared = ("--batch", str(theirs))
    same = dump(config, tmp_path / "c.npz", *options, str(tmp_path / "c.json"), *small, *shared)
    assert first(theirs, same, tmp_path)["bit_equal"] is True
    equal = {}
    for name in ("b", "c"):
        logs = [str(tmp_path / f"{side}.json") for side in ("a", name)]
        assert align.main(["losses", *logs, "--out", str(tmp_path / "o.json")]) == 0
        equal[name] = json.loads((tmp_path / "o.json").read_text())["bit_equal"]
    assert equal == {"b": False, "c": True}
    capsys.readouterr()
    more = [str(config), "--out", str(tmp_path / "d.npz"), "--seed", "3", "--iterations", "3", *shared]
    assert capture.main(more) == 2
    assert capsys.readouterr().err == "capture: the dump holds no data of iteration 3\n"
    assert not (tmp_path / "d.npz").exists()


def test_what_is_no_dump(
    config: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.npz").write_bytes(whole.read_bytes()[:1000])
    arguments = [str(whole), str(tmp_path / "torn.npz"), "--out", str(tmp_path / "o.json")]
    assert align.main(["modules", *arguments]) == 2
    (tmp_path / "points.json").write_text('{"DDQFCNHead": {"y": {"legacy": "z"}}, "Other": {"z": "none()"}}')
    argv = [str(config), "--out", str(tmp_path / "b.npz"), "--seed", "3", "--points"]
    assert capture.main([*argv, str(tmp_path / "points.json")]) == 2
    (tmp_path / "points.json").write_text('{"DDQFCNHead": {"x": "bbox_head.none()"}}')
    assert capture.main([*argv, str(tmp_path / "points.json")]) == 2
    (tmp_path / "points.json").write_text('{"x": "bbox_head.none()"}')
    assert capture.main([*argv, str(tmp_path / "points.json")]) == 2
    assert (
        capture.main([str(config), "--out", str(tmp_path / "b.npz"), "--seed", "3", "--imports", "nil"]) == 2
    )
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors] == ["align", *["capture"] * 4]
    assert "point y: no path for side 'new'" in errors[1]
    assert "the model has no bbox_head.none()" in errors[2]
    assert "expected {class: {name: point}}" in errors[3]
    assert "No module named 'nil'" in errors[4]
    assert not (tmp_path / "o.json").exists()
    assert not (tmp_path / "b.npz").exists()


def test_not_a_number_on_one_side_differs() -> None:
    import numpy as np

    a = {"000000|m|0|value": np.array([1.0, np.nan])}
    b = {"000000|m|0|value": np.array([1.0, 2.0])}
    assert modules.compare(a, a)["first"] is None
    assert modules.compare(a, b)["first"]["a"]["not_finite"] == 1


def test_outputs_of_another_structure_are_left_over() -> None:
    import numpy as np

    a = {"000000|inner|0|value": np.ones(2), "000001|outer|0|0.scores": np.ones(2)}
    b = {"000000|inner|0|value": np.ones(2), "000001|outer|0|0.0": np.ones(2)}
    result = modules.compare(a, b)
    assert (result["first"], result["apart"], result["metrics"]["left_over"]) == (None, ["outer"], 1)
    assert result["bit_equal"] is False
