"""Learning curves as small SVG pictures, drawn by matplotlib.

The only importer of matplotlib (an optional extra, ``ddqjobs[page]``). A picture takes its colours from the
page's style sheet, so that it follows dark and light; its text stays text. It is cut down to what a page
needs: a tenth of a pixel is precise enough, and a name that nobody refers to is left out.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

STYLES = 4  # colours and dashes in the style sheet; further implementations begin anew
WIDTH, HEIGHT = 3.1, 1.75  # inches; the page scales them
_INK, _RULE = "#000001", "#000002"  # stand for the style sheet's variables
_SERIES = tuple(f"#00010{i}" for i in range(STYLES))
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ddqjobs",
    "font.size": 7.5,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _RULE,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One training in one panel. ``style`` counts implementations from 0 and is its colour; ``dash`` counts
    the trainings of one implementation and is its dash."""

    label: str
    style: int
    dash: int = 0
    points: Sequence[tuple[int, float | None]]  # None: not finite; the line has a gap


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity of the trainings of one model."""

    title: str
    x: str  # iteration, or epoch
    lines: tuple[Line, ...]


def available() -> bool:
    """Whether matplotlib can be imported."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def draw(panels: Sequence[Panel], names: str) -> list[str]:
    """One SVG element per panel; ``names`` begins the names of what they define, unique on the page."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return [_compact(_svg(panel), f"{names}-{i}") for i, panel in enumerate(panels)]


def _svg(panel: Panel) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.14, 0.2, 0.84, 0.76))
    crowd = len(panel.lines) > 6
    for line in panel.lines:
        xs = [x for x, _ in line.points]
        ys = [math.nan if y is None else y for _, y in line.points]
        style = line.style % STYLES
        axes.plot(
            xs,
            ys,
            color=_SERIES[style],
            linestyle=_DASHES[line.dash % STYLES],
            linewidth=0.8 if crowd else 1.3,
            alpha=0.6 if crowd else 1.0,
            marker="o" if len(xs) == 1 else None,
            markersize=3,
        )
    axes.grid(axis="y", linewidth=0.4)
    axes.set_xlabel(panel.x, labelpad=1)
    axes.tick_params(length=2, pad=2, width=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if _tiny(panel):
        axes.yaxis.set_major_formatter(lambda value, _: tiny(value))
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _tiny(panel: Panel) -> bool:
    values = [abs(y) for line in panel.lines for _, y in line.points if y is not None]
    return bool(values) and 0 < max(values) < 0.01


def tiny(value: float) -> str:
    """``1.5e-4``, ``5e-5``, ``0``."""
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"


def _compact(svg: str, names: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1
    )
    used = set(re.findall(r'#([\w-]+)["\)]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{names}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{names}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{names}-\1)", svg)
    svg = svg.replace(_INK, "var(--ink)").replace(_RULE, "var(--rule)")
    for i, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f"var(--series-{i})")
    # The page's own fonts, and nothing that styles more than this picture.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r'<g>\s*<path d="[^"]*" style="fill: none"/>\s*</g>', "", svg)
    # Coordinates only: the numbers at the axes keep their digits.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return re.sub(r"> <", "><", svg).strip()
