"""Finds the first module whose output differs between two dumps of ``ddqjobs.detect.capture``. NumPy only."""

from __future__ import annotations

import math
from typing import Any, Mapping

DATA = "data"
TOLERANCE = 1e-5


def compare(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """The findings, as ``ddqjobs.detect.align`` documents them. Modules come in the order of ``a``; a value
    differs if it does by more than ``tolerance`` of the largest value on either side, or in shape, or is not
    there, or not finite on one side only."""
    one, two = _outputs(a), _outputs(b)
    differing: list[str] = []
    apart = [key for key in one if key in two and not set(one[key]) & set(two[key])]
    first: dict[str, Any] | None = None
    worst, bits = 0.0, True
    for key, parts in one.items():
        if key in apart:  # each side's own structure: what it is made of has been compared before
            continue
        gaps = _gaps(parts, two[key]) if key in two else {"": math.inf}
        largest = max(gaps.values(), default=0.0)
        bits = bits and all(_same(parts[p], two[key].get(p)) for p in parts) if key in two else False
        worst = max(worst, largest)
        if largest > tolerance:
            differing.append(key[0])
            part = max(gaps, key=lambda p: gaps[p])
            first = first or _finding(key, part, largest, parts, two.get(key, {}))
    only = [sorted({k[0] for k in x if k not in y}) for x, y in ((one, two), (two, one))]
    return {
        "kind": "modules",
        "bit_equal": bits and not any(only) and not apart,
        "metrics": {
            "module": worst,
            "differing": len(differing),
            "modules": len(one),
            "left_over": sum(len(side) for side in only) + len(apart),
        },
        "first": first,
        "differing": list(dict.fromkeys(differing))[:20],
        "only_a": only[0],
        "only_b": only[1],
        "apart": sorted({name for name, _ in apart}),
        "a": {"modules": len(one)},
        "b": {"modules": len(two)},
    }


def _outputs(dump: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(name, call) -> part -> array. The parts of the data are outputs of their own."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key in sorted(dump, key=lambda k: k.split("|")[0]):
        _, name, call, part = key.split("|")
        if name == DATA:
            name, part = f"{DATA}.{part}", "value"
        found.setdefault((name, call), {})[part] = dump[key]
    return found


def _gaps(x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, float]:
    return {part: _gap(x.get(part), y.get(part)) for part in {**x, **y}}


def _gap(x: Any, y: Any) -> float:
    """Largest difference in parts of the largest value; infinity for what cannot be compared."""
    import numpy as np

    if x is None or y is None or x.shape != y.shape:
        return math.inf
    p, q = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(p) & np.isfinite(q)
    if not ((p == q) | (np.isnan(p) & np.isnan(q)) | finite).all():
        return math.inf
    p, q = p[finite], q[finite]
    if not p.size:
        return 0.0
    return float(np.abs(p - q).max() / max(np.abs(p).max(), np.abs(q).max(), 1e-30))


def _same(x: Any, y: Any) -> bool:
    return y is not None and x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def _finding(
    key: tuple[str, str], part: str, gap: float, x: Mapping[str, Any], y: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": key[0],
        "call": int(key[1]),
        "part": part,
        "difference": gap,
        "a": statistics(x.get(part)),
        "b": statistics(y.get(part)),
    }


def statistics(value: Any) -> dict[str, Any] | None:
    """Shape, type, smallest, largest, mean and deviation of the finite values, and how many are not."""
    import numpy as np

    if value is None:
        return None
    numbers = value.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    found: dict[str, Any] = {"shape": list(value.shape), "type": str(value.dtype)}
    found["not_finite"] = int(len(numbers) - len(finite))
    for name in ("min", "max", "mean", "std"):
        found[name] = float(getattr(finite, name)()) if finite.size else None
    return found


def sentence(result: Mapping[str, Any]) -> str:
    """The findings in one line."""
    first = result["first"]
    if first is None:
        return f"no module differs of {result['metrics']['modules']}"
    where = f"{first['name']} (call {first['call']}, {first['part']})"
    return f"first difference in {where}: {first['difference']:.3g}"
