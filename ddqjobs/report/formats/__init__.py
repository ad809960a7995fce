"""A report, or a comparison of two, in a user's format: one module per format.

Every format of text starts from the same tables (:mod:`ddqjobs.report.grids`) and escapes them as data in its
own way; control characters are spelled out in all of them, so that none reaches a terminal or a typesetter.
Secrets are masked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ddqjobs.base.secrets import masked
from ddqjobs.report.compare import Comparison, as_text
from ddqjobs.report.document import Report
from ddqjobs.report.formats import csv, json, latex, markdown, terminal
from ddqjobs.report.formats.terminal import Style
from ddqjobs.report.grids import Text


class Format(NamedTuple):
    """The functions by which a format writes a report, and tables and lists; None: it writes the document
    itself."""

    of_report: Callable[[Report], str]
    of_text: Callable[[Text], str] | None


FORMATS = {
    "table": Format(terminal.of_report, terminal.of_text),
    "markdown": Format(markdown.of_report, markdown.of_text),
    "csv": Format(csv.of_report, csv.of_text),
    "json": Format(json.of_document, None),
    "latex": Format(latex.of_report, latex.of_text),
}


def render(report: Report, form: str, *, width: int | None = None, style: Style | None = None) -> str:
    """Return the report in one of :data:`FORMATS`, ending in a newline. ``width`` and ``style`` are a
    terminal's."""
    if form == "table":
        return masked(terminal.of_report(report, width=width, style=style))
    return masked(FORMATS[form].of_report(report))


def render_comparison(
    comparison: Comparison, title: str, form: str, *, width: int | None = None, style: Style | None = None
) -> str:
    """Return a comparison in one of :data:`FORMATS`, as :func:`render` does a report."""
    if form == "table":
        return masked(terminal.of_text(as_text(comparison, title), width=width, style=style))
    of_text = FORMATS[form].of_text
    return masked(json.of_document(comparison) if of_text is None else of_text(as_text(comparison, title)))
