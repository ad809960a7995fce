"""Finds the first module whose output differs between two dumps of ``ddqjobs.detect.capture``. NumPy only."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

DATA = "data"
UNORDERED = "unordered"  # a part of an output whose rows have no order of their own
TOLERANCE = 1e-5
_ROWS = 3000  # at most so many are matched with each other


def compare(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """The findings, as ``ddqjobs.detect.align`` documents them. Modules come in the order of ``a``; a value
    differs if it does by more than ``tolerance`` of the largest value on either side, or in shape, or is not
    there, or not finite on one side only. The rows of outputs that have no order are matched first."""
    one, two = _outputs(a), _outputs(b)
    for key in _unordered(a) & _unordered(b):
        two[key] = matched(one[key], two[key], tolerance)
    differing: list[str] = []
    apart = [key for key in one if key in two and not set(one[key]) & set(two[key])]
    first: dict[str, Any] | None = None
    worst, bits = 0.0, True
    for key, parts in one.items():
        if key in apart:  # each side's own structure: what it is made of has been compared before
            continue
        gaps = _gaps(parts, two[key]) if key in two else {"": math.inf}
        largest = max(gaps.values(), default=0.0)
        bits = bits and all(_same(parts[part], two[key].get(part)) for part in parts) if key in two else False
        worst = max(worst, largest)
        if largest > tolerance:
            differing.append(key[0])
            part = max(gaps, key=gaps.__getitem__)
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
    outputs: dict[tuple[str, str], dict[str, Any]] = {}
    for key in sorted(dump, key=lambda k: k.split("|")[0]):
        _, name, call, part = key.split("|")
        if part == UNORDERED:
            continue
        if name == DATA:
            name, part = f"{DATA}.{part}", "value"
        outputs.setdefault((name, call), {})[part] = dump[key]
    return outputs


def _unordered(dump: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (name, call) of the outputs whose rows have no order."""
    places = (key.split("|") for key in dump)
    return {(name, call) for _, name, call, part in places if part == UNORDERED}


def matched(x: Mapping[str, Any], y: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Return the parts of ``y`` with each image's rows in the order of ``x``, as far as rows differ by more
    than the tolerance where they are: a score's last digit decides the order of two queries. An image is
    what stands before a part's first dot; its parts have a row for each query."""
    arrays = dict(y)
    for image in {part.partition(".")[0] for part in x}:
        parts = [part for part in x if part.partition(".")[0] == image]
        order = _order([x[part] for part in parts], [y.get(part) for part in parts], tolerance)
        if order is not None:
            arrays.update((part, y[part][order]) for part in parts)
    return arrays


def _order(x: Sequence[Any], y: Sequence[Any], tolerance: float) -> Any:
    """Return which row of ``y`` is next to each row of ``x``; None where rows cannot be told."""
    import numpy as np

    shapes = [part.shape for part in x]
    if any(part is None for part in y) or [part.shape for part in y] != shapes:
        return None
    if not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        return None
    order = np.arange(shapes[0][0])
    one, two = _table(x, x), _table(y, x)
    apart = np.flatnonzero(~(np.abs(one - two).max(axis=1, initial=0.0) <= tolerance))
    if not 0 < len(apart) <= _ROWS:
        return None
    free = list(apart)
    for row in apart:
        distances = np.nan_to_num(np.abs(two[free] - one[row]).max(axis=1), nan=np.inf)
        order[row] = free.pop(int(distances.argmin()))
    return order


def _table(parts: Sequence[Any], scale: Sequence[Any]) -> Any:
    """Return a row per query: all its values, each part in parts of the largest of its scale."""
    import numpy as np

    columns = [part.reshape(len(part), -1).astype(np.float64) for part in parts]
    largest = [max(float(np.abs(part).max(initial=0.0)), 1e-30) for part in scale]
    return np.concatenate([c / size for c, size in zip(columns, largest)], axis=1)


def _gaps(x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, float]:
    return {part: _gap(x.get(part), y.get(part)) for part in {**x, **y}}


def _gap(x: Any, y: Any) -> float:
    """Largest difference in parts of the largest value; infinity for what cannot be compared."""
    import numpy as np

    if x is None or y is None or x.shape != y.shape:
        return math.inf
    one, two = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(two)
    if not ((one == two) | (np.isnan(one) & np.isnan(two)) | finite).all():
        return math.inf
    one, two = one[finite], two[finite]
    if not one.size:
        return 0.0
    return float(np.abs(one - two).max() / max(np.abs(one).max(), np.abs(two).max(), 1e-30))


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
    summary: dict[str, Any] = {"shape": list(value.shape), "type": str(value.dtype)}
    summary["not_finite"] = int(len(numbers) - len(finite))
    for name in ("min", "max", "mean", "std"):
        summary[name] = float(getattr(finite, name)()) if finite.size else None
    return summary


def sentence(result: Mapping[str, Any]) -> str:
    """The findings in one line."""
    first = result["first"]
    if first is None:
        return f"no module differs of {result['metrics']['modules']}"
    where = f"{first['name']} (call {first['call']}, {first['part']})"
    return f"first difference in {where}: {first['difference']:.3g}"
