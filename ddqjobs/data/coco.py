"""Looks whether a part of a data set in COCO's format is whole: annotations, images, a sample of headers.

A file of annotations has hundreds of megabytes, most of them outlines that are of no interest here. It is
mapped, not read; annotations stay raw and are decoded one by one, only the fields looked at.
"""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ddqjobs.base.findings import Level
from ddqjobs.base.frozen import Frozen
from ddqjobs.data import image_header
from ddqjobs.detect import files
from ddqjobs.spec.dataset import Dataset, Split

Progress = Callable[[str, int, int | None], None]
"""(what, done, in all)"""
_EXAMPLES = 5
_OUTSIDE = 1.0  # pixels that a box may reach out of its image: the released boxes are rounded
_EVERY = 10_000  # annotations between two signs of progress


class Finding(Frozen, frozen=True, kw_only=True):
    """Something that is wrong (error), or worth a word (warning): ``count`` times, some of them named."""

    level: Level
    where: str
    what: str
    count: int = 1
    examples: tuple[str, ...] = ()


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Category(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height in pixels


class _File(msgspec.Struct, frozen=True):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[msgspec.Raw]


class _Tally:
    """Findings as they come up, one for each kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, where: str, what: str, example: object = "", level: Level = Level.ERROR) -> None:
        count, examples = self._found.get((level, where, what), (0, ()))
        if example != "" and len(examples) < _EXAMPLES:
            examples = (*examples, str(example))
        self._found[level, where, what] = (count + 1, examples)

    def findings(self) -> list[Finding]:
        return [
            Finding(level=level, where=where, what=what, count=count, examples=examples)
            for (level, where, what), (count, examples) in self._found.items()
        ]


def examine(root: Path, dataset: Dataset, split: Split, sample: int, progress: Progress) -> list[Finding]:
    """All findings of one split; none: it is whole. ``sample``: how many images are opened."""
    tally = _Tally()
    if not root.is_dir():
        tally.add(str(root), "no such folder")
        return tally.findings()
    path = root / split.annotations
    _checksum(path, split, tally, progress)
    read = _read(path, tally)
    there = _listed(root / split.images, tally)
    if read is not None:
        _images(read, split, path, tally)
        _categories(read, dataset, path, tally)
        _annotations(read, path, tally, progress)
    if there is not None:
        _count(there, split, root / split.images, tally)
    if read is not None and there is not None:
        _presence(read, there, root / split.images, tally)
        _headers(read, there, root / split.images, sample, tally, progress)
    return tally.findings()


def _checksum(path: Path, split: Split, tally: _Tally, progress: Progress) -> None:
    if split.sha256 and path.is_file():
        progress(f"{path.name}: checksum", 0, None)
        digest = files.sha256(path)
        if not digest.startswith(split.sha256):
            tally.add(str(path), f"has another SHA-256 than declared: {digest}")


def _read(path: Path, tally: _Tally) -> _File | None:
    """The raw annotations are slices of the mapped file, which lives as long as they do."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                tally.add(str(path), "is empty")
                return None
            return msgspec.json.decode(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), type=_File)
    except OSError as error:
        tally.add(str(path), f"cannot be read: {error.strerror}")
    except msgspec.MsgspecError as error:
        tally.add(str(path), f"is no whole file of annotations: {error}")
    return None


def _listed(folder: Path, tally: _Tally) -> set[str] | None:
    """Names of the files in it."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".")}
    except OSError as error:
        tally.add(str(folder), f"cannot be listed: {error.strerror}")
        return None


def _unique(ids: Iterable[object], where: str, what: str, tally: _Tally) -> None:
    seen: set[object] = set()
    for value in ids:
        if value in seen:
            tally.add(where, what, value)
        seen.add(value)


def _images(read: _File, split: Split, path: Path, tally: _Tally) -> None:
    where = str(path)
    if split.count is not None and len(read.images) != split.count:
        tally.add(where, f"lists {len(read.images)} images, {split.count} are declared")
    _unique((i.id for i in read.images), where, "images have an id that another has", tally)
    _unique((i.file_name for i in read.images), where, "images have a file that another has", tally)
    for image in read.images:
        if image.width <= 0 or image.height <= 0:
            tally.add(where, "images have no size", image.file_name)


def _categories(read: _File, dataset: Dataset, path: Path, tally: _Tally) -> None:
    where = str(path)
    if dataset.categories is not None and len(read.categories) != dataset.categories:
        tally.add(where, f"lists {len(read.categories)} categories, {dataset.categories} are declared")
    _unique((c.id for c in read.categories), where, "categories have an id that another has", tally)
    _unique((c.name for c in read.categories), where, "categories have a name that another has", tally)


def _annotations(read: _File, path: Path, tally: _Tally, progress: Progress) -> None:
    where, decoder = str(path), msgspec.json.Decoder(_Annotation)
    sizes = {i.id: (i.width, i.height) for i in read.images}
    categories = {c.id for c in read.categories}
    ids: set[int] = set()
    for number, raw in enumerate(read.annotations):
        if number % _EVERY == 0:
            progress(f"{path.name}: annotations", number, len(read.annotations))
        try:
            a = decoder.decode(raw)
        except msgspec.MsgspecError as error:
            tally.add(where, "annotations are not as COCO's", f"number {number}: {error}")
            continue
        if a.id in ids:
            tally.add(where, "annotations have an id that another has", a.id)
        ids.add(a.id)
        if a.category_id not in categories:
            tally.add(where, "annotations name a category that is not listed", a.id)
        if a.image_id not in sizes:
            tally.add(where, "annotations name an image that is not listed", a.id)
        else:
            _box(a, *sizes[a.image_id], where, tally)
    progress(f"{path.name}: annotations", len(read.annotations), len(read.annotations))


def _box(a: _Annotation, width: int, height: int, where: str, tally: _Tally) -> None:
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


def _count(there: set[str], split: Split, folder: Path, tally: _Tally) -> None:
    if split.count is not None and len(there) != split.count:
        tally.add(str(folder), f"has {len(there)} files, {split.count} are declared")


def _presence(read: _File, there: set[str], folder: Path, tally: _Tally) -> None:
    for image in read.images:
        if not _has(image, there, folder):
            tally.add(str(folder), "annotated images are not there", image.file_name)


def _has(image: _Image, there: set[str], folder: Path) -> bool:
    """A name may have folders before it; only then is the file asked for."""
    return image.file_name in there or ("/" in image.file_name and (folder / image.file_name).is_file())


def _headers(
    read: _File, there: set[str], folder: Path, sample: int, tally: _Tally, progress: Progress
) -> None:
    """Opens images drawn with one seed, so that a second look looks at the same."""
    here = [i for i in read.images if _has(i, there, folder)]
    chosen = random.Random(0).sample(here, min(sample, len(here)))
    for number, image in enumerate(chosen):
        progress(f"{folder.name}: images", number, len(chosen))
        _header(image, folder, tally)
    progress(f"{folder.name}: images", len(chosen), len(chosen))


def _header(image: _Image, folder: Path, tally: _Tally) -> None:
    where = str(folder)
    try:
        found = image_header.read(folder / image.file_name)
    except ValueError as error:
        tally.add(where, "images are broken", f"{image.file_name} ({error})")
        return
    except OSError as error:
        tally.add(where, "images cannot be read", f"{image.file_name} ({error.strerror})")
        return
    if found != (image.width, image.height):
        words = f"{image.file_name} ({found[0]}x{found[1]}, annotated {image.width}x{image.height})"
        tally.add(where, "images have another size than annotated", words)
