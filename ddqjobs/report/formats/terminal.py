"""Text for a terminal: aligned columns, as wide as it is, coloured where wanted."""

from __future__ import annotations

from collections.abc import Callable

from ddqjobs.base.narrow import stacked
from ddqjobs.base.text import cells, clean, format_table
from ddqjobs.report.document import Report
from ddqjobs.report.grids import Grid, Text, grids, lists

Style = Callable[[str, str], str]  # (outcome or "head", text) -> coloured text


def of_report(report: Report, *, width: int | None = None, style: Style | None = None) -> str:
    """Return the report. The AP table takes the fullest of three layouts that fits ``width``: whole verdict
    words, short ones, or a line per model and phase."""
    title = f"{report.experiment}: {report.title}" if report.title else report.experiment
    text = Text(title=title, grids=tuple(_fitting(report, width)), lists=tuple(lists(report)))
    return of_text(text, width=width, style=style)


def of_text(text: Text, *, width: int | None = None, style: Style | None = None) -> str:
    """Return tables and lists for a terminal of this ``width``; None: as wide as they are."""
    blocks = [clean(text.title)]
    for grid in text.grids:
        blocks.append(f"{_styled(style, 'head', grid.title)}\n{_table(grid, width, _painter(grid, style))}")
    for title, lines in text.lists:
        body = "\n".join(f"  {clean(line)}" for line in lines)
        blocks.append(f"{_styled(style, 'head', title)}\n{body}")
    return "\n\n".join(blocks) + "\n"


def _table(grid: Grid, width: int | None, paint: Callable[[int, int, str], str] | None) -> str:
    """Return a table, or its rows stacked where the terminal is too narrow for it: nothing is cut."""
    if width is not None and _natural(grid) > width:
        return stacked(grid.header, grid.rows, width=width, align=grid.align, paint=paint)
    return format_table(grid.header, grid.rows, align=grid.align, paint=paint, rule=True)


def _fitting(report: Report, width: int | None) -> list[Grid]:
    for brief in (False, True):
        tables = grids(report, brief=brief)
        if width is None or not report.models or _natural(tables[0]) <= width:
            return tables
    return grids(report, tall=True)


def _natural(grid: Grid) -> int:
    longest = [max(map(cells, column)) for column in zip(grid.header, *grid.rows, strict=True)]
    return sum(longest) + 2 * (len(longest) - 1)


def _styled(style: Style | None, name: str, text: str) -> str:
    return text if style is None else style(name, text)


def _painter(grid: Grid, style: Style | None) -> Callable[[int, int, str], str] | None:
    if style is None:
        return None

    def paint(row: int, column: int, text: str) -> str:
        name = "head" if row < 0 else grid.outcomes.get((row, column), "")
        return style(name, text) if name else text

    return paint
