"""DDQ DETR with a mask of choice among its decoder's queries: what each mask lets whom see, that the default
is mmdet's own, and that each has losses and detections."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from ddqjobs.detect import parity, runtime  # noqa: E402
from tests.support import shrunken  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
OURS = ("rows-and-columns", "exact", "rows", "columns")


def build(mask: str | None) -> Any:
    """The small DDQ DETR: with a mask, or mmdet's own class."""
    cfg = shrunken.model("ddq-detr-4scale")
    cfg.bbox_head.num_classes = 80  # as the recorded inputs have
    from mmdet.registry import MODELS

    from ddqjobs.detect import models  # noqa: F401  (registers)

    if mask is not None:
        cfg.update(type="DistinctMaskDDQDETR", distinct_mask=mask)
    torch.manual_seed(1)
    detector = MODELS.build(cfg)
    detector.init_weights()
    return detector


def kept() -> Any:
    """Of four queries of one image the second and the fourth stay."""
    return torch.tensor([[False, True, False, True]])


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        ("rows-and-columns", ["0101", "1111", "0101", "1111"]),
        ("exact", ["0101", "1111", "0101", "1111"]),
        ("columns", ["0101", "0101", "0101", "0101"]),
        ("rows", ["1000", "1111", "0010", "1111"]),
    ],
)
def test_who_sees_whom(mask: str, rows: list[str]) -> None:
    runtime.set_up()
    from ddqjobs.detect.models import distinct_mask

    visibility = ~distinct_mask.blocked(kept(), mask)[0]
    assert ["".join(str(int(x)) for x in row) for row in visibility] == rows


def test_a_query_that_sees_nothing_becomes_nan() -> None:
    """`rows` must let a query see itself: with rows alone torch's attention has nothing to average."""
    attention = torch.nn.MultiheadAttention(8, 2)
    queries = torch.rand(4, 1, 8)
    only_rows = ~kept()[0][:, None].expand(4, 4)
    output = attention(queries, queries, queries, attn_mask=only_rows.expand(2, -1, -1))[0]
    assert output.isnan().all(-1)[:, 0].tolist() == [True, False, True, False]


def ran(mask: str | None) -> parity.Ran:
    model = build(mask)
    return parity.run(model, 5)


@pytest.mark.bits
def test_rows_and_columns_is_mmdets_own() -> None:
    """The same initial weights, predictions and losses, bit by bit."""
    own, ours = build(None).state_dict(), build("rows-and-columns").state_dict()
    assert list(own) == list(ours)
    assert all(torch.equal(own[key], ours[key]) for key in own)
    theirs, mine = ran(None), ran("rows-and-columns")
    assert mine.losses == theirs.losses
    for one, two in zip(mine.images, theirs.images, strict=True):
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}


def distinct(model: Any) -> list[list[int]]:
    """Return the number of distinct queries of each image after each layer, as the head reads it."""
    cache = model.cache_dict
    return [mask[:: cache["num_heads"], 0].sum(1).tolist() for mask in cache["distinct_query_mask"]]


@pytest.mark.parametrize("mask", OURS)
def test_distinct_queries_become_fewer_and_losses_are_finite(mask: str) -> None:
    model = build(mask)
    result = parity.run(model, 5)
    assert all(abs(value) < 1e6 for value in result.losses.values())
    counts = distinct(model)
    assert len(counts) == 1  # two layers
    assert all(0 < count <= model.num_queries for layer in counts for count in layer)


def test_row_0_quirk() -> None:
    """If query 0 stays, mmdet calls all queries distinct, whatever NMS says; with exact, those it leaves."""
    counts = {}
    for mask in ("rows-and-columns", "exact"):
        model = build(mask)
        # Boxes that overlap altogether: NMS leaves one query of each image.
        decoder, count = model.decoder, model.num_queries
        model.cache_dict.update(dis_query_info=[0, count], distinct_query_mask=[])
        points = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(2, count, 4)
        query = torch.rand(2, count, shrunken.WIDTH, generator=torch.Generator().manual_seed(2))
        scores = model.bbox_head.cls_branches[0](query).max(-1).values
        best = scores.argmax(1)
        # The best one of the first image comes first, that of the second image does not.
        query[0, [0, int(best[0])]] = query[0, [int(best[0]), 0]]
        query[1, [1, int(best[1])]] = query[1, [int(best[1]), 1]]
        blocked = torch.zeros(2 * model.cache_dict["num_heads"], count, count, dtype=torch.bool)
        decoder.select_distinct_queries(points, query, blocked, 0)
        counts[mask] = distinct(model)[0]
    assert counts == {"rows-and-columns": [30, 1], "exact": [1, 1]}


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="one of rows-and-columns, exact, rows, columns, not 'diagonal'"):
        build("diagonal")


def test_fast_form_does_not_take_it_over() -> None:
    from ddqjobs.detect import speed

    cfg = runtime.load_config(str(shrunken.MINI), ["speed=True"])
    cfg.model.type = "DistinctMaskDDQDETR"
    with pytest.raises(ValueError, match="no fast form of DistinctMaskDDQDETR"):
        speed.configure(cfg)


def plain(cfg: Any) -> Any:
    """A configuration without the notes of whose package its base is."""
    if isinstance(cfg, dict):
        return {key: plain(value) for key, value in cfg.items() if key != "_scope_"}
    return [plain(value) for value in cfg] if isinstance(cfg, list | tuple) else cfg


def test_configuration_of_the_experiment_is_mmdets_with_a_mask() -> None:
    """But for the class nothing differs, and COCO is where it is by default."""
    name = str(shrunken.CONFIGS / "ddq" / "ddq-detr-4scale-mask_r50_8xb2-12e_coco.py")
    assert type(parity.build(name).decoder).__name__ == "DistinctMaskDecoder"
    ours, theirs = (
        plain(runtime.load_config(path).to_dict()) for path in (name, shrunken.path("ddq-detr-4scale"))
    )
    assert ours.pop("custom_imports")["imports"] == ["ddqjobs.detect.models"]
    assert ours["model"].pop("distinct_mask") == "rows-and-columns"
    assert (ours["model"].pop("type"), theirs["model"].pop("type")) == ("DistinctMaskDDQDETR", "DDQDETR")
    for config in (ours, theirs):
        for key in ("val_evaluator", "test_evaluator"):
            config[key]["ann_file"] = config[key]["ann_file"].replace("//", "/")
    assert {key: value for key, value in ours.items() if key in theirs} == theirs
