"""ddqjobs.detect.align and prepare: differences are found where they were put."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.detect import align, prepare
from ddqjobs.detect.compare import CannotCompare, detections, modules, scalars
from ddqjobs.detect.job import logs


def random_detections(seed: int = 0, images: int = 3, boxes: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (images * boxes, 2))
    size = rng.uniform(5, 50, (images * boxes, 2))
    return {
        "image_ids": np.arange(1, images + 1),
        "offsets": np.arange(images + 1) * boxes,
        "boxes": np.concatenate([corner, corner + size], 1).astype(np.float32),
        "scores": np.sort(rng.uniform(0.01, 1, (images, boxes)), 1)[:, ::-1].reshape(-1).astype(np.float32),
        "labels": rng.integers(0, 3, images * boxes),
    }


def changed(arrays: dict[str, Any], name: str, index: Any, value: Any) -> dict[str, Any]:
    copy = {k: v.copy() for k, v in arrays.items()}
    copy[name][index] = value
    return copy


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def run(*arguments: object) -> dict[str, Any]:
    out = Path(str(arguments[1])).parent / "align.json"
    assert align.main([str(w) for w in arguments] + ["--out", str(out)]) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_equal_predictions(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", random_detections())
    result = run("predictions", path, path)
    assert result["bit_equal"] is True
    assert result["metrics"] == {
        "box": 0.0,
        "score": 0.0,
        "matched": 18,
        "unmatched": 0,
        "unmatched_score": 0.0,
        "images": 3,
        "not_finite": 0,
    }
    assert result["a"] == {"images": 3, "boxes": 18}


def test_one_moved_box(tmp_path: Path) -> None:
    a = random_detections()
    b = changed(a, "boxes", (7, 2), a["boxes"][7, 2] + np.float32(0.5))
    b = changed(b, "scores", 13, a["scores"][13] + np.float32(0.001))
    result = run("predictions", save(tmp_path / "a.npz", a), save(tmp_path / "b.npz", b))
    assert result["bit_equal"] is False
    assert result["metrics"]["box"] == pytest.approx(0.5, abs=1e-4)
    assert result["metrics"]["score"] == pytest.approx(0.001, abs=1e-6)
    assert result["worst_box"] == {"image_id": 2, "label": int(a["labels"][7])}
    assert result["worst_score"]["image_id"] == 3


def test_another_label_is_another_detection() -> None:
    a = random_detections()
    b = changed(a, "labels", 0, (a["labels"][0] + 1) % 3)
    metrics = detections.compare(a, b)["metrics"]
    assert metrics["unmatched"] >= 1
    assert metrics["unmatched_score"] == pytest.approx(float(a["scores"][0]))


def test_not_a_number_is_no_small_difference(tmp_path: Path) -> None:
    a = random_detections()
    b = changed(a, "scores", 4, np.nan)
    result = run("predictions", save(tmp_path / "a.npz", a), save(tmp_path / "b.npz", b))
    assert result["metrics"]["score"] is None
    assert result["metrics"]["not_finite"] == 1
    c = changed(a, "boxes", (4, 0), np.nan)
    metrics = detections.compare(a, c)["metrics"]
    assert (metrics["matched"], metrics["unmatched"]) == (17, 2)


def test_images_are_matched_by_id_and_duplicates_by_score() -> None:
    a = random_detections()
    order = [2, 0, 1]
    rows = np.concatenate([np.arange(6) + 6 * i for i in order])
    b = {k: a[k][rows] for k in ("boxes", "scores", "labels")}
    b.update(image_ids=a["image_ids"][order], offsets=a["offsets"])
    assert detections.compare(a, b)["metrics"]["box"] == 0.0
    same_box = changed(changed(a, "boxes", 1, a["boxes"][0]), "labels", 1, a["labels"][0])
    assert detections.compare(same_box, same_box)["metrics"]["score"] == 0.0


def test_boxes_without_area_match_themselves() -> None:
    a = random_detections()
    a["boxes"][3, 2:] = a["boxes"][3, :2]
    assert detections.compare(a, a)["metrics"]["unmatched"] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 8), st.integers(0, 8))
def test_counts_add_up(seed: int, n: int, m: int) -> None:
    a, b = random_detections(seed, 1, n), random_detections(seed + 1, 1, m)
    metrics = detections.compare(a, b)["metrics"]
    assert 2 * metrics["matched"] + metrics["unmatched"] == n + m
    swapped = detections.compare(b, a)["metrics"]
    assert swapped["matched"] >= 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.pop("boxes"),
        lambda a: a.update(offsets=a["offsets"][:-1]),
        lambda a: a.update(offsets=a["offsets"][::-1].copy()),
        lambda a: a.update(scores=a["scores"][:-1]),
        lambda a: a.update(image_ids=np.ones(3, dtype=np.int64)),
        lambda a: a.update(image_ids=a["image_ids"] + 100),
    ],
)
def test_predictions_that_cannot_be_compared(
    tmp_path: Path, spoil: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = random_detections(), random_detections()
    spoil(bad)
    paths = [str(save(tmp_path / "a.npz", good)), str(save(tmp_path / "b.npz", bad))]
    assert align.main(["predictions", *paths, "--out", str(tmp_path / "o.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 torn"])
def test_torn_predictions(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    paths = [str(tmp_path / "a.npz")] * 2
    assert align.main(["predictions", *paths, "--out", str(tmp_path / "o.json")]) == 2
    assert align.main(["losses", str(tmp_path / "none"), paths[0], "--out", str(tmp_path / "o.json")]) == 2


def curve(path: Path, *losses: float, **more: float) -> Path:
    rows = [
        {"loss": x, "loss_cls": 1.0, "epoch": 1, "step": i, "lr": 0.1 * i, **more}
        for i, x in enumerate(losses, 1)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"coco/bbox_mAP": 0.5, "step": 1}\n')
    return path


def test_equal_losses(tmp_path: Path) -> None:
    result = run("losses", curve(tmp_path / "a.json", 3, 2, 1), curve(tmp_path / "b.json", 3, 2, 1))
    assert result["bit_equal"] is True
    assert result["metrics"]["loss"] == 0.0
    assert result["metrics"]["first_difference"] is None
    assert result["metrics"]["iterations"] == 3
    assert result["val"] == {"1": 0.0}


def test_first_and_largest_difference(tmp_path: Path) -> None:
    result = run(
        "losses", curve(tmp_path / "a.json", 4, 2, 1, 8), curve(tmp_path / "b.json", 4, 2.000001, 0.5)
    )
    assert result["bit_equal"] is False
    assert result["metrics"]["first_difference"] == 2
    assert result["metrics"]["loss"] == pytest.approx(0.5)
    assert result["terms"]["loss"]["at"] == 3
    assert result["terms"]["loss_cls"] == {"relative": 0.0, "at": None}
    assert (result["metrics"]["iterations"], result["a"]["iterations"]) == (3, 4)


def test_nan_loss(tmp_path: Path) -> None:
    nan = math.nan
    result = run("losses", curve(tmp_path / "a.json", 4, nan, 1), curve(tmp_path / "b.json", 4, nan, 1))
    assert (result["bit_equal"], result["metrics"]["not_finite"]) == (True, 0)
    result = run("losses", curve(tmp_path / "a.json", 4, nan, 1), curve(tmp_path / "b.json", 4, 2, 1))
    assert result["metrics"]["loss"] is None
    assert (result["metrics"]["first_difference"], result["metrics"]["not_finite"]) == (2, 1)


def test_terms_of_one_side_only(tmp_path: Path) -> None:
    result = run("losses", curve(tmp_path / "a.json", 1.0), curve(tmp_path / "b.json", 1.0, loss_extra=3))
    assert (result["only_a"], result["only_b"], result["bit_equal"]) == ([], ["loss_extra"], False)


def test_mmcv_against_mmengine() -> None:
    old = [logs.Train(e, i, 0, {"loss": float(10 * e + i)}) for e in (1, 2) for i in (50, 100)]
    new = [
        logs.Train(e, 0, 120 * (e - 1) + i, {"loss": float(10 * e + i)}) for e in (1, 2) for i in (50, 100)
    ]
    one, two = (logs.Log(rows, [], [], 0, []) for rows in (old, new))
    result = scalars.compare(one, two)
    assert (result["bit_equal"], result["metrics"]["iterations"]) == (True, 4)


def test_no_common_iteration() -> None:
    empty = logs.Log([], [], [], 0, [])
    with pytest.raises(CannotCompare):
        scalars.compare(empty, empty)


def test_ap_of_logs(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", random_detections())
    for name, ap in (("x", 0.511), ("y", 0.513)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"coco/bbox_mAP": ap}))
    result = run("predictions", path, path, "--logs", tmp_path / "x.json", tmp_path / "y.json")
    assert result["metrics"]["ap"] == 0.2


def tree(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def dataset(out: Path, *more: str) -> int:
    options = ["dataset", "--out", str(out), "--images-train", "4", "--images-val", "2", "--size", "96x64"]
    return prepare.main([*options, *more])


def test_dataset_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert dataset(tmp_path / name) == 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    # Not only in one process: the bytes of this seed are known.
    assert tree(tmp_path / "a")[:16] == "8fa2d642456f5e66"
    assert dataset(tmp_path / "c", "--seed", "1") == 0
    assert tree(tmp_path / "c") != tree(tmp_path / "a")


def test_dataset_is_coco(tmp_path: Path) -> None:
    assert dataset(tmp_path, "--classes", "7") == 0
    content = json.loads((tmp_path / "annotations" / "train.json").read_text())
    assert len(content["images"]) == 4
    assert [c["id"] for c in content["categories"]] == list(range(1, 8))
    assert len({c["name"] for c in content["categories"]}) == 7
    for item in content["annotations"]:
        x, y, w, h = item["bbox"]
        assert 0 <= x <= x + w <= 96
        assert 0 <= y <= y + h <= 64
        assert item["area"] == w * h > 0
    assert {a["image_id"] for a in content["annotations"]} == {1, 2, 3, 4}


def test_more_training_images_do_not_change_validation(tmp_path: Path) -> None:
    assert dataset(tmp_path / "a") == 0
    assert dataset(tmp_path / "b", "--images-train", "9") == 0
    assert tree(tmp_path / "a" / "val") == tree(tmp_path / "b" / "val")


@pytest.mark.parametrize(
    "options",
    [("--size", "3x3"), ("--size", "big"), ("--classes", "0"), ("--classes", "31"), ("--images-val", "0")],
)
def test_impossible_datasets(
    tmp_path: Path, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dataset(tmp_path / "x", *options) == 2
    assert options[1] in capsys.readouterr().err or options[0] == "--images-val"
    assert not (tmp_path / "x").exists()


def _queries(rows: list[int], scores: list[float]) -> dict[str, Any]:
    """A dump of one image's queries, in this order."""
    boxes = np.random.default_rng(0).uniform(0, 300, (20, 4))
    place = "000000|head.distinct_queries|0|"
    return {
        f"{place}0.boxes": boxes[rows],
        f"{place}0.scores": np.array(scores)[rows],
        f"{place}unordered": np.array(True),
    }


