"""Tells from a configuration whether the product that a run must leave can come out of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, Mapping

from .finding import WARNING, Finding, children, join, lookup, walk
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
        yield from _shared(cfg)
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


def _shared(cfg: Any) -> Iterator[Finding]:
    """Yield folders of checkpoints that are not the run's: mmengine and mmcv add the last part of the
    work_dir's path, which all runs have in common, so runs would overwrite each other's weights."""
    named = [(key, lookup(cfg, key)) for key in ("default_hooks.checkpoint", "checkpoint_config")]
    for place, hook in children(cfg.get("custom_hooks")):
        if isinstance(hook, dict) and str(hook.get("type")).endswith("CheckpointHook"):
            named.append((join("custom_hooks", place), hook))
    for key, hook in named:
        told = hook.get("out_dir") if isinstance(hook, dict) else None
        folder = Path(str(told or ""))
        if folder.is_absolute() and not _is_of_the_run(folder):
            said = f"{key}.out_dir is {told}: runs that share it all write {folder}/work_dir/epoch_1.pth, ..."
            do = "leave it out: checkpoints go to the work_dir"
            yield Finding("product", f"{key}.out_dir", f"{said}; {do}", level=WARNING)


def _is_of_the_run(folder: Path) -> bool:
    """Tell whether a folder lies in the run's, or has its name, as far as the environment says."""
    whole = Path(os.path.realpath(str(folder)))
    own = [os.environ.get(name) for name in ("DDQJOBS_WORK_DIR", "DDQJOBS_RUN_DIR")]
    within = any(Path(os.path.realpath(one)) in (whole, *whole.parents) for one in own if one)
    return within or os.environ.get("DDQJOBS_RUN") in whole.parts


def _own_hook(cfg: Any) -> Mapping[str, Any] | None:
    """Return the hook for checkpoints among those that the configuration adds."""
    hooks = cfg.get("custom_hooks") or ()
    checkpoint_hooks = (
        h for h in hooks if isinstance(h, dict) and str(h.get("type")).endswith("CheckpointHook")
    )
    return next(checkpoint_hooks, None)


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
