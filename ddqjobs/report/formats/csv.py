"""Comma-separated values for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable

from ddqjobs.base.text import clean
from ddqjobs.report.columns import cells_of, columns_of
from ddqjobs.report.document import Report
from ddqjobs.report.grids import Text


def of_report(report: Report) -> str:
    """Return the flat rows (:data:`ddqjobs.report.columns.COLUMNS`), one per run."""
    columns = columns_of(report.runs)
    return _lines(columns, (cells_of(row, columns) for row in report.runs))


def of_text(text: Text) -> str:
    """Return the only table of a text."""
    (grid,) = text.grids
    return _lines(grid.header, grid.rows)


def _lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return out.getvalue()


def _plain(value: object) -> object:
    """A value as a cell. Text that a spreadsheet would take for a formula is led by an apostrophe, as
    spreadsheets do themselves."""
    if isinstance(value, str):
        return f"'{clean(value)}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") and value else clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan"
    return "" if value is None else value
