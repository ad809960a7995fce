"""A report as a notebook shows it: what it says at all, and a row for each result. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ddqjobs.base import html
from ddqjobs.report.cells import ModelRow
from ddqjobs.report.lookup import Column, label


def of_report(title: str, models: Sequence[ModelRow], columns: Sequence[Column]) -> str:
    """Return the AP table as HTML."""
    header = ("model", "variant", "where", "result", "reference", "difference", "verdict")
    rows = [
        (
            row.title,
            row.variant,
            " ".join(filter(None, (label(column.phase), column.implementation, column.task))),
            cell.value.text,
            row.reference_text,
            cell.difference_text,
            cell.judgement.word,
        )
        for row in models
        for column, cell in zip(columns, row.cells, strict=True)
        if cell is not None
    ]
    return html.table(title, header, rows)
