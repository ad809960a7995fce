"""Values that nobody can mean: sizes below one, weights that are not there, metrics that nobody logs.

Each would end a run after it has begun, or let it end without having trained. Standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

from .finding import ERROR, WARNING, Finding, closest, join, lookup, walk
from .types import Registries

_SIZES = {
    "train": "train_dataloader.batch_size train_cfg.max_epochs train_cfg.max_iters val_dataloader.batch_size "
             "data.samples_per_gpu runner.max_epochs runner.max_iters total_epochs",
    "test": "test_dataloader.batch_size",
}  # fmt: skip
_LOGGED = [f"coco/bbox_mAP{end}" for end in ("", "_50", "_75", "_s", "_m", "_l")]


def check(cfg: Any, kind: str, registries: Registries, own: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with values of a training or a test; ``own`` are the run's folders and files: what
    is below one that is not there yet is not looked for."""
    for key in _SIZES.get(kind, "").split():
        value = lookup(cfg, key)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            yield Finding("value", key, f"{key} is {value}; expected at least 1")
    if kind == "train":  # a test is given its weights, and initialises none
        yield from _weights(cfg, own)
        yield from _watched(cfg, registries)


def _weights(cfg: Any, own: Sequence[str]) -> Iterator[Finding]:
    named = [("load_from", cfg.get("load_from"))]
    for path, value in walk(cfg.get("model"), "model"):
        if str(value.get("type")).endswith("Pretrained"):
            named.append((join(path, "checkpoint"), value.get("checkpoint")))
    absent = [Path(root).absolute() for root in own if root and not Path(root).exists()]
    for key, file in named:
        if not isinstance(file, str) or not file or "://" in file or Path(file).exists():
            continue
        whole = Path(file).absolute()
        if not any(root in (whole, *whole.parents) for root in absent):
            level = ERROR if Path(file).is_absolute() else WARNING  # others may be brought before it begins
            yield Finding("data", key, f"{key}: no file {file}", level=level)


def _watched(cfg: Any, registries: Registries) -> Iterator[Finding]:
    """Yield names of metrics that decide the best checkpoint or an early end, and that nobody logs."""
    if not _logs_boxes_alone(cfg.get("val_evaluator"), registries):
        return
    best = lookup(cfg, "default_hooks.checkpoint.save_best")
    named = [("default_hooks.checkpoint.save_best", name) for name in _names(best)]
    for path, hook in walk(cfg.get("custom_hooks"), "custom_hooks"):
        if hook.get("type") == "EarlyStoppingHook":
            named.append((join(path, "monitor"), hook.get("monitor")))
    for key, name in named:
        if isinstance(name, str) and name not in ("auto", *_LOGGED):
            said = f"{key} is '{name}', and the evaluator logs {_LOGGED[0]}, ..."
            yield Finding("value", key, said, closest(f"coco/{name.rpartition('/')[2]}", _LOGGED))


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _logs_boxes_alone(evaluator: Any, registries: Registries) -> bool:
    """Tell whether a validation logs the AP of boxes as COCO's metric does, and nothing else."""
    coco = registries.find("CocoMetric")
    known = _names(evaluator)
    return coco is not None and all(
        isinstance(one, dict)
        and registries.find(one.get("type")) is coco
        and _names(one.get("metric", "bbox")) == ["bbox"]
        and one.get("prefix") in (None, "coco")
        and not one.get("classwise")
        for one in known
    )
