"""The data that a configuration reads: whether it is the run's, and whether the classes agree.

Annotations are COCO's. Of a file only its list of categories is read, wherever it stands: whole, the
annotations of COCO's training set are gigabytes of objects.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from typing import Any, Iterator, NamedTuple, Sequence

from .finding import ERROR, WARNING, Finding, join, lookup, walk
from .types import Registries

_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
_HEADS = re.compile(r"model\.(roi_head\.)?(bbox_head|mask_head)(\.\d+)?")
# Keys of models that read the names of classes: their heads have room for more than one data set has.
_OPEN = re.compile(r"language|contrastive|vocab|zero_?shot|zs_|(^|_)text")
_LIMIT = 4 << 20  # bytes of a list of categories


class Dataset(NamedTuple):
    """A data set of a configuration."""

    path: str  # of its dictionary
    annotations: str  # file
    images: str  # folder
    classes: tuple[str, ...]  # empty: the configuration does not say
    indices: Any = None  # which images, or how many, of the file


def of(cfg: Any, registries: Registries, generation: int, splits: Sequence[str]) -> Iterator[Dataset]:
    """Yield the data sets of these splits (train, val, test) that name a file of annotations."""
    for split in splits:
        place = f"data.{split}" if generation < 3 else f"{split}_dataloader.dataset"
        for path, value in walk(lookup(cfg, place), place):
            file = value.get("ann_file")
            if isinstance(file, str) and file and "pipeline" in value:
                yield _dataset(path, value, file, registries)


def _dataset(path: str, value: Any, file: str, registries: Registries) -> Dataset:
    root = str(value.get("data_root") or "")
    prefix = value.get("data_prefix") or value.get("img_prefix") or ""
    if isinstance(prefix, dict):
        prefix = prefix.get("img", prefix.get("img_path", ""))
    images = _below(root, prefix) if isinstance(prefix, str) else root
    return Dataset(path, _below(root, file), images, _classes(value, registries), value.get("indices"))


def _below(root: str, path: str) -> str:
    return os.path.abspath(path if os.path.isabs(path) else os.path.join(root, path))


def _classes(value: Any, registries: Registries) -> tuple[str, ...]:
    said = (value.get("metainfo") or {}).get("classes") or value.get("classes")
    if said is None:
        target = registries.find(value.get("type"))
        known = getattr(target, "METAINFO", None) or {}
        if "thing_classes" in known or hasattr(target, "THING_CLASSES"):
            return ()  # panoptic: some classes are for one head, all for another
        said = known.get("classes") or getattr(target, "CLASSES", None)
    return tuple(map(str, said)) if isinstance(said, (list, tuple)) else ()


def check(datasets: Sequence[Dataset], own: Sequence[str], *, declared: bool) -> Iterator[Finding]:
    """Yield what is wrong with files and classes. ``own`` are the run's folders and files; a path below one
    that is not there yet is not looked for. ``declared``: there is no other data that the run may read."""
    roots = [(os.path.abspath(path), os.path.realpath(path)) for path in own if path]
    for dataset in datasets:
        ours = [a for a, r in roots if _within(dataset.annotations, a) or _within(dataset.annotations, r)]
        if ours and not any(map(os.path.exists, ours)):
            continue
        key, file = join(dataset.path, "ann_file"), dataset.annotations
        where = ", ".join(a for a, _ in roots) or "none"
        if not os.path.isfile(file):
            hint = f"; the experiment's data is {where}" if declared and not ours else ""
            yield Finding("data", key, f"{key}: no file {file}{hint}")
        elif declared and not ours:
            yield Finding("data", key, f"{key}: {file} is no file of the run's data, which is {where}")
        else:
            yield from _images(dataset)
            yield from _compare(dataset)


def _within(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return any(one == root or one.startswith(root.rstrip("/") + "/") for one in (path, real))


def _images(dataset: Dataset) -> Iterator[Finding]:
    if dataset.images and not os.path.isdir(dataset.images):
        yield Finding("data", dataset.path, f"{dataset.path}: no folder of images {dataset.images}")


def _compare(dataset: Dataset) -> Iterator[Finding]:
    names = categories(dataset.annotations)
    if names is None or not dataset.classes:
        return
    key = join(dataset.path, "metainfo.classes")
    missing = [name for name in dataset.classes if name not in names]
    more = [name for name in names if name not in dataset.classes]
    file = os.path.basename(dataset.annotations)
    if missing:
        known = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        said = f"{key}: {file} has no category '{missing[0]}'{_others(missing)}; it has {known}"
        yield Finding("classes", key, said)
    elif more:
        said = f"{key}: the objects of category '{more[0]}'{_others(more)} of {file} are left out"
        yield Finding("classes", key, said, level=WARNING)


def _others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} others" if names[1:] else ""


def categories(path: str) -> list[str] | None:
    """Return the names of the categories of a file of annotations; None if they are not found."""
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places = [match.end() for match in _CATEGORIES.finditer(data)]
            text = data[places[-1] : places[-1] + _LIMIT].decode("utf-8", "replace") if places else ""
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    try:
        listed, _ = json.JSONDecoder().raw_decode(text)
        return [str(one["name"]) for one in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def heads(model: Any, datasets: Sequence[Dataset]) -> Iterator[Finding]:
    """Yield the heads of a model that have another number of classes than its data sets."""
    counts = {len(dataset.classes): dataset for dataset in reversed(datasets) if dataset.classes}
    if len(counts) != 1:
        return
    ((count, dataset),) = counts.items()
    reads_names = any(_OPEN.search(str(key)) for _, value in walk(model) for key in value)
    for path, value in walk(model, "model"):
        number = value.get("num_classes")
        if _HEADS.fullmatch(path) and isinstance(number, int) and number != count:
            said = f"{path}.num_classes is {number}, and {dataset.path} has {count} classes"
            level = WARNING if reads_names and number > count else ERROR
            yield Finding("classes", join(path, "num_classes"), said, level=level)


def evaluators(cfg: Any, datasets: Sequence[Dataset], splits: Sequence[str]) -> Iterator[Finding]:
    """Yield evaluators that compare with other annotations than those of their data set."""
    for split in splits:
        files = {d.annotations for d in datasets if d.path.startswith(f"{split}_dataloader.")}
        for path, value in walk(cfg.get(f"{split}_evaluator"), f"{split}_evaluator"):
            file = value.get("ann_file")
            if isinstance(file, str) and file and files and os.path.abspath(file) not in files:
                key = join(path, "ann_file")
                said = f"{key}: {file} is not what {split}_dataloader reads, {sorted(files)[0]}"
                yield Finding("data", key, said)