def test_queries_that_a_score_s_last_digit_puts_in_another_order_are_the_same() -> None:
    scores = [1 - 0.01 * row for row in range(20)]
    a, swapped = [*range(20)], [*range(5), 6, 5, *range(7, 20)]
    other = [*scores[:5], scores[5] - 3e-7, *scores[6:]]
    result = modules.compare(_queries(a, scores), _queries(swapped, other), 1e-4)
    assert (result["first"], result["metrics"]["differing"]) == (None, 0)
    assert result["bit_equal"] is False
    assert result["metrics"]["module"] == pytest.approx(3e-7)
    in_order = {key: value for key, value in _queries(swapped, other).items() if "unordered" not in key}
    assert modules.compare(_queries(a, scores), in_order, 1e-4)["first"]["name"] == "head.distinct_queries"


def test_a_query_that_only_one_side_has_is_found_among_those_that_changed_places() -> None:
    scores = [1 - 0.01 * row for row in range(20)]
    b = _queries([*range(5), 6, 5, *range(7, 20)], scores)
    b["000000|head.distinct_queries|0|0.boxes"][9] += 10
    result = modules.compare(_queries([*range(20)], scores), b, 1e-4)
    assert result["first"]["part"] == "0.boxes"
    assert result["metrics"]["module"] > 0.02
