"""Two checkpoints, compared weight by weight. Needs torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .. import runtime
from . import CannotCompare


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Compare the state_dicts of two checkpoints; :mod:`ddqjobs.detect.align` says what is in the
    result. Raises
    CannotCompare."""
    runtime.allow_checkpoints()
    try:
        states = [runtime.load_checkpoint(path) for path in (a, b)]
    except runtime.CannotLoad as error:
        raise CannotCompare(str(error)) from error
    one, two = (state.get("state_dict", state) for state in states)
    common = [k for k in one if k in two]
    shapes = [k for k in common if one[k].shape != two[k].shape or one[k].dtype != two[k].dtype]
    worst, name, differing, not_finite = 0.0, None, 0, 0
    for key in [k for k in common if k not in shapes]:
        if one[key].numpy().tobytes() == two[key].numpy().tobytes():
            continue
        differing += 1
        gap = float((one[key].double() - two[key].double()).abs().max())
        not_finite += not math.isfinite(gap)
        if gap > worst or name is None:
            worst, name = gap, key
    only = [[k for k in x if k not in y] for x, y in ((one, two), (two, one))]
    metrics = {
        "weight": math.nan if not_finite else worst,
        "differing": differing,
        "tensors": len(common),
        "not_finite": not_finite,
    }
    return {
        "kind": "weights",
        "bit_equal": not (differing or shapes or any(only)),
        "metrics": metrics,
        "a": {"tensors": len(one)},
        "b": {"tensors": len(two)},
        "worst": name,
        "only_a": only[0],
        "only_b": only[1],
        "shapes": shapes,
    }
