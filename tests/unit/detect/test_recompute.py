"""AP computed once more from predictions is what COCO's evaluation says, and says why where it cannot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddqjobs.base import process
from ddqjobs.detect import recompute
from ddqjobs.report.annotations import annotation_file

CONFIG = "test_evaluator = dict(ann_file={!r}, type='CocoMetric')\n"


def truth_in(folder: Path) -> Path:
    """Four images of one 40x40 object each, of two categories with numbers of their own."""
    boxes = [{"id": i, "image_id": i, "category_id": 3 + 4 * (i % 2), "bbox": [10, 10, 40, 40],
              "area": 1600, "iscrowd": 0} for i in range(1, 5)]  # fmt: skip
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in range(1, 5)],
        "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}],
        "annotations": boxes,
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    return path


def predictions(folder: Path, shift: float = 0.0) -> Path:
    """One detection per image, to the right by ``shift`` pixels."""
    arrays: dict[str, Any] = {
        "image_ids": np.arange(1, 5),
        "offsets": np.arange(5),
        "boxes": np.array([[10 + shift, 10, 50 + shift, 50]] * 4, np.float32),
        "scores": np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        "labels": np.array([1, 0, 1, 0]),
        "category_ids": np.array([3, 7]),
    }
    path = folder / "predictions.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    stamp = tmp_path / "work_dir" / "20261125_101010" / "vis_data"
    stamp.mkdir(parents=True)
    (stamp / "config.py").write_text(CONFIG.format(str(truth_in(tmp_path))))
    return tmp_path


def call(place: Path, *arguments: object) -> process.Completed:
    script = Path(recompute.__file__)
    argv = [sys.executable, str(script), str(place / "predictions.npz"), str(place / "truth.json")]
    return process.run([*argv, *map(str, arguments)], timeout=60)


@pytest.mark.parametrize(
    ("shift", "ap", "ap50"),
    [(0, 1.0, 1.0), (4, 0.7, 1.0), (30, 0.0, 0.0)],  # overlaps of 1, 0.818 (7 of 10 thresholds) and 0.14
)
def test_ap_is_the_share_of_thresholds_that_the_boxes_reach(
    place: Path, shift: float, ap: float, ap50: float
) -> None:
    predictions(place, shift)
    done = call(place)
    assert done.code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["bbox_mAP"], metrics["bbox_mAP_50"]) == pytest.approx((ap, ap50))
    assert metrics["bbox_mAP_l"] == -1.0
    assert metrics["bbox_mAP_m"] == pytest.approx(ap)


def test_coco_s_own_format_of_results_gives_the_same(place: Path) -> None:
    predictions(place, 4)
    results = [
        {"image_id": int(row[0]), "bbox": row[1:5], "score": row[5], "category_id": int(row[6])}
        for row in recompute.load(place / "predictions.npz").rows().tolist()
    ]
    path = place / "results.bbox.json"
    path.write_text(json.dumps(results))
    truth = place / "truth.json"
    assert recompute.evaluate(path, truth) == recompute.evaluate(place / "predictions.npz", truth)
    path.write_text("\ufeff\n  " + json.dumps(results))
    assert recompute.evaluate(path, truth) == recompute.evaluate(place / "predictions.npz", truth)
    path.write_text("[]")
    assert recompute.evaluate(path, truth).metrics["bbox_mAP"] == 0.0


def test_a_json_object_of_results_is_refused_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"results": []}')
    with pytest.raises(recompute.CannotEvaluate, match="a JSON object; COCO results are a list"):
        recompute.load(path)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "data = dict(train=dict(ann_file='no.json'), test=dict(type='CocoDataset', ann_file='a.json'))",
            "a.json",
        ),
        ("test_evaluator = [dict(type='x'), dict(ann_file='b.json')]", "b.json"),
        (
            "val_evaluator = dict(ann_file='val.json')\ntest_evaluator = dict(ann_file='test.json')",
            "test.json",
        ),
        ("val_evaluator = dict(ann_file='val.json')\ntest_evaluator = dict(format_only=True)", "val.json"),
    ],
)
def test_the_annotations_are_those_that_the_configuration_names(
    tmp_path: Path, config: str, expected: str
) -> None:
    (tmp_path / "model.py").write_text(config)
    assert annotation_file(tmp_path, tmp_path / "tree") == tmp_path / "tree" / expected


def test_a_relative_path_is_below_the_tree_in_which_the_test_ran(place: Path) -> None:
    (place / "work_dir" / "20261125_101010" / "vis_data" / "config.py").write_text(
        CONFIG.format("truth.json")
    )
    assert annotation_file(place / "work_dir", place) == place / "truth.json"


@pytest.mark.parametrize("damage", ["annotations", "predictions", "torn", "other"])
def test_what_cannot_be_evaluated_is_one_line(place: Path, damage: str) -> None:
    predictions(place)
    if damage == "annotations":
        (place / "truth.json").unlink()
    elif damage == "torn":
        whole = (place / "predictions.npz").read_bytes()
        (place / "predictions.npz").write_bytes(whole[: len(whole) // 2])
    elif damage == "other":
        (place / "predictions.npz").write_text('[{"image_id": 99}, 3]')
    else:
        (place / "predictions.npz").write_bytes(b"\x7fELF" + bytes(1000))
    done = call(place)
    assert done.code == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("recompute: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr


def test_a_configuration_that_cannot_be_read_names_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("\x00 not Python (")
    with pytest.raises(recompute.CannotEvaluate, match="names the annotations"):
        annotation_file(tmp_path, tmp_path)


def test_it_ends_where_its_memory_ends(place: Path) -> None:
    predictions(place)
    truth = json.loads((place / "truth.json").read_text())
    (place / "truth.json").write_text(json.dumps({**truth, "info": "x" * 80_000_000}))
    done = call(place, "--memory", 120_000_000)
    assert (done.code, done.stdout, done.stderr) == (4, "", "recompute: out of memory\n")


def test_of_many_detections_pycocotools_has_those_of_one_image_at_a_time(place: Path) -> None:
    truth = json.loads((place / "truth.json").read_text())
    truth["images"] += [{"id": i, "width": 100, "height": 100} for i in range(5, 155)]
    truth["annotations"][0]["id"] = 0  # which hotcoco reads in another way
    (place / "truth.json").write_text(json.dumps(truth))
    boxes = np.tile(np.array([10, 10, 50, 50], np.float32), (150_000, 1))
    np.savez(
        place / "predictions.npz", image_ids=np.arange(5, 155), offsets=np.arange(0, 150_001, 1000),
        boxes=boxes, scores=np.linspace(0, 1, 150_000, dtype=np.float32),
        labels=np.zeros(150_000, int), category_ids=np.array([3, 7]),
    )  # fmt: skip
    done = call(place, "--memory", 300_000_000)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["errors"]["background"] > 10_000


def test_ap_by_class_is_what_ap_is_the_mean_of(place: Path) -> None:
    evaluation = recompute.evaluate(predictions(place, shift=6), place / "truth.json")
    assert set(evaluation.classes) == {"a", "b"}
    assert sum(evaluation.classes.values()) / 2 == pytest.approx(evaluation.metrics["bbox_mAP"])
    assert 0 < evaluation.metrics["bbox_mAP"] < 1


def kinds(
    detections: list[dict[str, Any]], objects: list[dict[str, Any]], images: int, least: float = 0.3
) -> dict[str, int]:
    """Kind -> count over all sizes, of two categories."""
    results = recompute.from_results(detections)
    annotated = [{"area": 1, **a} for a in objects]
    sizes = recompute.error_kinds(results, annotated, range(1, images + 1), (1, 2), least)
    return {kind: sum(counts[kind] for counts in sizes.values()) for kind in sizes["small"]}


def test_each_kind_of_error_is_named_as_tide_names_it() -> None:
    def at(image: int, category: int, left: float, **more: Any) -> dict[str, Any]:
        return {"image_id": image, "category_id": category, "bbox": [left, 0, 100, 100], **more}

    objects = [at(1, 1, 0), at(1, 1, 300), at(2, 2, 0), at(3, 1, 0), at(4, 1, 0, iscrowd=1), at(5, 1, 0)]
    detections = [
        at(1, 1, 10, score=0.9),  # found
        at(1, 1, 0, score=0.8),  # a duplicate, though nearer
        at(1, 1, 360, score=0.7),  # badly localised: 0.25
        at(1, 2, 310, score=0.6),  # of the wrong class
        at(2, 1, 60, score=0.9),  # both: 0.25 with an object of the other class
        at(3, 1, 250, score=0.9),  # background
        at(3, 1, 0, score=0.29),  # not looked at
        at(4, 1, 20, score=0.9),  # in a crowd
    ]
    counts = kinds(detections, objects, 5)
    expected = {"found": 1, "duplicate": 1, "localisation": 1, "class": 1, "both": 1, "background": 1}
    # The objects of images 2, 3 and 5; the second of image 1 would be found by a better box.
    assert counts == {**expected, "missed": 3}


def test_duplicates_are_those_that_a_second_way_of_counting_finds() -> None:
    random = np.random.default_rng(7)
    objects: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(1, 31):
        for left in (0, 150, 300):
            objects.append({"image_id": image, "category_id": 1, "bbox": [left, 0, 100, 100]})
            for _ in range(int(random.integers(0, 4))):
                box = [left + float(random.uniform(0, 20)), 0, 100, 100]
                detections.append(
                    {"image_id": image, "category_id": 1, "bbox": box, "score": random.random()}
                )
    counts = kinds(detections, objects, 30)
    # Objects are far apart and every detection lies on one: all but the first of an object are duplicates.
    kept = [d for d in detections if d["score"] >= 0.3]
    places = {(d["image_id"], round(d["bbox"][0] // 150)) for d in kept}
    assert (counts["found"], counts["missed"]) == (len(places), 90 - len(places))
    assert counts["duplicate"] == len(kept) - len(places) > 10


def test_an_error_has_the_size_of_its_object_or_of_its_own_box() -> None:
    def at(left: float, size: float, **more: Any) -> dict[str, Any]:
        return {"image_id": 1, "category_id": 1, "bbox": [left, 0, size, size], "area": size**2, **more}

    detections = [
        at(0, 20, score=0.9),
        at(500, 50, score=0.8),
        at(200, 100, score=0.7),
        at(200, 100, score=0.6),
    ]
    objects = [at(0, 20), at(200, 100), at(900, 60)]
    sizes = recompute.error_kinds(recompute.from_results(detections), objects, [1], [1])
    counted = {size: {kind: n for kind, n in counts.items() if n} for size, counts in sizes.items()}
    assert counted == {
        "small": {"found": 1},
        "medium": {"background": 1, "missed": 1},
        "large": {"found": 1, "duplicate": 1},
    }


def crowded(folder: Path, seed: int, first: int) -> tuple[Path, Path]:
    """Annotations whose numbers begin with ``first``, with crowds, and detections with equal scores."""
    random = np.random.default_rng(seed)
    objects = [
        {"id": first + i, "image_id": int(random.integers(5, 15)), "bbox": box,
         "area": 0.7 * box[2] * box[3], "iscrowd": int(i % 10 == 0),
         "category_id": int(random.integers(1, 4)) * 3}
        for i in range(60)
        for box in [[*random.uniform(0, 200, 2).round(2), *np.exp(random.normal(3.8, 1, 2)).round(2)]]
    ]  # fmt: skip
    results = [
        {"image_id": a["image_id"], "bbox": np.abs(np.array(a["bbox"]) + random.normal(0, 6, 4)).tolist(),
         "score": round(float(random.random()), 1), "category_id": a["category_id"]}
        for a in objects
        for _ in range(random.integers(0, 20))
    ]  # fmt: skip
    images = [{"id": i, "width": 400, "height": 400} for i in (9, 5, 6, 7, 8, 10, 11, 12, 13, 14)]
    truth = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": i, "name": f"c{i}"} for i in (9, 3, 6)],
    }
    paths = folder / "results.json", folder / "instances.json"
    for path, content in zip(paths, (results, truth), strict=True):
        path.write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize("first", [1, 0])
def test_the_fast_evaluator_s_figures_are_pycocotools_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    pytest.importorskip("hotcoco")
    for seed in range(3):
        predictions, truth = crowded(tmp_path, seed, first)
        fast = recompute.evaluate(predictions, truth)
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "hotcoco", None)
            slow = recompute.evaluate(predictions, truth)
        assert fast == slow
        assert all(0 < fast.metrics[name] < 1 for name in recompute.METRICS)


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("info", {"year": "2017"}),
        ("licenses", None),
        ("categories", {"name": 3}),
        ("images", {"file_name": None}),
        ("images", {"width": "100"}),
        ("annotations", {"segmentation": [10, 10, 50, 10, 50, 50]}),
    ],
)
def test_annotations_that_only_pycocotools_reads_are_evaluated(
    place: Path, monkeypatch: pytest.MonkeyPatch, section: str, entry: dict[str, Any] | None
) -> None:
    pytest.importorskip("hotcoco")
    path = place / "truth.json"
    truth = json.loads(path.read_text())
    if isinstance(truth.get(section), list):
        truth[section][0].update(entry)
    else:
        truth[section] = entry
    path.write_text(json.dumps(truth))
    results = predictions(place, 4)
    assert recompute.evaluate(results, path).metrics["bbox_mAP"] == pytest.approx(0.7)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(
        ImportError, match=r"hotcoco cannot read truth\.json: .*; pycocotools, which may read"
    ):
        recompute.evaluate(results, path)


def test_precision_by_recall_has_ap_as_its_mean(tmp_path: Path) -> None:
    evaluation = recompute.evaluate(*crowded(tmp_path, 1, 1))
    for name, metric in (("0.50:0.95", "bbox_mAP"), ("0.50", "bbox_mAP_50"), ("0.75", "bbox_mAP_75")):
        assert len(evaluation.precision[name]) == 101
        assert np.mean(evaluation.precision[name]) == pytest.approx(evaluation.metrics[metric], abs=1e-5)
        assert evaluation.precision[name] == sorted(evaluation.precision[name], reverse=True)
