"""Tell what of a configuration decides a result, and how much of that is known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddqjobs.planning import settings
from ddqjobs.planning.settings import UNKNOWN
from ddqjobs.spec.model import TaskKind

# What a configuration decides a result by, in the words of mmdet 3.x and of 2.x.
_TESTS = ("model", "test_dataloader", "test_evaluator", "test_cfg", "data.test")
_TRAINS = (
    *("model", "train_dataloader", "val_dataloader", "val_evaluator", "optim_wrapper", "param_scheduler"),
    *(
        "train_cfg",
        "randomness.deterministic",
        "auto_scale_lr",
        "data",
        "optimizer",
        "optimizer_config",
        "lr_config",
    ),
    *("runner", "total_epochs", "fp16", "custom_hooks", "load_from"),
)
# Where, how fast and how loudly: no result depends on it.
_ELSEWHERE = re.compile(
    r"(?:^|\.)(?:num_workers|persistent_workers|prefetch_factor|pin_memory|workers_per_gpu|data_root|work_dir|"
    r"backend_args|file_client_args|outfile_prefix|format_only|classwise|val_interval|val_begin|dynamic_intervals|"
    r"_scope_)(?:\.|$)"
)
# Hooks that look on, and those by which ddqjobs runs a training: no result depends on them.
_ONLOOKERS = (
    *("NumClassCheckHook", "CheckInvalidLossHook", "EmptyCacheHook", "MemoryProfilerHook", "ProfilerHook"),
    *("EpochSeedHook", "ResumeHook", "UsageHook", "InitialStateHook", "CanaryHook", "PredictionsHook"),
)
# Words of a training's command line that set something.
_SWITCHES = {"--amp": ("optim_wrapper", "fp16"), "--auto-scale-lr": ("auto_scale_lr",)}


@dataclass(frozen=True)
class Deciding:
    """All that decides the result of a run. ``whole`` has also what is not known."""

    values: Mapping[str, Any]  # dotted path -> value
    whole: Mapping[str, Any]
    command: Sequence[str] = ()  # of the run, which may set more
    resumed: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any], kind: TaskKind, command: Sequence[str] = ()) -> Deciding:
        """Return what decides the result of a run of this kind."""
        sections = _TRAINS if kind is TaskKind.TRAIN else _TESTS
        whole = {**values, "custom_hooks": _by_type(values.get("custom_hooks"))}
        deciding = {
            key: value
            for key, value in settings.flat(whole).items()
            if any(key == s or key.startswith(f"{s}.") for s in sections) and not _ELSEWHERE.search(key)
        }
        if deciding.get("load_from", "") is None:
            del deciding["load_from"]
        resumed = values.get("resume") is True or bool(values.get("resume_from"))
        return cls(deciding, whole, command, resumed)

    def differing(self, there: Deciding) -> list[str]:
        """Return the keys of this that another does not have, or has with another value."""
        keys = [
            key
            for key in self.values
            if not (there.resumed and key == "load_from")
            and (key not in there.values or not same(key, there.values[key], self.values[key]))
        ]
        return sorted(keys, key=lambda key: (key != "model.type", not key.endswith(".type"), key))

    def beyond(self, wanted: Deciding) -> tuple[list[str], list[str]]:
        """Return the keys that this sets and that are not wanted, and those of which that is not known. None,
        and a rate that is not scaled, set nothing. (A training that is resumed has its own checkpoint in
        load_from.)"""
        scaled = self.values.get("auto_scale_lr.enable") is True
        more = sorted(
            key
            for key, value in self.values.items()
            if key not in wanted.values
            and value is not None
            and not (key == "load_from" and self.resumed)
            and (scaled or not key.startswith("auto_scale_lr."))
        )
        told = {key: wanted.lacks(key) for key in more}
        return [key for key in more if told[key]], [key for key in more if told[key] is None]

    def lacks(self, key: str) -> bool | None:
        """Return whether a key is certainly not set; None where that is not known. Of one that is set to what
        is not known nothing is claimed."""
        section = key.partition(".")[0]
        sections = [
            word.lstrip("+").partition("=")[0].partition(".")[0] for word in self.command if "=" in word
        ]
        if section in (*sections, *(name for word in self.command for name in _SWITCHES.get(word, ()))):
            return None
        here: Any = self.whole
        more = False  # what is not known may have set it
        for part in key.split("."):
            if here is UNKNOWN:
                return None
            inner = dict(enumerate(here)) if isinstance(here, list) else here
            place = int(part) if isinstance(here, list) and part.isdecimal() else part
            more = more or (isinstance(inner, dict) and settings.OPEN in inner)
            if not isinstance(inner, dict) or place not in inner:
                return None if more else True
            here = inner[place]
        return here is None


def same(key: str, one: Any, other: Any) -> bool:
    """Compare two values: of paths the last part, of types the last name (``mmdet.models.DDQDETR``), of URLs
    all (``torchvision://resnet50`` is not ``open-mmlab://resnet50``)."""
    if isinstance(one, str) and isinstance(other, str):
        if key.endswith("type"):
            return one.rpartition(".")[2] == other.rpartition(".")[2]
        if any("://" in text.removeprefix("file://") for text in (one, other)):
            return one == other
        return one.rstrip("/").rpartition("/")[2] == other.rstrip("/").rpartition("/")[2]
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(key, *pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def _by_type(hooks: Any) -> Any:
    """Return hooks by their type, without onlookers: their places in a list say nothing."""
    if not isinstance(hooks, list):
        return UNKNOWN if hooks is UNKNOWN else {}
    by_type = {}
    for hook in hooks:
        name = hook.get("type") if isinstance(hook, dict) else None
        if not isinstance(name, str):
            return UNKNOWN
        by_type[name.rpartition(".")[2]] = hook
    return {name: hook for name, hook in by_type.items() if name not in _ONLOOKERS}
