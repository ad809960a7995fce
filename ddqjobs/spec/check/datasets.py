"""Data sets and weights: their paths, links and URLs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlparse

from ddqjobs.spec.check.reference import Found, Path, reference
from ddqjobs.spec.code import Code
from ddqjobs.spec.dataset import Dataset
from ddqjobs.spec.experiment import Experiment, Task


def _below(at: Path, text: str) -> Found:
    parts = PurePosixPath(text).parts
    if not parts or PurePosixPath(text).is_absolute() or ".." in parts:
        yield at, f"'{text}' must be a path below the folder it belongs to, without .."


def datasets(e: Experiment) -> Found:
    """Yield the problems of all data sets."""
    for name, dataset in e.datasets.items():
        at: Path = ("datasets", name)
        if dataset.link:
            yield from _below((*at, "link"), dataset.link)
        for i, code in enumerate(dataset.codes or ()):
            yield from reference((*at, "codes", i), "code", code, e.codes)
        for split, declared in dataset.splits.items():
            yield from _below((*at, "splits", split, "annotations"), declared.annotations)
            yield from _below((*at, "splits", split, "images"), declared.images)
        for other, second in e.datasets.items():
            if other == name:
                break
            if dataset.link and dataset.link == second.link and _share(e, dataset, second):
                yield (*at, "link"), f"data sets '{other}' and '{name}' want the same link in one code tree"


def _share(e: Experiment, one: Dataset, other: Dataset) -> bool:
    codes = [n for n, c in e.codes.items() if c.path]
    return any(d in (one.codes or codes) and d in (other.codes or codes) for d in codes)


def weights(e: Experiment) -> Found:
    """Yield the problems of all weights."""
    seen: dict[str, str] = {}
    for name, weight in e.weights.items():
        at: Path = ("weights", name)
        file = PurePosixPath(urlparse(weight.url).path).name
        if weight.url and (urlparse(weight.url).scheme not in ("http", "https") or not file):
            yield (
                (*at, "url"),
                f"'{weight.url}' is not an http(s) URL of a file; give other files by `path` alone",
            )
        elif not weight.url and not weight.path:
            yield at, "name a url, or the path where runs look for them, or both"
        target = PurePosixPath(weight.path or file).name
        if target in seen:  # their checksums are kept under this name
            yield at, f"weights '{seen[target]}' and '{name}' have files of the same name {target}"
        seen[target] = name
        for i, model in enumerate(weight.models):
            yield from reference((*at, "models", i), "model", model, e.models)
    if any(not w.path for w in e.weights.values()):
        sections: tuple[tuple[str, Mapping[str, Code | Task]], ...] = (("codes", e.codes), ("tasks", e.tasks))
        for kind, parts in sections:
            for name, part in parts.items():
                if "TORCH_HOME" in part.variables:
                    message = "TORCH_HOME is the site's (key `weights:`) where an experiment declares weights"
                    yield (kind, name, "variables", "TORCH_HOME"), message
