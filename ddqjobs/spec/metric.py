"""The figure that results are judged by, and those that every report of boxes can show."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta

from ddqjobs.spec.table import Name, Table

_PREFIX = re.compile(r"^(?:(?:coco|train|val|test)/)+")  # as :mod:`ddqjobs.detect.job.logs` takes it off

Word = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9@][A-Za-z0-9 @._:%/()-]{0,31}$",
        description="letters, digits, spaces and @._:%/()-, 32 at most",
    ),
]


class Metric(Table, frozen=True, kw_only=True):
    """The measure that a result is judged by: a figure of the detector's log times `scale`, in `unit`, with
    `decimals` digits. Left out, box AP as COCO defines it; a key that is left out is box AP's."""

    name: Word = "AP"
    """Name in tables, verdicts and curves. Example: PQ"""
    key: Annotated[str, Meta(min_length=1)] = "bbox_mAP"
    """The figure's name in the detector's log; what stands before it and a slash may be left out. Example:
    segm_mAP"""
    unit: Annotated[str, Meta(max_length=16)] = "points"
    """Unit of the figure times `scale`; empty, it has none. Example: points"""
    scale: Annotated[float, Meta(gt=0)] = 100
    """What the logged figure is multiplied with: 100 for a fraction, 1 for what is logged in its unit.
    Example: 1"""
    direction: Literal["higher", "lower"] = "higher"
    """Which figures are better: beyond the tolerance a worse one is *short*, a better one *exceeds*. Example:
    lower"""
    decimals: Annotated[int, Meta(ge=0, le=6)] = 1
    """Digits behind the point that results are rounded to before they are compared. Example: 2"""
    rounding: Literal["half-even", "half-up", "down"] = "half-even"
    """How they are rounded: halves to the even digit as Python does, halves up, or cut off. Example:
    half-up"""

    @property
    def quanta(self) -> int:
        """Return how many units of the last digit make one of the metric's unit."""
        return int(10**self.decimals)

    @property
    def is_box_ap(self) -> bool:
        """Return whether it is box AP, whatever its digits."""
        return self.key == BOX_AP.key

    @property
    def is_fraction(self) -> bool:
        """Return whether it is logged as a fraction: it is never negative, and -1 says *no such objects*."""
        return self.scale == 100


BOX_AP = Metric()
# Our names of COCO's figures for boxes, and the detectors' (facts: mmengine after `coco/`, and mmcv 1.x).
METRICS: dict[str, str] = {
    "AP": "bbox_mAP",
    "AP50": "bbox_mAP_50",
    "AP75": "bbox_mAP_75",
    "APs": "bbox_mAP_s",
    "APm": "bbox_mAP_m",
    "APl": "bbox_mAP_l",
}
OF_BOXES: dict[str, Metric] = {name: Metric(name=name, key=key) for name, key in METRICS.items()}


class ReferenceAP(Table, frozen=True, kw_only=True):
    """The published figure of a model: ``ap`` in AP points, ``value`` in the unit of its `metric`, or the
    metrics of a run of task ``task``. ``rounded_to`` is the figure's last digit: 0.1 for 51.3, 1 for a paper
    that only says 51."""

    ap: float | None = None
    """The published box AP, in AP points. Example: 51.3"""
    value: float | None = None
    """The published figure of a model that has another `metric`, in its unit. Example: 41.3"""
    rounded_to: Annotated[float, Meta(gt=0)] | None = None
    """The last digit of the published figure, in its unit: 1 for a paper that only says 51. Left out, the
    metric's own, which is 0.1 AP points. Example: 1"""
    task: Name | None = None
    """Takes the figure from the runs of this task instead, which then count as the published ones. Example:
    released-test"""
    source: str = ""
    """Where the figure was published, for the report. Example: Table 2 of arXiv:2303.12776"""

    @property
    def figure(self) -> float | None:
        """Return the published figure, in the unit of the model's metric."""
        return self.ap if self.value is None else self.value


def found_as(key: str, names: Iterable[str]) -> str | None:
    """Return the name under which a figure was logged: the key itself, or the only name that ends in it
    after a slash. Of several, none is meant. A key may have the prefix that logs are read without."""
    names = tuple(names)
    if key in names:
        return key
    ending = [name for name in names if name.endswith(f"/{key}")]
    if ending:
        return ending[0] if len(ending) == 1 else None
    plain = _PREFIX.sub("", key)
    return plain if plain in names else None
