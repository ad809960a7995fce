"""Learning curves as small SVG pictures. Pure.

A picture takes its colours from the page's style sheet, so that it follows dark and light; its text stays
text.
What the page's script needs to name the values under the pointer stands in ``data-`` attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

import msgspec

from ddqjobs.base.text import clean

STYLES = 4  # colours in the style sheet; further implementations begin anew
DASHES = 12  # in the style sheet; further trainings of one implementation begin anew
WIDTH, HEIGHT = 300, 122
LEFT, RIGHT, TOP, BOTTOM = 40, 292, 8, 96  # of the field in which lines are drawn
_TICKS = 4
_MOST, _LEAST = 1e300, 1e-300  # beyond them a span overflows, or its parts are 0
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

Point = tuple[float, float | None]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One training in one panel. ``style`` counts implementations from 0 and is its colour; ``dash`` counts
    the trainings of one implementation and is its dash."""

    label: str
    style: int
    dash: int = 0
    points: Sequence[Point]  # None: not finite; the line has a gap
    smooth: Sequence[Point] = ()  # the same as means of equal parts


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity of the trainings of one model. ``zero``: a difference, whose zero is always shown;
    ``span``: values that its axis has in any case."""

    title: str
    x: str  # iteration, or epoch
    lines: tuple[Line, ...]
    zero: bool = False
    note: str = ""
    span: tuple[float, ...] = ()


class _Scale(msgspec.Struct, frozen=True):
    """Values to places: ``low`` is drawn at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def draw(panel: Panel) -> str:
    """Return a panel as one SVG element."""
    points = [point for line in panel.lines for point in (*line.points, *line.smooth)]
    xs = [x for x, _ in points if _drawable(x)]
    ys = [y for _, y in points if y is not None and _drawable(y)]
    across = _scale(xs, LEFT, RIGHT)
    up = _scale([*ys, *panel.span, *([0.0] if panel.zero else [])], BOTTOM, TOP, room=0.04)
    parts = [*_axes(across, up, panel), *_zero(up, panel), *_lines(panel, across, up)]
    data = (
        f'data-x="{across.low:g} {across.high:g}" data-y="{up.low:g} {up.high:g}" data-of="{_text(panel.x)}"'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true" {data}>{"".join(parts)}</svg>'
    )


def _text(text: str) -> str:
    return escape(clean(text))


def _drawable(value: float) -> bool:
    """Return whether there is a place for a value; nan has none either."""
    return abs(value) <= _MOST


def _scale(values: Sequence[float], start: float, end: float, room: float = 0.0) -> _Scale:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    reach, largest = high - low, max(abs(low), abs(high))
    if reach <= max(1e-12 * largest, _LEAST):  # one value
        reach = largest if largest > _LEAST else 1.0
        low, high = low - reach / 2, high + reach / 2
    return _Scale(low - room * reach, high + room * reach, start, end)


def _axes(across: _Scale, up: _Scale, panel: Panel) -> Iterator[str]:
    grid, texts = [], []
    values = ticks(up.low, up.high)
    for value, text in zip(values, labels(values), strict=True):
        grid.append(f"M{LEFT} {up.at(value):.1f}H{RIGHT}")
        texts.append(f'<text x="{LEFT - 4}" y="{up.at(value) + 3:.1f}" text-anchor="end">{text}</text>')
    values = [x for x in ticks(across.low, across.high) if x == int(x)]
    for value, text in zip(values, labels(values), strict=True):
        texts.append(f'<text x="{across.at(value):.1f}" y="{BOTTOM + 12}" text-anchor="middle">{text}</text>')
    yield f'<path class="grid" d="{"".join(grid)}"/><g class="words">{"".join(texts)}'
    middle = (LEFT + RIGHT) / 2
    yield f'<text x="{middle:g}" y="{HEIGHT - 2}" text-anchor="middle">{_text(panel.x)}</text></g>'


def _zero(up: _Scale, panel: Panel) -> Iterator[str]:
    if panel.zero:
        yield f'<path class="zero" d="M{LEFT} {up.at(0):.1f}H{RIGHT}"/>'


def _lines(panel: Panel, across: _Scale, up: _Scale) -> Iterator[str]:
    crowd = " crowd" if len(panel.lines) > 6 else ""
    for line in panel.lines:
        look = f"series-{line.style % STYLES} dash-{line.dash % DASHES}{crowd}"
        name = _text(line.label)
        kinds: list[tuple[str, Sequence[Point]]] = [("", line.points)]
        if line.smooth:
            kinds = [(" raw", line.points), (" smooth", line.smooth)]
        for kind, points in kinds:
            if drawn := _path(points, across, up):
                yield f'<path class="line {look}{kind}" data-name="{name}" d="{drawn}"/>'


def _path(points: Iterable[Point], across: _Scale, up: _Scale) -> str:
    parts, pen, count = [], False, 0
    for x, y in points:
        if y is None or not _drawable(y) or not _drawable(x):
            pen = False
            continue
        parts.append(f"{'L' if pen else 'M'}{across.at(x):.1f} {up.at(y):.1f}")
        pen, count = True, count + 1
    return parts[0] + "h.1" if count == 1 else "".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Return at most six round values between two."""
    step = 10 ** math.floor(math.log10((high - low) / _TICKS))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= _TICKS + 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") + 0.0 for i in range(first, last + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Return the values as text of one length and unit, each different from the others."""
    largest = max((abs(v) for v in values), default=0)
    if 0 < largest < 0.01:
        return [tiny(v) for v in values]
    for size, unit in _UNITS:
        if largest >= 10 * size or (size < 1e6 and largest >= 5 * size):
            return [f"{v / size:g}{unit}" if v else "0" for v in values]
    decimals = next((d for d in range(8) if all(abs(round(v, d) - v) < 1e-9 for v in values)), 8)
    return [f"{v:.{decimals}f}" for v in values]


def tiny(value: float) -> str:
    """Return ``1.5e-4``, ``5e-5``, ``0``."""
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
