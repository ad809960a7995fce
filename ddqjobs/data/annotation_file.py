"""Read a file of annotations in COCO's format, and judge what a detector and pycocotools need of it.

A file of annotations has hundreds of megabytes, most of them outlines that are of no interest here. It is
mapped, not read; annotations stay raw and are decoded one by one, only the fields looked at.
"""

from __future__ import annotations

import codecs
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from ddqjobs.base.findings import Level
from ddqjobs.data.findings import Tally
from ddqjobs.spec.dataset import Dataset, Split

Progress = Callable[[str, int, int | None], None]
"""(what, done, in all)"""
Id: TypeAlias = int | float | str
Classes: TypeAlias = Mapping[str, tuple[str, ...]]
"""configuration -> the names of its classes"""
_OUTSIDE = 1.0  # pixels that a box may reach out of its image: the released boxes are rounded
_LARGER = 1.05, 4.0  # what an area may have more than its box: a share, and pixels: both are rounded
_EVERY = 10_000  # annotations between two signs of progress
_BLOCK = 1 << 20
BOM = codecs.BOM_UTF8
EXACT = 1 << 53  # from here on two whole numbers may be one float


class Image(msgspec.Struct, frozen=True, gc=False):
    """The parts of an image that are looked at."""

    id: Id
    file_name: str
    width: float
    height: float


class Category(msgspec.Struct, frozen=True, gc=False):
    """The parts of a category that are looked at."""

    id: Id
    name: str


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """The parts of an annotation that are looked at."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels
    area: float | UnsetType = UNSET
    iscrowd: int | bool | UnsetType = UNSET


class File(msgspec.Struct, frozen=True):
    """A file of annotations, these still raw."""

    images: list[Image]
    categories: list[Category]
    annotations: list[msgspec.Raw]


def whole(value: Id) -> Id:
    """Return the whole number that an id stands for, or the id itself if it stands for none that every reader
    of JSON tells from its neighbours."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        digits = value.lstrip("0") or "0"
        number = int(digits) if len(digits) <= len(str(EXACT)) else EXACT
        return number if number < EXACT else value
    return value


def read(path: Path, tally: Tally) -> File | None:
    """Return the file; the raw annotations are slices of the mapped file, which lives as long as they do."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                tally.add(str(path), "is empty")
                return None
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return _decoded(path, data, tally)
    except OSError as error:
        tally.add(str(path), f"cannot be read: {error.strerror}")
    except msgspec.MsgspecError as error:
        tally.add(str(path), f"is not a complete annotation file: {error}")
    return None


def _decoded(path: Path, data: mmap.mmap, tally: Tally) -> File | None:
    wrong = _not_utf8(data)
    if wrong is not None:
        tally.add(
            str(path), f"is not UTF-8: byte {data[wrong]:#04x} at {wrong:,}; convert it, e.g. with iconv"
        )
        return None
    if data[: len(BOM)] != BOM:
        return msgspec.json.decode(data, type=File)
    tally.add(str(path), "begins with a byte order mark, which pycocotools refuses", mendable=True)
    return msgspec.json.decode(memoryview(data)[len(BOM) :], type=File)


def _not_utf8(data: mmap.mmap) -> int | None:
    """Return the place of the first byte that is not UTF-8's."""
    decoder, size = codecs.getincrementaldecoder("utf-8")(), len(data)
    for start in range(0, size, _BLOCK):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(data[start : start + _BLOCK], final=start + _BLOCK >= size)
        except UnicodeDecodeError as error:
            return start - pending + error.start
    return None


def judge(
    read: File, dataset: Dataset, split: Split, classes: Classes, path: Path, tally: Tally, progress: Progress
) -> None:
    """Add what is wrong with a file's images, categories and annotations."""
    where = str(path)
    _images(read, split, where, tally)
    _categories(read, dataset, where, tally)
    _classes(read, classes, where, tally)
    _Annotations(read, where, tally).judge(path.name, progress)


def _ids(values: Sequence[Id], what: str, where: str, tally: Tally) -> None:
    for value in values:
        if type(value) is not int:
            _kind(value, what, where, tally)
    tally.unique(map(whole, values), where, f"{what} have an id that another has")


def _kind(value: Id, what: str, where: str, tally: Tally) -> None:
    kind = "text" if isinstance(value, str) else "a number with a point"
    mendable = isinstance(whole(value), int)
    tally.add(where, f"{what} have an id that is {kind}, not a whole number", repr(value), mendable=mendable)


def _images(read: File, split: Split, where: str, tally: Tally) -> None:
    if split.count is not None and len(read.images) != split.count:
        tally.add(where, f"lists {len(read.images)} images, {split.count} are declared")
    _ids([i.id for i in read.images], "images", where, tally)
    tally.unique((i.file_name for i in read.images), where, "images have a file that another has")
    for image in read.images:
        if image.width <= 0 or image.height <= 0:
            tally.add(where, "images have no size", image.file_name)


def _categories(read: File, dataset: Dataset, where: str, tally: Tally) -> None:
    if dataset.categories is not None and len(read.categories) != dataset.categories:
        tally.add(where, f"lists {len(read.categories)} categories, {dataset.categories} are declared")
    _ids([c.id for c in read.categories], "categories", where, tally)
    tally.unique((c.name for c in read.categories), where, "categories have a name that another has")


