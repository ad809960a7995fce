"""Speed and determinism: what a configuration says of them is put in place before anything is built."""

from __future__ import annotations

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
