"""Tell what the places of a configuration take that need name no type: the root, loaders, hooks, the
optimizer.

The programs that read them decide: mmengine's Runner, mmdet 2.x's train.py with mmcv 1.x.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Optional

from .types import Registries, Takes, takes

_ANYTHING = Takes({}, {}, True)
# Read from the root beside what the Runner's constructor takes: by mmengine, mmdet and ours.
_ROOT = (
    "activation_checkpointing cfg compile custom_imports default_scope efficient_conv_bn_eval env_cfg "
    "find_unused_parameters imports model_wrapper_cfg runner_type speed sync_bn tf32 tta_model tta_pipeline"
)
_ROOT_2 = (
    "auto_scale_lr auto_resume checkpoint_config cudnn_benchmark custom_hooks custom_imports data device "
    "dist_params evaluation find_unused_parameters fp16 gpu_ids load_from log_config log_level lr_config "
    "model momentum_config mp_start_method opencv_num_threads optimizer optimizer_config resume_from runner "
    "seed speed sync_bn tf32 total_epochs workflow work_dir test_cfg train_cfg"
)
_PARAMWISE = (
    "bias_decay_mult bias_lr_mult bypass_duplicate custom_keys dcn_offset_lr_mult decay_rate decay_type "
    "dwconv_decay_mult flat_decay_mult layer_decay_rate norm_decay_mult num_layers"
)
_CLIP = "max_norm norm_type error_if_nonfinite foreach clip_value type"
_LOADER = (
    "batch_sampler batch_size collate_fn dataset drop_last multiprocessing_context num_batch_per_epoch "
    "num_workers persistent_workers pin_memory prefetch_factor sampler timeout worker_init_fn"
)
_LOADER_2 = (
    "samples_per_gpu workers_per_gpu persistent_workers pin_memory shuffle drop_last prefetch_factor "
    "train val test train_dataloader val_dataloader test_dataloader class_aware_sampler"
)
_HOOKS = {
    "checkpoint": "CheckpointHook",
    "logger": "LoggerHook",
    "param_scheduler": "ParamSchedulerHook",
    "runtime_info": "RuntimeInfoHook",
    "sampler_seed": "DistSamplerSeedHook",
    "sync_buffers": "SyncBuffersHook",
    "timer": "IterTimerHook",
}


class Places:
    """The keys that each dictionary of a configuration takes."""

    def __init__(self, registries: Registries, generation: int) -> None:
        self._registries = registries
        self._rules = _rules_2() if generation < 3 else _rules_3()

    def takes(self, path: str, value: dict[str, Any]) -> Takes | None:
        """Return what the dictionary at a path takes; None where only what is in it is known."""
        for pattern, rule in self._rules:
            if re.fullmatch(pattern, path):
                return self._with(rule, path, value)
        named = value.get("type")
        target = self._registries.find(named) if named is not None else None
        return takes(target) if target is not None else None

    def _with(self, rule: str | Callable[[], Takes], path: str, value: dict[str, Any]) -> Takes:
        """Return what a rule says, with what the named type takes, or the one that stands for none."""
        known = _words(rule) if isinstance(rule, str) else rule()
        named = value.get("type") or _default(path, value)
        target = self._registries.find(named) if named else None
        if target is None:
            return known
        own = takes(target)
        return Takes({**own.names, **known.names}, {**own.hints, **known.hints}, own.others or known.others)


def _words(text: str) -> Takes:
    return Takes(dict.fromkeys(text.split()), {}, False)


def _default(path: str, value: dict[str, Any]) -> str:
    """Return the type that a place has without naming one."""
    if path == "train_cfg":
        return "EpochBasedTrainLoop" if value.get("by_epoch", True) else "IterBasedTrainLoop"
    hook = path.rpartition(".")[2] if path.startswith("default_hooks.") else ""
    places = {
        "val_cfg": "ValLoop",
        "test_cfg": "TestLoop",
        "optim_wrapper": "OptimWrapper",
        "log_processor": "LogProcessor",
        "optimizer_config": "OptimizerHook",
        "checkpoint_config": "CheckpointHook",
        "evaluation": "EvalHook",
        "runner": "EpochBasedRunner",
    }
    policy = value.get("policy")
    if path in ("lr_config", "momentum_config") and isinstance(policy, str):
        return f"{policy[:1].upper() if policy == policy.lower() else policy[:1]}{policy[1:]}LrUpdaterHook"
    return places.get(path, _HOOKS.get(hook, ""))


def _runner() -> Takes:
    from mmengine.runner import Runner

    own = takes(Runner)
    return Takes({**own.names, **dict.fromkeys(_ROOT.split())}, own.hints, False)


def _randomness() -> Takes:
    from mmengine.runner import Runner

    own = takes(Runner.set_randomness)
    return Takes(own.names, {**own.hints, "seed": Optional[int]}, False)


def _everything() -> Takes:
    return _ANYTHING


def _rules_3() -> Any:
    return [
        ("", _runner),
        ("train_cfg", "by_epoch type"),
        ("(val|test)_cfg", "fp16 type"),
        ("(train|val|test)_dataloader", _LOADER),
        ("randomness", _randomness),
        ("env_cfg", "cudnn_benchmark mp_cfg dist_cfg resource_limit"),
        (r"env_cfg\.dist_cfg(\..*)?", _everything),
        (r"env_cfg\.mp_cfg", "mp_start_method opencv_num_threads"),
        ("auto_scale_lr", "enable base_batch_size"),
        ("optim_wrapper", "accumulative_counts clip_grad constructor optimizer paramwise_cfg type"),
        (r"optim_wrapper\.paramwise_cfg", _PARAMWISE),
        (r"optim_wrapper\.paramwise_cfg\.custom_keys(\..*)?", _everything),
        (r"optim_wrapper\.clip_grad", _CLIP),
        ("log_processor", "type"),
        ("default_hooks", _everything),
        (r"default_hooks\.\w+", "type priority"),
        (r"custom_hooks\.\d+", "type priority"),
        (r"param_scheduler(\.\d+)?", "type convert_to_iter_based begin end by_epoch last_step verbose"),
        (r"(val|test)_evaluator", "type metrics"),
        ("custom_imports|compile|model_wrapper_cfg", _everything),
    ]


def _rules_2() -> Any:
    return [
        ("", _ROOT_2),
        ("data", _LOADER_2),
        (r"data\.(train|val|test)_dataloader", f"{_LOADER} {_LOADER_2}"),
        (r"data\.(val|test)", "samples_per_gpu pipeline type"),
        ("optimizer", "type constructor paramwise_cfg"),
        (r"optimizer\.paramwise_cfg", _PARAMWISE),
        (r"optimizer\.paramwise_cfg\.custom_keys(\..*)?", _everything),
        ("optimizer_config", "type grad_clip"),
        (r"optimizer_config\.grad_clip", _CLIP),
        ("lr_config|momentum_config", "policy type"),
        ("checkpoint_config", "type priority"),
        ("evaluation", _everything),
        ("log_config", "interval hooks"),
        ("runner", "type max_epochs max_iters"),
        (r"custom_hooks\.\d+", "type priority"),
        ("auto_scale_lr", "enable base_batch_size"),
        ("custom_imports|dist_params|fp16", _everything),
    ]
