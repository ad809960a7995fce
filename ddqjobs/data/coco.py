"""Look whether a part of a data set in COCO's format is whole: annotations, images, their headers."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddqjobs.data import annotation_file, image_header
from ddqjobs.data.annotation_file import Classes, File, Image, Progress
from ddqjobs.data.findings import Finding, Tally
from ddqjobs.detect import files
from ddqjobs.spec.dataset import Dataset, Split

_THREADS = 16  # a file server answers slowly, and many at once
_AT_ONCE = 256  # images between two signs of progress, and those that Ctrl-C waits for
Size = tuple[int, int]


class Examined:
    """The findings of one split; without any it is whole. ``opened`` of ``images`` were looked into."""

    def __init__(self, findings: Sequence[Finding], opened: int = 0, images: int = 0) -> None:
        self.findings, self.opened, self.images = tuple(findings), opened, images


def examine(
    root: Path,
    dataset: Dataset,
    split: Split,
    classes: Classes,
    sample: int | None,
    progress: Progress,
    *,
    only: bool = True,
) -> Examined:
    """Return the findings of one split. ``sample``: how many images are opened; None: all. ``classes``:
    configuration -> its classes; unless the data set is the ``only`` one, those count that share one."""
    tally = Tally()
    if not root.is_dir():
        tally.add(str(root), "no such folder")
        return Examined(tally.findings())
    path, folder = root / split.annotations, root / split.images
    _checksum(path, split, tally, progress)
    read = annotation_file.read(path, tally)
    there = _listed(folder, tally)
    if read is not None:
        names = {c.name for c in read.categories}
        wanted = {config: of for config, of in classes.items() if only or names & {*of}}
        annotation_file.judge(read, dataset, split, wanted, path, tally, progress)
    if there is not None and split.count is not None and len(there) != split.count:
        tally.add(str(folder), f"has {len(there)} files, {split.count} are declared")
    if read is None or there is None:
        return Examined(tally.findings())
    here = _present(read, there, folder, tally)
    # One seed, so that a second look looks at the same.
    chosen = here if sample is None else random.Random(0).sample(here, min(sample, len(here)))
    _headers(chosen, folder, tally, progress)
    return Examined(tally.findings(), len(chosen), len(here))


def _checksum(path: Path, split: Split, tally: Tally, progress: Progress) -> None:
    if split.sha256 and path.is_file():
        progress(f"{path.name}: checksum", 0, None)
        digest = files.sha256(path)
        if not digest.startswith(split.sha256):
            tally.add(str(path), f"has another SHA-256 than declared: {digest}")


def _listed(folder: Path, tally: Tally) -> set[str] | None:
    """Return the names of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".")}
    except OSError as error:
        tally.add(str(folder), f"cannot be listed: {error.strerror}")
        return None


def _present(read: File, there: set[str], folder: Path, tally: Tally) -> list[Image]:
    """Return the annotated images that are there."""
    here = []
    for image in read.images:
        if _has(image, there, folder):
            here.append(image)
        else:
            tally.add(str(folder), "annotated images are not there", image.file_name)
    return here


def _has(image: Image, there: set[str], folder: Path) -> bool:
    """A name may have folders before it; only then is the file asked for."""
    return image.file_name in there or ("/" in image.file_name and (folder / image.file_name).is_file())


def _headers(images: Sequence[Image], folder: Path, tally: Tally, progress: Progress) -> None:
    """Add what is wrong with the images' files, by their size, their first bytes and their last ones."""

    def look(image: Image) -> Size | OSError | ValueError:
        try:
            return image_header.read(folder / image.file_name)
        except (OSError, ValueError) as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(images), _AT_ONCE):
            progress(f"{folder.name}: images", start, len(images))
            some = images[start : start + _AT_ONCE]
            for image, seen in zip(some, pool.map(look, some), strict=True):
                _judge(image, seen, folder, tally)
    progress(f"{folder.name}: images", len(images), len(images))


def _judge(image: Image, seen: Size | OSError | ValueError, folder: Path, tally: Tally) -> None:
    where, name = str(folder), image.file_name
    if isinstance(seen, ValueError):
        tally.add(where, "images are broken", f"{name} ({seen})")
    elif isinstance(seen, OSError):
        if isinstance(seen, FileNotFoundError) and (folder / name).is_symlink():
            tally.add(where, "images are links that lead nowhere", name)
        else:
            tally.add(where, "images cannot be read", f"{name} ({seen.strerror})")
    elif seen != (image.width, image.height):
        example = f"{name} ({seen[0]}x{seen[1]}, annotated {image.width:g}x{image.height:g})"
        tally.add(where, "images have another size than annotated", example)
