"""The statements of docs/explanation/ddq-notes.md about mmdet's DDQ DETR that a test can check."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import parity, runtime  # noqa: E402
from ddqjobs.detect.compare import mappings  # noqa: E402
from tests.support import shrunken  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SEED = 5


def build(change: Any = None) -> Any:
    """The small DDQ DETR with the weights of a seed."""
    cfg = shrunken.model("ddq-detr-4scale")
    cfg.bbox_head.num_classes = 80
    if change is not None:
        change(cfg)
    from mmdet.registry import MODELS

    return MODELS.build(cfg)


@pytest.mark.parametrize("collated", ["a list", "one tensor"])
def test_padding_is_of_height_and_width(collated: str) -> None:
    runtime.set_up()
    from mmdet.models.data_preprocessors import DetDataPreprocessor
    from mmdet.structures import DetDataSample

    images = torch.full((2, 3, 40, 50), 7, dtype=torch.uint8)
    inputs: Any = list(images) if collated == "a list" else images
    data = {"inputs": inputs, "data_samples": [DetDataSample(), DetDataSample()]}
    done = DetDataPreprocessor(pad_size_divisor=32)(data)
    assert [sample.pad_shape for sample in done["data_samples"]] == [(64, 64)] * 2
    assert done["inputs"].shape == (2, 3, 64, 64)
    assert done["inputs"][:, :, :40, :50].eq(7).all()  # at the upper left
    assert int(done["inputs"].sum()) == 7 * 2 * 3 * 40 * 50  # and zeros around it


def test_encoding_is_of_y_x_width_height() -> None:
    from mmdet.models.layers import coordinate_to_encoding

    base = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]])
    for place, name in enumerate("xywh"):
        other = base.clone()
        other[..., place] += 0.05
        blocks = (coordinate_to_encoding(other, 8) != coordinate_to_encoding(base, 8)).view(4, 8).any(1)
        assert [n for n, changed in zip("yxwh", blocks, strict=True) if changed] == [name]


def _swapped(original: Any) -> Any:
    def encode(boxes: Any, num_feats: int) -> Any:
        return original(boxes[..., [0, 1, 3, 2]], num_feats)

    return encode


@pytest.mark.bits
def test_another_order_needs_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Height before width: other results from the same weights, the same ones from weights in that order."""
    from mmdet.models.layers.transformer import ddq_detr_layers

    model = build()
    whole = parity.run(model, SEED)
    monkeypatch.setattr(parity, "fill", lambda *_: None)  # the weights stay
    encode = _swapped(ddq_detr_layers.coordinate_to_encoding)
    monkeypatch.setattr(ddq_detr_layers, "coordinate_to_encoding", encode)
    assert difference(parity.run(model, SEED), whole) > 0.01
    reorder(model, shrunken.WIDTH // 2)
    assert difference(parity.run(model, SEED), whole) < 1e-4


def reorder(model: Any, block: int) -> None:
    """The first layer's weights for height before those for width, ``block`` columns each."""
    weight = model.decoder.ref_point_head.layers[0].weight
    order = [*range(2 * block), *range(3 * block, 4 * block), *range(2 * block, 3 * block)]
    with torch.no_grad():
        weight.copy_(weight[:, order].clone())


def difference(one: parity.Ran, two: parity.Ran) -> float:
    """Largest relative difference of a loss term; the gradient adds up from run to run."""
    pairs = [(one.losses[name], two.losses[name]) for name in one.losses if name != "grad_norm"]
    return max(abs(x - y) / max(abs(x), abs(y), 1e-9) for x, y in pairs)


def test_box_refinement_means_separate_predictors() -> None:
    """mmdet's comment says that predictors share their weights when with_box_refine is True; they do when it
    is not."""
    runtime.set_up()
    from mmdet.models.detectors import DeformableDETR
    from mmdet.registry import MODELS

    cfg = shrunken.model("ddq-detr-4scale")
    keep = ("backbone", "neck", "encoder", "decoder", "positional_encoding", "train_cfg", "test_cfg")
    settings = {key: cfg[key] for key in keep}
    head: dict[str, Any] = {"type": "DeformableDETRHead", "num_classes": 3, "embed_dims": shrunken.WIDTH}
    head["loss_cls"] = cfg.bbox_head.loss_cls
    shared = {}
    for refine in (True, False):
        copied = {**copy.deepcopy(settings), "bbox_head": dict(head), "with_box_refine": refine}
        model = DeformableDETR(as_two_stage=False, num_queries=5, **copied)
        branches: Sequence[Any] = model.bbox_head.reg_branches
        shared[refine] = branches[0] is branches[1]
    assert shared == {True: False, False: True}
    cfg.with_box_refine = False
    with pytest.raises(AssertionError, match="with_box_refine must be True"):
        MODELS.build(cfg)


def references(model: Any) -> Any:
    """Boxes (images, queries, 4) after the first decoder layer of a training step."""
    outputs: list[Any] = []
    hook = model.decoder.register_forward_hook(lambda _module, _inputs, output: outputs.append(output[1][1]))
    parity.run(model, SEED)
    hook.remove()
    return outputs[-1]


@pytest.mark.bits
def test_the_last_queries_are_the_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The auxiliary predictors refine the dense queries, which come last, and nothing else."""
    model = build()
    before = references(model)
    with torch.no_grad():
        model.bbox_head.aux_reg_branches[0][-1].bias.add_(0.5)
    monkeypatch.setattr(parity, "fill", lambda *_: None)
    changed = (references(model) != before).any(-1)
    dense = model.cache_dict["num_dense_queries"]
    assert dense == 45  # 1.5 times 30
    assert not changed[:, :-dense].any()
    assert changed[:, -dense:].all()


def test_heads_are_8_and_6_and_could_be_7_and_7() -> None:
    """Moved to the other list, the encoder's auxiliary predictor has the name that the mapping gives it, and
    mmdet's -1 means another one."""
    model = build(lambda cfg: cfg.decoder.update(num_layers=6))
    head = model.bbox_head
    assert (len(head.cls_branches), len(head.aux_cls_branches)) == (8, 6)
    names = [mappings.MAPPINGS["8+6-to-7+7"](key) for key in model.state_dict()]
    for kind in ("cls", "reg"):
        main, auxiliary = getattr(head, f"{kind}_branches"), getattr(head, f"aux_{kind}_branches")
        auxiliary.append(main[-1])
        del main[-1]
        assert main[-1] is main[model.decoder.num_layers]  # what ranks the encoder's distinct queries
    assert sorted(model.state_dict()) == sorted(names)
