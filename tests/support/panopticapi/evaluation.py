"""Panoptic quality: PQ = IoU of matched segments / (matched + half of the unmatched)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

OFFSET = 256**3
VOID = 0


class PQStatCat:
    """Counts of one class."""

    def __init__(self) -> None:
        self.iou, self.tp, self.fp, self.fn = 0.0, 0, 0, 0

    def __iadd__(self, other: PQStatCat) -> PQStatCat:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class PQStat:
    """Counts of all classes."""

    def __init__(self) -> None:
        self.pq_per_cat: dict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, i: int) -> PQStatCat:
        return self.pq_per_cat[i]

    def __iadd__(self, other: PQStat) -> PQStat:
        for label, counts in other.pq_per_cat.items():
            self.pq_per_cat[label] += counts
        return self

    def pq_average(self, categories: dict[int, Any], isthing: bool | None) -> tuple[Any, Any]:
        """Return means over the classes that occur, and each class's own."""
        per_class, rows = {}, []
        for label, info in categories.items():
            if isthing is not None and bool(info["isthing"]) != isthing:
                continue
            c = self.pq_per_cat[label]
            whole = c.tp + 0.5 * c.fp + 0.5 * c.fn
            sq, rq = (c.iou / c.tp if c.tp else 0.0), (c.tp / whole if whole else 0.0)
            per_class[label] = {"pq": sq * rq, "sq": sq, "rq": rq}
            rows += [per_class[label]] if whole else []
        n = max(1, len(rows))
        return {
            **{key: sum(v[key] for v in rows) / n for key in ("pq", "sq", "rq")},
            "n": len(rows),
        }, per_class
