"""`data verify` finds what breaks detectors and pycocotools, and `--fix` mends what can be mended safely."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base.errors import StateError
from ddqjobs.base.findings import Level
from ddqjobs.data import classes, coco
from ddqjobs.data.mend import mend
from ddqjobs.spec.dataset import Dataset, Split
from tests.unit.data.test_data import coco as content_of
from tests.unit.data.test_data import png

SPLIT = Split(annotations="a.json", images="images")
Content = dict[str, Any]
Break = Callable[[Content], object]


def made(root: Path, count: int = 4) -> Content:
    """A whole split with so many images."""
    content = content_of(count)
    (root / "images").mkdir()
    for image in content["images"]:
        (root / "images" / image["file_name"]).write_bytes(png(image["width"], image["height"]))
    (root / "a.json").write_text(json.dumps(content))
    return content


def look(root: Path, sample: int | None = None, wanted: tuple[str, ...] = ()) -> coco.Examined:
    of = {"c.py": wanted} if wanted else {}
    return coco.examine(root, Dataset(path=str(root)), SPLIT, of, sample, lambda *_: None)


def each(change: Callable[[dict[str, Any]], object]) -> Break:
    return lambda content: [change(a) for a in content["annotations"]]


def text_ids(content: Content) -> None:
    for image in content["images"]:
        image["id"] = str(image["id"])
    for a in content["annotations"]:
        a["image_id"] = str(a["image_id"])


POINT = "a number with a point, not a whole number"
CASES: list[tuple[str, Break, list[tuple[Level, str, int]], bool]] = [
    ("no iscrowd", each(lambda a: a.pop("iscrowd")),
     [(Level.ERROR, "annotations have no iscrowd, which pycocotools needs", 12)], True),
    ("no area", each(lambda a: a.pop("area")),
     [(Level.ERROR, "annotations have no area, which detectors and pycocotools need", 12)], True),
    ("area 0", each(lambda a: a.update(area=0)),
     [(Level.ERROR, "annotations have a box and the area 0: a detector passes over them", 12)], True),
    ("area wrong", lambda d: d["annotations"][0].update(area=9000),
     [(Level.WARNING, "areas are larger than their box", 1)], False),
    ("crowds", each(lambda a: a.update(iscrowd=1)),
     [(Level.WARNING, "all annotations are crowds, which no detector learns", 1)], False),
    ("iscrowd 2", lambda d: d["annotations"][0].update(iscrowd=2),
     [(Level.ERROR, "annotations have an iscrowd that is neither 0 nor 1", 1)], False),
    ("text ids", text_ids,
     [(Level.ERROR, "images have an id that is text, not a whole number", 4),
      (Level.ERROR, "annotations' images have an id that is text, not a whole number", 12)], True),
    ("float ids", each(lambda a: a.update(category_id=float(a["category_id"]))),
     [(Level.ERROR, f"annotations' categories have an id that is {POINT}", 12)], True),
    ("double ids", lambda d: d["annotations"][0].update(id=1),
     [(Level.ERROR, "annotations have an id that another has", 1)], True),
    ("empty box", lambda d: d["annotations"][0].update(bbox=[]),
     [(Level.ERROR, "annotations are not as COCO's", 1)], False),
    ("float image ids", lambda d: [r.update(id=float(r["id"])) for r in d["images"]],
     [(Level.ERROR, f"images have an id that is {POINT}", 4)], True),
    ("id 0", lambda d: d["annotations"][0].update(id=0),
     [(Level.WARNING, "annotations have the id 0, which pycocotools takes for no match", 1)], True),
    ("no annotation", lambda d: d.update(annotations=[]),
     [(Level.ERROR, "no image has an annotation", 1)], False),
    ("an image without", lambda d: d.update(annotations=d["annotations"][:3]),
     [(Level.WARNING, "images have no annotation", 1)], False),
    ("sizes with a point", lambda d: [i.update(width=float(i["width"])) for i in d["images"]], [], False),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected", "mends"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_breaks_training_or_evaluation_is_found_and_mended_if_safe(
    tmp_path: Path, spoil: Break, expected: list[tuple[Level, str, int]], mends: bool
) -> None:
    content = made(tmp_path)
    spoil(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert [(f.level, f.what, f.count) for f in look(tmp_path).findings] == expected
    mended = mend(tmp_path / "a.json", tmp_path / "out.json")
    assert bool(mended) == (tmp_path / "out.json").exists() == mends
    if mends:
        (tmp_path / "out.json").replace(tmp_path / "a.json")
        assert look(tmp_path).findings == ()
        again = json.loads((tmp_path / "a.json").read_text())
        assert [a["segmentation"] for a in again["annotations"]] == [[[1.5, 2, 3, 4, 5, 6]]] * 12
        assert {a["area"] for a in again["annotations"]} == {205.0}


def test_mending_never_replaces_a_file(tmp_path: Path) -> None:
    made(tmp_path)
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(StateError, match="exists; give --fix the name of a new file"):
        mend(tmp_path / "a.json", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before


def test_ids_that_would_meet_are_not_mended(tmp_path: Path) -> None:
    content = made(tmp_path)
    content["images"][0]["id"] = f"0{content['images'][1]['id']}"
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(StateError, match=r"ids of images: '0(\d+)' and \1 would both be \1; fix them"):
        mend(tmp_path / "a.json", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_ids_that_no_number_stands_for_stay_and_none_is_given_twice(tmp_path: Path) -> None:
    content = made(tmp_path)
    rows = content["annotations"]
    far = ["9" * 5000, str(2**53), 1e300, 2**70]
    for row, value in zip(rows, [*far, 0, 0, 900], strict=False):
        row["id"] = value
    rows[8].update(bbox=[0, 0, 1e200, 1e200], area=0)
    rows[6]["bbox"], rows[7]["id"] = [], "0" * 5000 + "899"  # no annotation; its id stays, too
    (tmp_path / "a.json").write_text(json.dumps(content))
    mended = mend(tmp_path / "a.json", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())["annotations"]
    again = [row["id"] for row in written]
    assert (again[:4], again[4:8]) == (far, [901, 902, 900, 899])
    assert written[8]["area"] == 0  # JSON has no infinity
    assert mended["annotations numbered anew, whose id was 0 or met twice"] == 2


def test_a_file_that_is_not_utf_8_is_one_finding_with_its_place(tmp_path: Path) -> None:
    made(tmp_path)
    data = (tmp_path / "a.json").read_bytes()
    (tmp_path / "a.json").write_bytes(data.replace(b'"cat"', b'"c\xe9t"'))
    (finding,) = look(tmp_path).findings
    place = data.index(b'"cat"') + 2
    assert finding.what.startswith(f"is not UTF-8: byte 0xe9 at {place:,}")
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + data)
    (finding,) = look(tmp_path).findings
    assert (finding.what.startswith("begins with a byte order mark"), finding.mendable) == (True, True)
    assert mend(tmp_path / "a.json", tmp_path / "out.json") == {"a byte order mark removed": 1}
    assert (tmp_path / "out.json").read_bytes()[:1] == b"{"


def test_of_5000_images_the_empty_and_the_dangling_ones_are_found(tmp_path: Path) -> None:
    made(tmp_path, 5000)
    images = sorted((tmp_path / "images").iterdir())
    for image in images[:5]:
        image.write_bytes(b"")
    for image in images[-5:]:
        image.unlink()
        image.symlink_to("nowhere.png")
    inspection = look(tmp_path)
    assert (inspection.opened, [(f.what, f.count) for f in inspection.findings]) == (
        5000,
        [("images are broken", 5), ("images are links that lead nowhere", 5)],
    )


def test_all_images_are_looked_at_unless_a_sample_is_asked_for(tmp_path: Path) -> None:
    content = made(tmp_path, 300)
    names = [tmp_path / "images" / image["file_name"] for image in content["images"]]
    for path in names[7::100]:
        path.write_bytes(b"")
    for path in names[8::100]:
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    inspection = look(tmp_path)
    assert [(f.what, f.count) for f in inspection.findings] == [
        ("images are broken", 3),
        ("images are links that lead nowhere", 3),
    ]
    assert (inspection.opened, inspection.images) == (300, 300)
    assert (look(tmp_path, 10).opened, look(tmp_path, 10).images) == (10, 300)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("cat", "dog"), []),
        (("cat", "disc"), [("classes of c.py are no categories", ("disc",)),
                           ("categories are no classes of c.py", ("dog",))]),
        (("CAT", "DOG"), [("classes of c.py are no categories", ("CAT", "DOG"))]),
    ],
)  # fmt: skip
def test_categories_are_compared_with_the_configuration_s_classes(
    tmp_path: Path, wanted: tuple[str, ...], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    made(tmp_path)
    assert [(f.what, f.examples) for f in look(tmp_path, wanted=wanted).findings] == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("metainfo = dict(classes=('a', 'b'))", ("a", "b")),
        ("metainfo = {'classes': ['a']}", ("a",)),
        ("CLASSES = ('a',)", ("a",)),
        ("_base_ = 'base.py'", ("z",)),
        ("_base_ = 'base.py'\nclasses = ('a',)", ("a",)),
        ("_base_ = 'own.py'", ()),
        ("metainfo = dict(classes=tuple(range(3)))", ()),
        ("this is no Python", ()),
    ],
)
def test_classes_are_read_from_a_configuration_and_its_bases(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "base.py").write_text("metainfo = dict(classes=('z',))")
    (tmp_path / "configs" / "own.py").write_text(text)

    def find(name: str) -> Path | None:
        path = tmp_path / name
        return path if path.is_file() else None

    assert classes.of_config("configs/own.py", find) == names
