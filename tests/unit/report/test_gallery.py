"""The gallery shows where two codes differ and where both fail, only to who asks, and never to others."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddqjobs.project import Project, open_project
from ddqjobs.report import gallery
from tests.bench import pages
from tests.support import paper, shapes
from tests.unit.detect.test_recompute import predictions
from tests.unit.report.test_command import call, with_predictions
from tests.unit.report.test_page import Reader


def photographed(recorded_project: Project) -> Project:
    """Leave predictions and images of one model: the new code finds every object 30 pixels to the right."""
    for run, shift in (("p3-test.m000.s0", 2), ("p4-test.m000.s0", 30)):
        folder = with_predictions(recorded_project, run, 0.7, shift).parent
        truth = json.loads((folder / "truth.json").read_text())
        truth["categories"][0]["name"] = "<b>a</b>"
        (folder / "val").mkdir()
        for image in truth["images"]:
            image["file_name"] = f"{image['id']}.png"
            Image.new("RGB", (1000, 600)).save(folder / "val" / image["file_name"])
        (folder / "truth.json").write_text(json.dumps(truth))
        with (folder / "model.py").open("a") as config:
            config.write(shapes.LOADER.format(str(folder)))
    return open_project(recorded_project.root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return photographed(paper.make(tmp_path / "project", seeds=1, rows=60))


def page(project: Project, *arguments: object) -> str:
    path = project.root / "page.html"
    ran = call(project, "report", "paper", "-o", path, *arguments)
    assert ran.code == 0, ran.err
    return path.read_text()


@pytest.mark.long
@pytest.mark.parametrize("image", [pages.photograph, pages.noise])
def test_a_page_with_a_hundred_images_is_smaller_than_15_mb(tmp_path: Path, image: pages.Picture) -> None:
    pages.gallery(tmp_path / "project", image)
    text = page(open_project(tmp_path / "project"), "--gallery", 50)
    assert text.count('href="data:image/jpeg') == 100
    assert len(text.encode()) < 15e6


def test_images_are_shown_once_small_with_the_boxes_of_the_truth_and_both_codes(project: Project) -> None:
    text = page(project, "--gallery", 2, "--recompute")
    images = re.findall(r'<image id="photo-\d" href="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 2
    assert Image.open(io.BytesIO(base64.b64decode(images[0]))).size == (480, 288)
    read = Reader(text)
    assert "The two differ most" in read.text
    assert all(place.startswith("data:") for place in read.loads)
    assert "<title>truth: &lt;b&gt;a&lt;/b&gt;</title>" in text
    assert "<title>phase 4 new: b 0.90</title>" in text
    assert 'aria-label="1.png. truth: b; phase 3 legacy: b 0.90; phase 4 new: b 0.90"' in text
    assert "1 objects" not in read.text
    # What the recomputation found is beside it.
    assert "precision, overlap 0.50" in read.text
    assert (
        "The codes differ most in AP on <b>a</b> (m000: 0.0 in phase 4, 90.0 in phase 3, -90.0)" in read.text
    )


def test_where_both_fail_the_caption_says_the_kinds_of_error_of_each(project: Project) -> None:
    attempts = project.root / "results/paper/runs/p3-test.m000.s0/attempts/1/work_dir"
    predictions(attempts, 300)
    text = Reader(page(project, "--gallery", 1)).text.partition("Both fail")[2]
    caption = "phase 3 legacy 2 errors (1 background, 1 missed), phase 4 new 1 error (1 localisation)"
    assert f"1.png: 1 object; {caption}" in text
    # One more detection on an object that a better one has, by both codes.
    for run in ("p3-test.m000.s0", "p4-test.m000.s0"):
        path = project.root / f"results/paper/runs/{run}/attempts/1/work_dir/predictions.npz"
        predictions(path.parent, 0)
        arrays = dict(np.load(path))
        for name in ("boxes", "scores", "labels"):
            arrays[name] = np.concatenate([arrays[name][:1], arrays[name]])
        arrays["offsets"] = arrays["offsets"] + (np.arange(len(arrays["offsets"])) > 0)
        np.savez(path, **arrays)
    text = Reader(page(project, "--gallery", 1)).text.partition("Both fail")[2]
    assert "1.png: 1 object; 1 error (1 duplicate) in each" in text


def test_nobody_gets_images_who_did_not_ask_or_may_not_have_them(project: Project) -> None:
    assert "image/jpeg" not in page(project)
    refused = call(project, "report", "paper", "-o", "x.html", "--gallery", 2, "--share")
    assert (refused.code, "images may not be yours to share" in refused.err) == (2, True)
    assert "--format html" in call(project, "report", "paper", "--json", "--gallery", 2).err


def test_what_cannot_be_read_is_said_and_the_boxes_stay(project: Project) -> None:
    work_dir = project.root / "results/paper/runs/p4-test.m000.s0/attempts/1/work_dir"
    (work_dir / "val" / "1.png").write_bytes(b"\x89PNG torn")
    text = page(project, "--gallery", 4)
    assert "1.png: its image cannot be read" in text
    assert 'class="blank" width="100"' in text
    (work_dir / "predictions.npz").write_bytes(b"PK torn")
    assert "p4-test.m000.s0: " in Reader(page(project, "--gallery", 4)).text


def test_only_images_that_both_tests_looked_at_count(project: Project) -> None:
    # The two find the same, whose numbers are not exact in binary; the second test left out image 4.
    for run, count in (("p3-test.m000.s0", 4), ("p4-test.m000.s0", 3)):
        path = project.root / f"results/paper/runs/{run}/attempts/1/work_dir/predictions.npz"
        arrays = dict(np.load(path))
        arrays["boxes"] = np.array([[10.1, 10.3, 50.7, 50.9]] * count, np.float32)
        for name in ("image_ids", "scores", "labels"):
            arrays[name] = arrays[name][:count]
        arrays["offsets"] = arrays["offsets"][: count + 1]
        np.savez(path, **arrays)
        truth = json.loads((path.parent / "truth.json").read_text())
        nobody = {"id": 5, "width": 100, "height": 100, "file_name": "5.png"}
        truth["images"].append(nobody)
        truth["annotations"].append({**truth["annotations"][0], "id": 5, "image_id": 5})
        (path.parent / "truth.json").write_text(json.dumps(truth))
    text = page(project, "--gallery", 4)
    assert "On 3 images the two find exactly the same" in Reader(text).text
    assert "4.png" not in text
    assert "5.png" not in text
    assert "The two differ most" not in text


def test_the_page_says_on_which_class_and_image_the_codes_differ_most(tmp_path: Path) -> None:
    project = shapes.write(paper.make(tmp_path / "project", models=1, seeds=1, rows=60))
    report = project.report("paper", recompute=True)
    text = Reader(project.report_page(report, gallery=2)).text
    assert "The codes differ most by class: triangle -46.7 (m000, phase 4 from phase 3)" in text
    assert "by image: 000006.png (m000, phase 3 legacy and phase 4 new)" in text
    assert "phase 3 legacy no error, phase 4 new 3 errors (1 wrong class, 2 duplicate)" in text
    assert "phase 3 legacy 2 errors (2 duplicate), phase 4 new 3 errors (2 duplicate, 1 missed)" in text
    assert "The commonest error, with a score of at least 0.3: phase 3 duplicate (" in text
    # Counted once more, without looking at objects: detections that overlap a better one of their class.
    counted = {row.run: row.errors["duplicate"] for row in report.recomputed if row.errors}
    assert counted == {"p3-test.m000.s0": doubles(new=False), "p4-test.m000.s0": doubles(new=True)}
    assert counted["p4-test.m000.s0"] > counted["p3-test.m000.s0"] > 0


def doubles(*, new: bool) -> int:
    images = [shapes.found_by(new, number) for number in range(1, shapes.IMAGES + 1)]
    return sum(
        any(label == other and score < best and overlap(box, better) >= 0.5 for better, best, other in boxes)
        for boxes in images
        for box, score, label in boxes
    )


def overlap(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both)


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("test_dataloader = dict(dataset=dict(dataset=dict(data_prefix=dict(img='/d/val'))))", "/d/val"),
        ("data = dict(train=dict(img_prefix='t'), test=dict(img_prefix='data/val/'))", "data/val"),
        ("test_dataloader = dict(dataset=dict(data_root='data', data_prefix=dict(img='val')))", "data/val"),
    ],
)
def test_the_images_are_those_that_the_configuration_names(tmp_path: Path, config: str, folder: str) -> None:
    (tmp_path / "model.py").write_text(config)
    assert gallery.image_folder(tmp_path) == Path(folder)
