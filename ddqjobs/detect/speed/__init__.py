"""Training with less waiting and the same numbers: chosen by a configuration, off by default.

    speed = True                   (or --cfg-options speed=True)

:func:`configure` then puts these in place, on a GPU all bit-equal to mmdet's own in float32:

* ``FastDDQDETR`` for ``DDQDETR`` (:mod:`.detector`): losses of all layers at once (:mod:`.losses`), matching
  with one copy to the host (:mod:`.matching`), selection of distinct queries (:mod:`.decoder`) and denoising
  queries (:mod:`.queries`) that do not wait for the GPU, deformable attention in Triton (:mod:`.attention`);
* the forward pass of a test of DDQ DETR as a CUDA graph, where batches of one shape come again
  (:mod:`.graphs`), launched before the batch before it is evaluated (:mod:`.ahead`);
* ``FastDDQFCNHead`` and ``FastDDQFCNRPN`` for DDQ FCN and DDQ R-CNN (:mod:`.fcn`): queries and losses with
  one copy to the host, the pyramid shuffle of a deterministic training in a kernel per level;
* losses for the log in one copy, for which the host does not wait before the GPU's next work is launched
  (:mod:`.logged`);
* ``MergedGroupsConstructor`` for mmengine's optimizer constructor (:mod:`.groups`);
* ``WorkspaceHook`` (:mod:`.workspace`): products of matrices that do not parse an environment variable;
* on a GPU, unless the configuration says otherwise, batches in pinned memory, and copies of them that the
  host does not wait for.
"""

from __future__ import annotations

from typing import Any

from .unsupported import NoFastForm

__all__ = ["NoFastForm", "configure"]

_ONE_STAGE = ("SingleStageDetector", "FastSingleStageDetector")
_TWO_STAGES = ("DDQRCNN", "FastDDQRCNN")
_CONSTRUCTORS = ("DefaultOptimWrapperConstructor", "MergedGroupsConstructor")


def configure(cfg: Any) -> None:
    """Change a configuration that says ``speed`` in place. Raises NoFastForm for a model or an optimizer's
    constructor."""
    if not cfg.get("speed"):
        return
    _choose_model(cfg.model)
    from . import groups  # noqa: F401  (registers it)

    if cfg.get("optim_wrapper"):
        constructor = cfg.optim_wrapper.get("constructor", _CONSTRUCTORS[0])
        if constructor not in _CONSTRUCTORS:
            raise NoFastForm(f"speed: there is no fast form of {constructor}, only of {_CONSTRUCTORS[0]}")
        cfg.optim_wrapper.constructor = _CONSTRUCTORS[1]
    _overlap_copies(cfg)
    if cfg.model.type == "FastDDQDETR":
        _launch_ahead(cfg)
    _add_workspace_hook(cfg)


def _add_workspace_hook(cfg: Any) -> None:
    from . import workspace  # noqa: F401  (registers it)

    hooks = list(cfg.get("custom_hooks") or [])
    if all(h.get("type") != "WorkspaceHook" for h in hooks):
        cfg.custom_hooks = [*hooks, {"type": "WorkspaceHook"}]


def _choose_model(model: Any) -> None:
    head = model.get("bbox_head") or {}
    if model.type in ("DDQDETR", "FastDDQDETR"):
        from . import detector  # noqa: F401  (registers it)

        model.type = "FastDDQDETR"
    elif model.type in _ONE_STAGE and head.get("type") in ("DDQFCNHead", "FastDDQFCNHead"):
        from . import fcn

        model.type, model.bbox_head.type = _ONE_STAGE[1], "FastDDQFCNHead"
    elif model.type in _TWO_STAGES and model.rpn_head.type in ("DDQFCNRPN", "FastDDQFCNRPN"):
        from . import fcn  # noqa: F401  (registers them)

        model.type, model.rpn_head.type = _TWO_STAGES[1], "FastDDQFCNRPN"
    else:
        raise NoFastForm(
            f"speed: there is no fast form of {model.type}, only of DDQDETR, DDQ FCN and DDQ R-CNN"
        )


def _launch_ahead(cfg: Any) -> None:
    from . import ahead  # noqa: F401  (registers them)

    for key, plain in (("val_cfg", "ValLoop"), ("test_cfg", "TestLoop")):
        if cfg.get(key) is not None and cfg[key].get("type", plain) == plain:
            cfg[key].type = f"Ahead{plain}"


def _overlap_copies(cfg: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        return
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(loader):
            cfg[loader].setdefault("pin_memory", True)
    if cfg.model.get("data_preprocessor"):
        cfg.model.data_preprocessor.setdefault("non_blocking", True)
