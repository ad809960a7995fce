"""`data link` and `data verify`: real trees, a generated COCO layout, each kind of defect planted in it."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.data import links
from tests.support.cli import Place, Ran, Terminal, finish, opened

EXPERIMENT = """
name: tiny
implementations: {}
codes:
  old: {path: trees/old}
  new: {path: trees/new}
  none: {}
models: {}
tasks:
  one: {kind: smoke, once: true, code: old, command: ["true"]}
  two: {kind: smoke, once: true, code: new, command: ["true"]}
datasets:
  coco:
    path: data/lvis
    link: data/coco
    categories: 2
    splits:
      train: {annotations: annotations/train.json, images: train2017, count: 6}
      val: {annotations: annotations/val.json, images: val2017, count: 4}
"""


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """Segments as a camera writes them: JFIF, fill bytes, a comment, a progressive frame, the end."""
    app0 = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    comment = b"\xff\xff\xfe\x00\x05\xff\xc0\x00"  # what looks like a frame in it is none
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 8, 8, height, width, 0)
    return b"\xff\xd8" + app0 + comment + frame + b"\xff\xda\x00\x02" + bytes(50) + b"\xff\xd9"


def coco(count: int) -> dict[str, Any]:
    images = [
        {"id": 10 + i, "file_name": f"{i:012d}.jpg", "width": 40 + i, "height": 30, "license": 1}
        for i in range(count)
    ]
    boxes = [
        {"id": k or 10**6, "image_id": 10 + k % count, "category_id": 1 + k % 2, "bbox": [1.5, 2, 10, 20.5],
         "segmentation": [[1.5, 2, 3, 4, 5, 6]], "area": 205.0, "iscrowd": 0}
        for k in range(3 * count)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": boxes, "categories": categories}


def write(place: Place, split: str, content: dict[str, Any]) -> None:
    place.text(f"data/lvis/annotations/{split}.json", json.dumps(content))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", EXPERIMENT) as project:
        for split, count in (("train", 6), ("val", 4)):
            content = coco(count)
            write(project, split, content)
            folder = project.root / "data" / "lvis" / f"{split}2017"
            folder.mkdir()
            for i, image in enumerate(content["images"]):
                make = png if i % 2 else jpeg
                (folder / image["file_name"]).write_bytes(make(image["width"], image["height"]))
        for tree in ("old", "new"):
            (project.root / "trees" / tree).mkdir(parents=True)
        yield project


# -- link ------------------------------------------------------------------------------------------------


def at(place: Place, tree: str) -> Path:
    return place.root / "trees" / tree / "data" / "coco"


def test_links_are_made_once(place: Place) -> None:
    preview = place.invoke("data", "link", "tiny", "--dry-run")
    assert (preview.code, preview.out.count("would be linked"), at(place, "old").exists()) == (0, 2, False)
    first = place.invoke("data", "link", "tiny", "--json")
    assert (first.code, [row["made"] for row in first.json["links"]]) == (0, [True, True])
    for tree in ("old", "new"):
        assert at(place, tree).readlink() == place.root / "data" / "lvis"
        assert (at(place, tree) / "val2017").is_dir()
    second = place.invoke("data", "link", "tiny", "--json")
    assert (second.code, [row["made"] for row in second.json["links"]]) == (0, [False, False])
    assert place.invoke("data", "link", "tiny").out.count("is linked") == 2


def test_filters_choose_the_trees(place: Place) -> None:
    assert place.invoke("data", "link", "tiny", "two").code == 0
    assert (at(place, "old").exists(), at(place, "new").exists()) == (False, True)


def test_a_real_folder_stays_and_then_nothing_is_linked(place: Place) -> None:
    at(place, "new").mkdir(parents=True)
    (at(place, "new") / "precious").write_text("x")
    for options in ((), ("--relink",)):
        ran = place.invoke("data", "link", "tiny", *options)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert f"{at(place, 'new')}: a real folder or file in the link's place stays: move it away" in ran.err
    assert (at(place, "new") / "precious").read_text() == "x"
    assert not at(place, "old").exists()


def test_a_link_that_leads_elsewhere_is_replaced_only_when_asked(place: Place) -> None:
    at(place, "old").parent.mkdir()
    at(place, "old").symlink_to("/nowhere")
    ran = place.invoke("data", "link", "tiny")
    assert (ran.code, at(place, "new").exists()) == (2, False)
    dry = place.invoke("data", "link", "tiny", "--dry-run")
    assert (dry.code, dry.err) == (2, ran.err)
    would = place.invoke("data", "link", "tiny", "--dry-run", "--relink")
    assert (would.code, "would be linked (now a link to /nowhere)" in would.out) == (0, True)
    assert (str(at(place, "old").readlink()), at(place, "new").exists()) == ("/nowhere", False)
    assert f"is a link to /nowhere, not to {place.root}/data/lvis: --relink replaces it" in ran.err
    assert place.invoke("data", "link", "tiny", "--relink").code == 0
    assert at(place, "old").readlink() == place.root / "data" / "lvis"
    assert [path.name for path in at(place, "old").parent.iterdir()] == ["coco"]


def test_a_link_by_another_way_to_the_same_place_is_right(place: Place) -> None:
    at(place, "old").parent.mkdir()
    at(place, "old").symlink_to("../../../data/lvis")
    assert place.invoke("data", "link", "tiny").code == 0
    assert str(at(place, "old").readlink()) == "../../../data/lvis"


def test_a_tree_or_a_data_set_that_is_not_there(place: Place) -> None:
    (place.root / "trees" / "old").rmdir()
    ran = place.invoke("data", "link", "tiny")
    assert ran.code == 2
    assert f"{at(place, 'old')}: the code tree of old is not there" in ran.err
    (place.root / "data" / "lvis").rename(place.root / "data" / "moved")
    ran = place.invoke("data", "link", "tiny", "two")
    assert ran.code == 2
    assert f"{place.root}/data/lvis: data set coco is not there" in ran.err


@pytest.mark.parametrize("question", ["realpath", "lexists"])
def test_a_link_that_another_terminal_makes_between_two_questions_leads_nowhere_else(
    tmp_path: Path, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, path, target = tmp_path / "tree", tmp_path / "tree" / "coco", tmp_path / "coco"
    tree.mkdir()
    target.mkdir()
    ask = getattr(os.path, question)

    def after(queried_path: Path) -> object:
        answer = ask(queried_path)
        if queried_path == path and not path.is_symlink():
            path.symlink_to(target)
            return ask(queried_path) if question == "lexists" else answer
        return answer

    monkeypatch.setattr(os.path, question, after)
    assert links._there(tree, path, target) is links.There.NOTHING


def test_two_terminals_link_at_once(place: Place) -> None:
    children = [place.spawn("data", "link", "tiny") for _ in range(4)]
    assert [finish(child).code for child in children] == [0] * 4
    assert [path.name for path in at(place, "old").parent.iterdir()] == ["coco"]


def test_doctor_says_whether_data_is_linked(place: Place) -> None:
    def lines() -> list[tuple[str, str, str]]:
        ran = place.invoke("doctor", "tiny", "--no-job", "--json")
        return [
            (x["level"], x["found"], x.get("remedy", "")) for x in ran.json["lines"] if x["what"] == "data"
        ]

    assert lines() == [
        ("error", f"{at(place, tree)} is not there", "ddqjobs data link tiny") for tree in ("old", "new")
    ]
    place.invoke("data", "link", "tiny")
    assert lines() == [("ok", "linked in 2 code trees", "")]
    (place.root / "data" / "lvis").rename(place.root / "data" / "moved")
    # The data set, and each link to it, told once.
    assert [level for level, _, _ in lines()] == ["error", "error", "error"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("link: data/coco", "link: /data/coco", "'/data/coco' must be a path below the folder it belongs to"),
        ("link: data/coco", "link: ../coco", "'../coco' must be a path below the folder it belongs to"),
        ("link: data/coco", "link: data/coco\n    codes: [odl]", "unknown code 'odl'; did you mean 'old'?"),
        ("images: val2017", "images: ../val2017", "'../val2017' must be a path below"),
        ("count: 4", "count: none", "datasets.coco.splits.val.count must be a whole number"),
        ("link: data/coco", "lnik: data/coco", "unknown key 'lnik' in datasets.coco; did you mean 'link'?"),
        ("datasets:", "datasets:\n  two: {path: x, link: data/coco}", "want the same link in one code tree"),
    ],
)  # fmt: skip
def test_a_wrong_declaration(place: Place, before: str, after: str, message: str) -> None:
    place.text("experiments/tiny.yaml", EXPERIMENT.replace(before, after))
    ran = place.invoke("data", "verify", "tiny")
    assert (ran.code, ran.out) == (2, "")
    assert "experiments/tiny.yaml:" in ran.err
    assert message in ran.err


# -- verify ----------------------------------------------------------------------------------------------


def found(ran: Ran) -> list[tuple[str, str, int, list[str]]]:
    """(level, what, how often, examples) of all findings."""
    return [
        (f["level"], f["what"], f["count"], f["examples"])
        for split in ran.json["splits"]
        for f in split["findings"]
    ]


def test_a_whole_data_set(place: Place) -> None:
    ran = place.invoke("data", "verify", "tiny", "--json")
    assert (ran.code, ran.json["errors"], found(ran)) == (0, 0, [])
    assert (
        place.invoke("data", "verify", "tiny").out == "ok       coco train: whole\nok       coco val: whole\n"
    )


Break = Callable[[dict[str, Any]], object]
ERRORS: list[tuple[str, Break, list[tuple[str, int, list[str]]]]] = [
    ("image id", lambda d: d["images"][1].update(id=10), [
        ("images have an id that another has", 1, ["10"]),
        ("annotations name an image that is not listed", 3, ["1", "5", "9"]),
        ]),
    ("image file", lambda d: d["images"][1].update(file_name="000000000000.jpg", width=40),
     [("images have a file that another has", 1, ["000000000000.jpg"])]),
    ("annotation id", lambda d: d["annotations"][1].update(id=10**6),
     [("annotations have an id that another has", 1, ["1000000"])]),
    ("category id", lambda d: d["annotations"][1].update(category_id=9),
     [("annotations name a category that is not listed", 1, ["1"])]),
    ("image of an annotation", lambda d: d["annotations"][1].update(image_id=9),
     [("annotations name an image that is not listed", 1, ["1"])]),
    ("negative box", lambda d: d["annotations"][1].update(bbox=[1, 1, -2, 3], area=0),
     [("boxes have a negative size", 1, ["1"])]),
    ("box beside", lambda d: d["annotations"][1].update(bbox=[100, 1, 2, 3], area=6),
     [("boxes lie outside their image", 1, ["1"])]),
    ("size", lambda d: d["images"][1].update(height=0), [
        ("images have no size", 1, ["000000000001.jpg"]),
        ("boxes lie outside their image", 3, ["1", "5", "9"]),
        ("images have another size than annotated", 1, ["000000000001.jpg (41x30, annotated 41x0)"])]),
    ("other size", lambda d: d["images"][2].update(width=50),
     [("images have another size than annotated", 1, ["000000000002.jpg (42x30, annotated 50x30)"])]),
    ("missing image", lambda d: d["images"][2].update(file_name="gone.jpg"),
     [("annotated images are not there", 1, ["gone.jpg"])]),
    ("too few", lambda d: (d["images"].pop(), d["annotations"].__delitem__(slice(3, None, 4))),
     [("lists 3 images, 4 are declared", 1, [])]),
    ("categories", lambda d: d["categories"].append({"id": 3, "name": "dog"}),
     [("lists 3 categories, 2 are declared", 1, []),
      ("categories have a name that another has", 1, ["dog"])]),
    ("no box", lambda d: d["annotations"][1].pop("bbox"),
     [("annotations are not as COCO's", 1,
       ["number 1: Object missing required field `bbox`"])]),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_a_planted_mistake(place: Place, spoil: Break, expected: list[tuple[str, int, list[str]]]) -> None:
    content = coco(4)
    spoil(content)
    write(place, "val", content)
    ran = place.invoke("data", "verify", "tiny", "--json")
    assert ran.code == 1
    assert found(ran) == [("error", *rest) for rest in expected]


def test_what_is_no_mistake_is_a_warning(place: Place) -> None:
    content = coco(4)
    content["annotations"][0]["bbox"] = [1, 1, 5, 0]
    content["annotations"][1]["bbox"] = [-5, 1, 10, 10]
    content["annotations"][2]["bbox"] = [35, 1, 7.9, 10]  # within a pixel: rounded
    for box in content["annotations"][:3]:
        box["area"] = 1
    write(place, "val", content)
    ran = place.invoke("data", "verify", "tiny", "--json")
    assert (ran.code, ran.json["errors"]) == (0, 0)
    assert found(ran) == [
        ("warning", "boxes have no area", 1, ["1000000"]),
        ("warning", "boxes reach out of their image by more than a pixel", 1, ["1"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is empty"),
        ('{"images": [', "is not a complete annotation file: Input data was truncated"),
        ('{"images": [], "categories": []}', "Object missing required field `annotations`"),
        ('{"images": [{"id": []}], "categories": [], "annotations": []}', "- at `$.images[0].id`"),
        ("<html>", "is not a complete annotation file: JSON is malformed"),
        (
            '{"images": [], "categories": [{"id": 1}], "annotations": []}',
            "field `name` - at `$.categories[0]`",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.png", "width": 9}], "categories": [], "annotations": []}',
            "field `height` - at `$.images[0]`",
        ),
        ('{"images": [], "categories": [], "annotations": [{"bbox": [NaN, 5, 2, 2]}]}', "JSON is malformed"),
    ],
)
def test_annotations_that_cannot_be_read(place: Place, content: str | None, message: str) -> None:
    path = place.root / "data" / "lvis" / "annotations" / "val.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    ran = place.invoke("data", "verify", "tiny", "--split", "val")
    assert ran.code == 1
    assert ran.out.count("\n") == 1
    assert ran.out.startswith(f"error    coco val: {path}: ")
    assert message in ran.out


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (lambda path: path.unlink(), ["has 3 files, 4 are declared", "annotated images are not there: {}"]),
        (lambda path: path.write_bytes(b""), ["images are broken: {} (empty)"]),
        (
            lambda path: path.write_bytes(path.read_bytes()[:15]),
            ["images are broken: {} (cut off in its header)"],
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            ["images are broken: {} (cut off: its end is missing)"],
        ),
        (lambda path: path.write_bytes(b"<html>404"), ["images are broken: {} (neither JPEG nor PNG)"]),
        (lambda path: path.with_name("more.jpg").write_bytes(b"x"), ["has 5 files, 4 are declared"]),
    ],
    ids=["gone", "empty", "header", "cut", "page", "more"],
)
@pytest.mark.parametrize("name", ["000000000002.jpg", "000000000003.jpg"], ids=["jpeg", "png"])
def test_images_that_are_broken(
    place: Place, name: str, spoil: Callable[[Path], object], messages: list[str]
) -> None:
    spoil(place.root / "data" / "lvis" / "val2017" / name)
    ran = place.invoke("data", "verify", "tiny")
    assert ran.code == 1
    errors = [line for line in ran.out.splitlines() if line.startswith("error")]
    assert len(errors) == len(messages)
    for line, text in zip(errors, messages, strict=True):
        assert text.format(name) in line
    assert "ok       coco train: whole" in ran.out


def test_folders_that_are_not_there(place: Place) -> None:
    images = place.root / "data" / "lvis" / "val2017"
    images.rename(images.with_name("elsewhere"))
    ran = place.invoke("data", "verify", "tiny")
    assert (ran.code, ran.out.count("\n")) == (1, 2)
    assert f"error    coco val: {images}: cannot be listed: No such file or directory" in ran.out
    (place.root / "data" / "lvis").rename(place.root / "data" / "gone")
    ran = place.invoke("data", "verify", "tiny", "--split", "train")
    assert (ran.code, ran.out) == (1, f"error    coco train: {place.root}/data/lvis: no such folder\n")


def test_checksums_and_the_size_of_the_sample(place: Place) -> None:
    place.text("experiments/tiny.yaml", EXPERIMENT.replace("count: 4", "count: 4, sha256: 0123456789"))
    ran = place.invoke("data", "verify", "tiny", "--json")
    [(level, what, _, _)] = found(ran)
    assert (ran.code, level) == (1, "error")
    assert what.startswith("has another SHA-256 than declared: ")
    right = what.rpartition(" ")[2]
    place.text("experiments/tiny.yaml", EXPERIMENT.replace("count: 4", f"count: 4, sha256: {right}"))
    assert place.invoke("data", "verify", "tiny").code == 0
    (place.root / "data" / "lvis" / "val2017" / "000000000000.jpg").write_bytes(b"")
    ran = place.invoke("data", "verify", "tiny", "--sample", "0")
    assert (ran.code, ran.out.count("\n")) == (0, 2)
    assert "coco val: whole, of a sample: 0 of 4 images were opened (--sample)\n" in ran.out
    assert place.invoke("data", "verify", "tiny", "--sample", "4").code == 1


def test_mended_annotations_are_written_to_a_new_file(place: Place) -> None:
    content = coco(4)
    for box in content["annotations"]:
        del box["iscrowd"]
    write(place, "val", content)
    out = place.root / "mended.json"
    assert place.invoke("data", "verify", "tiny", "--fix", str(out)).code == 2
    ran = place.invoke("data", "verify", "tiny", "--split", "val", "--fix", str(out))
    assert ran.code == 1
    assert "12 annotations have no iscrowd, which pycocotools needs" in ran.out
    assert ran.out.splitlines()[1:] == [
        "fixed: iscrowd 0 added (12)",
        f"written: {out}; declare it in the experiment and verify it again",
    ]
    out.replace(place.root / "data" / "lvis" / "annotations" / "val.json")
    assert place.invoke("data", "verify", "tiny", "--split", "val").code == 0


def test_bad_input_is_told(place: Place) -> None:
    ran = place.invoke("data", "verify", "tiny", "--split", "vla")
    assert (ran.code, ran.err) == (
        2,
        "error: unknown split 'vla'; did you mean 'val'?; there are: train, val\n",
    )
    place.text("experiments/tiny.yaml", EXPERIMENT.partition("datasets:")[0])
    for command in ("verify", "link"):
        ran = place.invoke("data", command, "tiny")
        assert (ran.code, ran.err.count("\n"), "declares no " in ran.err) == (2, 1, True)


def test_filters_that_leave_nothing_to_verify_are_answered(place: Place) -> None:
    place.text("experiments/tiny.yaml", EXPERIMENT.replace("categories: 2", "codes: [old]"))
    for filters in ((), ("--split", "val")):
        ran = place.invoke("data", "verify", "tiny", "two", *filters)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out == "nothing to verify: none of these runs reads such a split\n"
    assert place.invoke("data", "verify", "tiny", "two", "--json").json["splits"] == []
    assert "coco val" in place.invoke("data", "verify", "tiny", "one").out


def test_the_bar_is_for_terminals_only(place: Place) -> None:
    ran = place.call("data", "verify", "tiny")
    assert (ran.code, ran.err) == (0, "")
    terminal = Terminal(place, "data", "verify", "tiny", columns=100)
    code, output = terminal.close()
    assert code == 0
    assert "train2017: images" in output or "annotations" in output
    assert output.rstrip().endswith("coco val: whole")
