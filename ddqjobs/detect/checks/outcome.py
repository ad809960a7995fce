"""Tells from a configuration whether the product that a run must leave can come out of it."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from .finding import Finding, walk
from .types import Registries

_OF_COCO = {"bbox": "boxes", "segm": "masks"}
_CHECKPOINT = "a training must leave the checkpoint of its last epoch"


def check(
    cfg: Any, kind: str, registries: Registries, generation: int, metric: str = ""
) -> Iterator[Finding]:
    """Yield why no product can come of a training or a test. ``metric`` is the figure that is judged; empty:
    box AP."""
    if kind == "train":
        yield from _training_2(cfg) if generation < 3 else _training_3(cfg)
    elif kind == "test" and generation >= 3:
        yield from _test(cfg, registries, metric or "bbox_mAP")


def _training_3(cfg: Any) -> Iterator[Finding]:
    for key in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if not cfg.get(key):
            yield Finding("product", key, f"{key} is missing: this configuration does not train")
            return
    loop, hooks = cfg["train_cfg"], cfg.get("default_hooks") or {}
    by_epoch = loop.get("by_epoch", "max_iters" not in loop)
    hook = hooks.get("checkpoint", {"type": "CheckpointHook"}) or _own_hook(cfg)
    if hook is None:
        said = f"default_hooks.checkpoint is None: {_CHECKPOINT}"
        yield Finding("product", "default_hooks.checkpoint", said)
        return
    if by_epoch and hook.get("by_epoch", True) is False and not hook.get("save_best"):
        key = "default_hooks.checkpoint.by_epoch"
        yield Finding("product", key, f"{key} is False: {_CHECKPOINT}, and this leaves iterations'")
    elif by_epoch:
        yield from _last("default_hooks.checkpoint", hook, loop.get("max_epochs"))


def _own_hook(cfg: Any) -> Mapping[str, Any] | None:
    """Return the hook for checkpoints among those that the configuration adds."""
    hooks = cfg.get("custom_hooks") or ()
    found = (h for h in hooks if isinstance(h, dict) and str(h.get("type")).endswith("CheckpointHook"))
    return next(found, None)


def _last(key: str, hook: Mapping[str, Any], end: Any) -> Iterator[Finding]:
    """Yield a hook that leaves out the last epoch."""
    every = hook.get("interval", -1)
    if hook.get("save_last", True) or hook.get("save_best") or not isinstance(end, int):
        return
    if not isinstance(every, int) or every < 1 or end % every:
        yield Finding(
            "product", key, f"{key} saves every {every} epochs and not the last of {end}: {_CHECKPOINT}"
        )


def _training_2(cfg: Any) -> Iterator[Finding]:
    hook = cfg.get("checkpoint_config") or _own_hook(cfg)
    runner = cfg.get("runner") or {"max_epochs": cfg.get("total_epochs")}
    if hook is None:
        yield Finding("product", "checkpoint_config", f"checkpoint_config is missing: {_CHECKPOINT}")
    elif runner.get("max_epochs"):
        if hook.get("by_epoch", True) is False:
            key = "checkpoint_config.by_epoch"
            yield Finding("product", key, f"{key} is False: {_CHECKPOINT}, and this leaves iterations'")
        yield from _last("checkpoint_config", hook, runner["max_epochs"])


def _test(cfg: Any, registries: Registries, judged_by: str) -> Iterator[Finding]:
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        if not isinstance(cfg.get(key), (dict, list)):
            yield Finding("product", key, f"{key} is missing: this configuration does not test")
            return
    coco = registries.find("CocoMetric")
    known = [value for _, value in walk(cfg["test_evaluator"]) if registries.find(value.get("type")) is coco]
    wanted = judged_by.rpartition("/")[2].partition("_mAP")[0]
    if coco is None or wanted not in _OF_COCO or len(known) < _evaluators(cfg["test_evaluator"]):
        return  # another evaluator may log it, too
    for value in known:
        metric = value.get("metric", "bbox")
        logged = metric if isinstance(metric, (list, tuple)) else [metric]
        if wanted in logged and not value.get("format_only"):
            return
    said = (
        f"test_evaluator: a test must log the AP of {_OF_COCO[wanted]}, and this one has no metric '{wanted}'"
    )
    yield Finding("product", "test_evaluator", said)


def _evaluators(section: Any) -> int:
    """Return how many evaluators a section has."""
    return len(section) if isinstance(section, list) else len(section.get("metrics") or [1])
