"""DDQ FCN, R-CNN and DETR against numbers that were measured with the release; parts of the new code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import parity, runtime  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

# Warnings of mmdet's and mmengine's own code with newer libraries.
pytestmark = pytest.mark.filterwarnings("ignore")
CONFIGS = ROOT / "experiments" / "configs" / "ddq"
OURS = {
    "ddq-fcn": CONFIGS / "ddq-fcn_r50_8xb2-12e_coco.py",
    "ddq-fcn-36e": CONFIGS / "ddq-fcn_r50_8xb2-36e_coco.py",
    "ddq-rcnn": CONFIGS / "ddq-rcnn_r50_8xb2-12e_coco.py",
    "ddq-rcnn-36e": CONFIGS / "ddq-rcnn_r50_8xb2-36e_coco.py",
}


def path(name: str) -> str:
    """A model's configuration: ours, or mmdet's."""
    if name in OURS:
        return str(OURS[name])
    import mmdet

    return str(Path(mmdet.__file__).parent / ".mim/configs/ddq" / f"{name}_r50_8xb2-12e_coco.py")


@pytest.fixture(scope="module", params=["ddq-fcn", "ddq-rcnn", "ddq-detr-4scale"])
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Any], parity.Ran]:
    """Return what was measured with the release, and the new code's results."""
    record = json.loads((CONFIGS / "recorded" / f"{request.param}.json").read_text())
    return record, parity.run(parity.build(path(request.param)), record["seed"])


@pytest.mark.bits
def test_predictions_are_the_releases(case: tuple[dict[str, Any], parity.Ran]) -> None:
    record, ran = case
    assert parity.predictions(ran, record) == []
    assert [image["detections"] for image in record["images"]] == [300, 300, 300]


@pytest.mark.bits
def test_losses_and_gradient_are_the_releases(case: tuple[dict[str, Any], parity.Ran]) -> None:
    record, ran = case
    assert parity.losses(ran, record) == []
    assert len(record["losses"]) >= 7


def test_other_numbers_are_told(case: tuple[dict[str, Any], parity.Ran]) -> None:
    record, ran = case
    other = {**record["losses"], "loss": record["losses"]["loss"] * 1.001}
    assert parity.losses(ran, {"losses": other})[0].startswith("loss is ")
    images = [{**image, "score_sum": image["score_sum"] + 0.1} for image in record["images"]]
    assert parity.predictions(ran, {"images": images}) != []


