"""Speed and determinism: what a configuration says of them is put in place before anything is built."""

from __future__ import annotations

import os
from typing import Any

from .. import speed
from . import determinism


def prepare(cfg: Any) -> None:
    """Change a configuration and the process as ``speed`` and ``deterministic`` ask.

    Raises ValueError, in one line, for what cannot be had: no fast form of the model, no deterministic
    operator.
    """
    speed.configure(cfg)
    said = determinism.prepare(cfg)
    if said:
        print(f"numerics: {said}", flush=True)
    if notice := compile_notice(cfg):
        print(f"numerics: {notice}", flush=True)


def compile_notice(cfg: Any) -> str:
    """Return what to expect of the first iterations of a fast training on a GPU; nothing for others."""
    import torch

    if not cfg.get("speed") or not torch.cuda.is_available():
        return ""
    cache = os.environ.get("TRITON_CACHE_DIR") or "~/.triton/cache"
    return f"the first iterations compile Triton kernels that {cache} lacks, for about half a minute"
