"""Map the names of weights in one code base to those of another. Standard library only.

The release's names are those of mmdet 3.3.0 and of :mod:`ddqjobs.detect.models`, for all seven models, so
their mapping is ``identity``; what a checkpoint holds beside the weights is dropped, each with its reason.

The other two are between mmdet's DDQ DETR, whose head lists 8 branches and 6 auxiliary ones, and a head of 7
and 7: there the encoder's auxiliary branch, 8th of the first list, is 7th of the second. mmdet has no such
head.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Mapping(NamedTuple):
    """``rules``: (regular expression, replacement); the first that matches a whole name holds, a name that
    none matches stays. ``direction``: 1 if the target is the configuration's model, -1 if the source is."""

    rules: tuple[tuple[str, str], ...] = ()
    direction: int = 1

    def __call__(self, key: str) -> str:
        for pattern, replacement in self.rules:
            match = re.fullmatch(pattern, key)
            if match:
                return match.expand(replacement)
        return key


# A program of the user's own adds its rules here before it calls convert.main (docs/how-to/data.md).
MAPPINGS: dict[str, Mapping] = {
    "identity": Mapping(),
    "8+6-to-7+7": Mapping(
        ((r"bbox_head\.(cls|reg)_branches\.7\.(.+)", r"bbox_head.aux_\1_branches.6.\2"),), -1
    ),
    "7+7-to-8+6": Mapping(((r"bbox_head\.aux_(cls|reg)_branches\.6\.(.+)", r"bbox_head.\1_branches.7.\2"),)),
}

EMA = "ema_state_dict"  # where mmengine's EMAHook leaves the weights that it averages
AVERAGE = "ema_"  # mmcv 1.x keeps the weights that it averages in buffers of this name, dots as underscores


def averaged(key: str) -> str:
    """Name of the buffer that mmcv 1.x's EMA keeps beside a weight."""
    return AVERAGE + key.replace(".", "_")
