"""What ``randomness.deterministic=True`` needs beside mmengine's own part, and flags that decide rounding.

mmengine calls ``torch.use_deterministic_algorithms(True)``: an operator without a deterministic form stops
the run
with its name. That holds for torch's operators; deformable attention, nms and the focal loss of compiled
mmcv are
none of torch's, so a deterministic run refuses the one that adds atomically.
"""

from __future__ import annotations

import os
from typing import Any

WORKSPACE = ":4096:8"  # cuBLAS: without it, sums over several streams vary


class NotDeterministic(ValueError):
    """A deterministic run would use an operator that is not; the message is one line."""


def prepare(cfg: Any) -> str:
    """Set the process up as a configuration says; what was set, for the log.

    ``tf32 = dict(matmul=False, cudnn=True)`` (torch's defaults since 1.12; torch before has both on) is set
    explicitly in deterministic runs and wherever the configuration has it.

    Raises NotDeterministic if the run would use mmcv's compiled deformable attention on a GPU.
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
        _refuse_atomics(cfg)
        said.append(f"deterministic, cuBLAS workspace {os.environ['CUBLAS_WORKSPACE_CONFIG']}")
    return "; ".join(said)


def _refuse_atomics(cfg: Any) -> None:
    import torch

    from . import ops

    if not torch.cuda.is_available() or ops.install() or cfg.get("speed"):
        return
    if (
        "MultiScaleDeformableAttention" in str(cfg.model)
        or "Deformable" in str(cfg.model)
        or "DDQDETR" in str(cfg.model)
    ):
        raise NotDeterministic(
            "deterministic=True: the gradient of mmcv's compiled deformable attention adds atomically and "
            "differs from run to run; set speed=True, or use an environment with mmcv-lite"
        )


def _on(flag: bool) -> str:
    return "on" if flag else "off"
