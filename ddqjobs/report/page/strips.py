"""Results on lines: what each differs by, all lines of a column on one scale. Pure; places in percent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ddqjobs.report.cells import Cell
from ddqjobs.report.page.charts import labels, ticks

_LEAST, _MOST = 1.5, 6.0  # tolerances that a scale reaches to either side


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The scale that all strips of a column share: points to either side of the reference, and its round
    numbers."""

    reach: float
    ticks: tuple[tuple[float, str], ...]  # place, text

    def at(self, difference: float) -> float:
        """Return the place of a difference; what is beyond the scale stands at its end."""
        return round(min(100.0, max(0.0, 50 + 50 * difference / self.reach)), 2)


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's result: the tolerance band, each seed, the mean and its 90 % interval."""

    band: tuple[float, float]
    seeds: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None
    beyond: str  # "left" or "right" where the mean is beyond the scale


def scale(cells: Sequence[Cell | None]) -> Scale | None:
    """Return the scale of a column; None where nothing is compared in it. One result far away does not
    press all others together: it is shown as being beyond."""
    compared = [c for c in cells if c is not None and _differences(c) is not None]
    if not compared:
        return None
    far = max(abs(x) for c in compared for x in (*(_differences(c) or ()), *_interval(c)))
    tolerance = max(c.tolerance or 0.0 for c in compared) or 0.1
    reach = 1.1 * min(max(far, _LEAST * tolerance), _MOST * tolerance)
    inner = [x for x in ticks(-reach, reach) if abs(x) < 0.93 * reach]
    texts = labels(inner)
    signed = [t if x <= 0 else f"+{t}" for x, t in zip(inner, texts, strict=True)]
    bare_scale = Scale(reach=reach, ticks=())
    places = tuple(
        (bare_scale.at(x), text.replace("-", "\u2212")) for x, text in zip(inner, signed, strict=True)
    )
    return msgspec.structs.replace(bare_scale, ticks=places)


def strip(cell: Cell, on: Scale | None) -> Strip | None:
    """Return a cell on its column's scale; None where there is nothing to draw against."""
    differences = _differences(cell)
    if on is None or differences is None or cell.reference is None:
        return None
    tolerance, mean = cell.tolerance or 0.0, (cell.value.mean or 0.0) - cell.reference
    interval = _interval(cell)
    return Strip(
        band=(on.at(-tolerance), on.at(tolerance)),
        seeds=tuple(map(on.at, differences)),
        mean=on.at(mean),
        interval=(on.at(interval[0]), on.at(interval[1])) if interval else None,
        beyond="" if abs(mean) <= on.reach else "left" if mean < 0 else "right",
    )


def _differences(cell: Cell) -> list[float] | None:
    """Return each seed's difference from the reference, points."""
    value = cell.value
    if cell.reference is None or value.mean is None or not value.quanta:
        return None
    return [each - cell.reference for each in value.each]


def _interval(cell: Cell) -> tuple[float, ...]:
    test = cell.judgement.test
    return () if test is None else (test.low, test.high)
