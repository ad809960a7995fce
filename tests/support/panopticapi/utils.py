"""Identifiers of segments as colours: r + 256 g + 256² b."""

from __future__ import annotations

from typing import Any

import numpy as np


def rgb2id(colour: Any) -> Any:
    """Return the identifier of a colour, or those of an image."""
    values = np.asarray(colour).astype(np.int64)
    return values[..., 0] + 256 * values[..., 1] + 256**2 * values[..., 2]


def id2rgb(identifiers: Any) -> Any:
    """Return the colour of an identifier, or those of an image."""
    values = np.asarray(identifiers)
    return np.stack([values // 256**i % 256 for i in range(3)], axis=-1).astype(np.uint8)