def _classes(read: File, classes: Classes, where: str, tally: Tally) -> None:
    """A detector takes categories by the names of its classes, and passes over all others without a word."""
    names = {c.name for c in read.categories}
    for config, wanted in classes.items():
        for name in wanted:
            if name not in names:
                tally.add(where, f"classes of {config} are no categories", name)
        left = names - {*wanted}
        if left and len(left) < len(names):
            for name in sorted(left):
                tally.add(where, f"categories are no classes of {config}", name, Level.WARNING)


class _Annotations:
    """The checks of the annotations, one by one, and then of all."""

    def __init__(self, read: File, where: str, tally: Tally) -> None:
        self.raw, self.where, self.tally = read.annotations, where, tally
        self.images = {whole(i.id): i for i in read.images}
        self.categories = {whole(c.id) for c in read.categories}
        self.empty = dict(self.images)  # images without annotations as far as is known
        self.no_area: list[Id] = []  # annotations with a box, and without an area
        self.crowds = 0

    def judge(self, name: str, progress: Progress) -> None:
        ids: list[Id] = []
        for number, a in self._decoded(name, progress):
            self.empty.pop(whole(a.image_id), None)
            ids.append(whole(a.id))
            self._one(a, number)
        what = "annotations have an id that another has"
        self.tally.unique(ids, self.where, what, mendable=True)
        self._all(len(ids))

    def _decoded(self, name: str, progress: Progress) -> Iterator[tuple[int, Annotation]]:
        decoder, total = msgspec.json.Decoder(Annotation), len(self.raw)
        for number, raw in enumerate(self.raw):
            if number % _EVERY == 0:
                progress(f"{name}: annotations", number, total)
            try:
                yield number, decoder.decode(raw)
            except msgspec.MsgspecError as error:
                self.tally.add(self.where, "annotations are not as COCO's", f"number {number}: {error}")
        progress(f"{name}: annotations", total, total)

    def _one(self, a: Annotation, number: int) -> None:
        self._kinds(a)
        if a.id == 0:
            what = "annotations have the id 0, which pycocotools takes for no match"
            self.tally.add(self.where, what, f"number {number}", Level.WARNING, mendable=True)
        if whole(a.category_id) not in self.categories:
            self.tally.add(self.where, "annotations name a category that is not listed", a.id)
        image = self.images.get(whole(a.image_id))
        if image is None:
            self.tally.add(self.where, "annotations name an image that is not listed", a.id)
        else:
            _box(a, image.width, image.height, self.where, self.tally)
        self._crowd(a)
        self._area(a)

    def _kinds(self, a: Annotation) -> None:
        if type(a.id) is type(a.image_id) is type(a.category_id) is int:
            return
        values = {"annotations": a.id, "annotations' images": a.image_id}
        for what, value in {**values, "annotations' categories": a.category_id}.items():
            if type(value) is not int:
                _kind(value, what, self.where, self.tally)

    def _crowd(self, a: Annotation) -> None:
        if a.iscrowd is UNSET:
            what = "annotations have no iscrowd, which pycocotools needs"
            self.tally.add(self.where, what, a.id, mendable=True)
        elif a.iscrowd not in (0, 1):
            self.tally.add(self.where, "annotations have an iscrowd that is neither 0 nor 1", a.id)
        elif a.iscrowd:
            self.crowds += 1

    def _area(self, a: Annotation) -> None:
        _, _, width, height = a.bbox
        if isinstance(a.area, UnsetType):
            what = "annotations have no area, which detectors and pycocotools need"
            self.tally.add(self.where, what, a.id, mendable=True)
        elif a.area <= 0 and width >= 1 and height >= 1:
            self.no_area.append(a.id)
        elif a.area > max(0.0, width * height) * _LARGER[0] + _LARGER[1]:
            self.tally.add(self.where, "areas are larger than their box", a.id, Level.WARNING)

    def _all(self, count: int) -> None:
        # Published data sets have a few such annotations; a file full of them trains a detector on nothing.
        level = Level.ERROR if 100 * len(self.no_area) > count else Level.WARNING
        for value in self.no_area:
            what = "annotations have a box and the area 0: a detector passes over them"
            self.tally.add(self.where, what, value, level, mendable=True)
        if count and self.crowds == count:
            self.tally.add(
                self.where, "all annotations are crowds, which no detector learns", level=Level.WARNING
            )
        if len(self.empty) == len(self.images) > 0:
            self.tally.add(self.where, "no image has an annotation")
        else:
            for image in self.empty.values():
                self.tally.add(self.where, "images have no annotation", image.file_name, Level.WARNING)


def _box(a: Annotation, width: float, height: float, where: str, tally: Tally) -> None:
    """Trainers drop boxes without area and cut those that reach out; one beside its image is a mistake."""
    x, y, w, h = a.bbox
    if w < 0 or h < 0:
        tally.add(where, "boxes have a negative size", a.id)
    elif x >= width or y >= height or x + w < 0 or y + h < 0:
        tally.add(where, "boxes lie outside their image", a.id)
    elif w == 0 or h == 0:
        tally.add(where, "boxes have no area", a.id, Level.WARNING)
    elif min(x, y) < -_OUTSIDE or x + w > width + _OUTSIDE or y + h > height + _OUTSIDE:
        tally.add(where, "boxes reach out of their image by more than a pixel", a.id, Level.WARNING)