def test_parity_as_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ddqjobs.detect import product

    record = CONFIGS / "recorded" / "ddq-fcn.json"
    arguments = ["--case", path("ddq-fcn"), str(record), "--junit", str(tmp_path / "junit.xml")]
    assert parity.main(arguments) == 0
    assert "parity: 2 of 2 equal" in capsys.readouterr().out
    metrics = product.look({"kind": "unittest"}, tmp_path).metrics
    assert (metrics["tests"], metrics["failures"], metrics["errors"]) == (2.0, 0.0, 0.0)
    assert parity.main([*arguments[:2], str(tmp_path / "none.json"), *arguments[3:]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("name", "entries"), [("ddq-fcn", 384), ("ddq-rcnn", 470)])
def test_weights_are_called_as_in_the_release(name: str, entries: int) -> None:
    keys = list(parity.build(path(name)).state_dict())
    assert len(keys) == entries
    head, neck = ("bbox_head", "neck.0.") if name == "ddq-fcn" else ("rpn_head", "neck.")
    assert any(key.startswith(f"{neck}lateral_convs.0.") for key in keys)
    for part in ("cls_convs.3.gn.bias", "objectness.2.weight", "scales.4.scale", "aux_conv_cls.bias"):
        assert f"{head}.{part}" in keys
    # Optimizers number parameters in this order.
    firsts = list(dict.fromkeys(key.split(".")[0] for key in keys))
    assert firsts == ["backbone", "neck", *(["bbox_head"] if name == "ddq-fcn" else ["rpn_head", "roi_head"])]


def test_configurations_have_the_papers_schedule() -> None:
    """(learning rate, weight decay, clip, warm-up factor, warm-up iterations, epochs, steps)."""
    runtime.set_up()
    schedules = {}
    for name in OURS:
        cfg = runtime.load_config(path(name))
        wrapper, (warmup, steps) = cfg.optim_wrapper, cfg.param_scheduler
        clip = wrapper.clip_grad.max_norm if wrapper.get("clip_grad") else None
        schedules[name] = (
            wrapper.optimizer.lr, wrapper.optimizer.weight_decay, clip, warmup.start_factor, warmup.end - 1,
            cfg.train_cfg.max_epochs, steps.milestones,
        )  # fmt: skip
        assert wrapper.optimizer.type == "AdamW"
        assert cfg.model.data_preprocessor.pad_size_divisor == 32
        assert cfg.train_dataloader.batch_size == 2
        assert cfg.train_dataloader.dataset.filter_cfg == {"filter_empty_gt": True, "min_size": 32}
        scales = [t.get("scales") for t in _flat(cfg.train_dataloader.dataset.pipeline)]
        assert ([(400, 1333), (500, 1333), (600, 1333)] in scales) == name.endswith("36e")
    assert schedules == {
        "ddq-fcn": (5e-5, 0.1, None, 1e-3, 500, 12, [8, 11]),
        "ddq-fcn-36e": (5e-5, 0.1, 10, 1e-3, 500, 36, [27, 33]),
        "ddq-rcnn": (1e-4, 0.05, None, 1e-3, 500, 12, [8, 11]),
        "ddq-rcnn-36e": (1e-4, 0.05, 10, 1e-4, 2000, 36, [27, 33]),
    }


def _flat(pipeline: Any) -> list[Any]:
    steps = []
    for step in pipeline:
        steps += [s for branch in step.transforms for s in branch] if "transforms" in step else [step]
    return steps


@pytest.mark.parametrize("name", ["ddq-fcn", "ddq-rcnn-36e"])
def test_warm_up_is_the_releases(name: str) -> None:
    """mmcv 1.x: the rate of iteration i is (1 - (1 - i / n) * (1 - factor)) of the full one, until n."""
    from mmengine.optim import LinearLR

    runtime.set_up()
    settings = dict(runtime.load_config(path(name)).param_scheduler[0])
    assert settings.pop("type") == "LinearLR"
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, n = LinearLR(optimizer, **settings), settings["end"] - 1
    for i in range(n + 20):
        expected = 1 - (1 - i / n) * (1 - settings["start_factor"]) if i < n else 1.0
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.fixture(scope="module")
def head() -> Any:
    from mmdet.registry import MODELS as registry

    runtime.set_up()
    import ddqjobs.detect.models  # noqa: F401

    return registry.build({
        "type": "DDQFCNHead", "num_classes": 3, "in_channels": 16, "feat_channels": 16, "shuffle_channels": 4,
        "num_distinct_queries": 5, "dqs_cfg": {"type": "nms", "iou_threshold": 0.7, "nms_pre": 40},
        "norm_cfg": {"type": "GN", "num_groups": 4},
    })  # fmt: skip


def pyramid(channels: int = 16) -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    return [torch.randn(2, channels, *size, generator=generator) for size in sizes]


def test_shuffle_takes_from_the_neighbours(head: Any) -> None:
    """Levels that are constant show where a channel comes from."""
    levels = [torch.full((1, 16, 4, 4), float(level)) for level in range(5)]
    for level, mixed in enumerate(head.shuffle(levels)):
        values = mixed[0, :, 0, 0].tolist()
        assert values[:8] == [level] * 8
        assert values[8:12] == [min(level + 1, 4)] * 4
        assert values[12:] == [max(level - 1, 0)] * 4


def test_distinct_queries_do_not_overlap(head: Any) -> None:
    """Of any class: boxes of the same place compete, whatever they score highest for."""
    from mmdet.structures.bbox import bbox_overlaps

    from ddqjobs.detect.models.fcn_head import Queries

    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(200, 2, generator=generator) * 40 - 10
    boxes = torch.cat([corner, corner + 30 + torch.rand(200, 2, generator=generator) * 30], 1)
    queries = Queries(torch.rand(200, 3, generator=generator), boxes, torch.arange(200))
    (after,) = head.distinct_queries([queries])
    assert 1 < len(after.boxes) < 150
    overlaps = bbox_overlaps(after.boxes, after.boxes).fill_diagonal_(0)
    assert float(overlaps.max()) <= 0.7 + 1e-4
    best = after.scores.max(-1).values
    assert bool((best[:-1] >= best[1:]).all())
    assert torch.equal(boxes[after.points], after.boxes)


def test_dense_queries_are_the_best_of_each_level(head: Any) -> None:
    head.init_weights()
    (dense,) = head([feat * 20 for feat in pyramid()])
    for image, queries in enumerate(head.dense_queries(dense)):
        assert len(queries.boxes) == 40 + 40 + 24 + 6 + 2  # nms_pre, or all that there are
        finest = dense.scores[0][image].max(0).values.flatten()
        assert torch.equal(queries.scores[:40].max(-1).values, finest.sort(descending=True).values[:40])
        assert sorted(queries.points[80:104].tolist()) == list(range(384 + 96, 384 + 96 + 24))


def test_detections_are_few_sorted_and_inside(head: Any) -> None:
    (dense,) = head(pyramid())
    metas = [{"img_shape": (100, 150), "scale_factor": (0.5, 2.0)}] * 2
    for detections in head.predict_by_feat(dense, metas, rescale=True):
        assert len(detections.scores) == 5
        assert bool((detections.scores[:-1] >= detections.scores[1:]).all())
        assert bool((detections.bboxes >= 0).all())
        assert bool((detections.bboxes <= torch.tensor([300.0, 50.0, 300.0, 50.0])).all())


def test_main_loss_is_one_to_one_and_auxiliary_one_to_many(head: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(60, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + 5 + torch.rand(60, 2, generator=generator) * 40], 1)
    scores = torch.rand(60, 3, generator=generator)
    objects = (boxes[[3, 17]], torch.tensor([1, 2]), {"img_shape": (128, 128)})
    counts = []
    for loss in (head.main_loss, head.aux_loss):
        assigned = loss.assigner.assign(scores, boxes, *objects).gt_inds
        counts.append([int((assigned == i).sum()) for i in (1, 2)])
    assert counts == [[1, 1], [8, 8]]


def test_cost_takes_probabilities(head: Any) -> None:
    """The cost of a probability is FocalLossCost's of its logit. mmdet's assigner takes it for a logit."""
    from mmdet.models.task_modules.assigners import FocalLossCost
    from mmengine.structures import InstanceData

    logits = torch.linspace(-4, 4, 12).reshape(4, 3)
    objects = InstanceData(labels=torch.tensor([0, 2]))
    cost = head.main_loss.assigner.cls_cost(InstanceData(scores=logits.sigmoid()), objects)
    reference = FocalLossCost(weight=2.0)(InstanceData(scores=logits), objects)
    assert torch.allclose(cost, reference, atol=1e-5)


def test_building_a_head_leaves_its_configuration_alone() -> None:
    from mmdet.registry import MODELS as registry

    runtime.set_up()
    cfg = runtime.load_config(path("ddq-rcnn")).model
    before = cfg.to_dict()
    registry.build(cfg)
    assert cfg.rpn_head.to_dict() == before["rpn_head"]
    assert cfg.rpn_head.dqs_cfg.nms_pre == 1000
