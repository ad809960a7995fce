"""Do what ``randomness.deterministic=True`` needs beside mmengine's own part, and flags that decide rounding.

mmengine calls ``torch.use_deterministic_algorithms(True)``: an operator without a deterministic form stops
the run with its name. That holds for torch's operators, and those of compiled mmcv are none: on a GPU a
deterministic run takes this project's in place of those that it has, and the others whose gradients add
atomically stop the run with their names too.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from typing import Any, Callable

WORKSPACE = ":4096:8"  # cuBLAS: without it, sums over several streams vary
# Of mmcv 2.1.0, whose gradients add atomically (its .cuh files below ops/csrc/common/cuda): here there are
# deterministic ones,
_OURS = ("ms_deform_attn_forward", "ms_deform_attn_backward", "roi_align_forward", "roi_align_backward")
# and here there are none.
_ATOMIC = (
    "assign_score_withk_backward",
    "bezier_align_backward",
    "border_align_backward",
    "carafe_naive_backward",
    "chamfer_distance_backward",
    "deform_conv_backward_input",
    "deform_roi_pool_backward",
    "dynamic_point_to_voxel_backward",
    "gather_points_backward",
    "group_points_backward",
    "indice_conv_backward",
    "modulated_deform_conv_backward",
    "prroi_pool_backward",
    "prroi_pool_coor_backward",
    "riroi_align_rotated_backward",
    "roi_align_rotated_backward",
    "roi_pool_backward",
    "roiaware_pool3d_backward",
    "rotated_feature_align_backward",
    "stack_group_points_backward",
    "three_interpolate_backward",
)


class NotDeterministic(RuntimeError):
    """A deterministic run uses an operator that is not; the message is one line with its name."""


def prepare(cfg: Any) -> str:
    """Set the process up as a configuration says; what was set, for the log.

    ``tf32 = dict(matmul=False, cudnn=True)`` (torch's defaults since 1.12; torch before has both on) is set
    explicitly in deterministic runs and wherever the configuration has it.
    """
    deterministic = bool((cfg.get("randomness") or {}).get("deterministic"))
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    import torch

    said = []
    tf32 = cfg.get("tf32")
    if deterministic or tf32 is not None:
        flags = {"matmul": False, "cudnn": True, **(tf32 or {})}
        torch.backends.cuda.matmul.allow_tf32 = flags["matmul"]
        torch.backends.cudnn.allow_tf32 = flags["cudnn"]
        said.append(f"TF32: matmul {_on(flags['matmul'])}, cudnn {_on(flags['cudnn'])}")
    if deterministic:
        utilities = getattr(torch.utils, "deterministic", None)
        if utilities is not None:
            # Filling fresh memory costs time and hides nothing: operators write what they return.
            utilities.fill_uninitialized_memory = False
        said.append(f"deterministic, cuBLAS workspace {os.environ['CUBLAS_WORKSPACE_CONFIG']}")
        if torch.cuda.is_available() and (replaced := _compiled_operators()):
            said.append(f"in place of compiled mmcv's: {', '.join(replaced)}")
    return "; ".join(said)


def _compiled_operators() -> list[str]:
    """See :func:`replace`, for compiled mmcv, if it is here."""
    from .. import ops

    if ops.install() or importlib.util.find_spec("mmcv") is None:
        return []
    return replace(importlib.import_module(ops.NAME))


def replace(extension: Any) -> list[str]:
    """Put deterministic operators in the place of those of ``extension`` (mmcv's compiled module) for tensors
    on a GPU; their names. Others that add atomically raise NotDeterministic there."""
    replaced = []
    for name in _OURS:
        if hasattr(extension, name):
            setattr(extension, name, _on_gpu(getattr(extension, name), functools.partial(_ours, name)))
            replaced.append(name)
    for name in _ATOMIC:
        if hasattr(extension, name):
            setattr(extension, name, _on_gpu(getattr(extension, name), functools.partial(_refuse, name)))
    return replaced


def _on_gpu(compiled: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    """``compiled``, but ``instead`` where a tensor is on a GPU."""
    compiled = getattr(compiled, "compiled", compiled)  # replaced before

    def operator(*args: Any, **kwargs: Any) -> Any:
        way = instead if any(getattr(a, "is_cuda", False) for a in (*args, *kwargs.values())) else compiled
        return way(*args, **kwargs)

    operator.compiled = compiled  # type: ignore[attr-defined]
    return operator


def _ours(name: str, *args: Any, **kwargs: Any) -> Any:
    try:
        if name.startswith("roi_align"):
            from ..ops import roi_align_kernels as found
        else:
            from ..ops import deformable_attention as found  # type: ignore[no-redef]
    except ImportError:  # no Triton
        if not name.startswith("roi_align"):
            return _refuse(name)
        from ..ops import roi_align as found  # type: ignore[no-redef]
    return getattr(found, name)(*args, **kwargs)


def _refuse(name: str, *_: Any, **__: Any) -> Any:
    raise NotDeterministic(
        f"deterministic=True: {name} of compiled mmcv adds to its gradients atomically on a GPU and differs "
        "from run to run; train without that operator, or without the flag"
    )


def _on(flag: bool) -> str:
    return "on" if flag else "off"
