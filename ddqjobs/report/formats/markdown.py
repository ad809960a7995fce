"""GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ddqjobs.base.text import clean
from ddqjobs.report.document import Report
from ddqjobs.report.grids import Text, grids, lists


def of_report(report: Report) -> str:
    """Return the report."""
    title = report.title or report.experiment
    return of_text(Text(title=title, grids=tuple(grids(report)), lists=tuple(lists(report))))


def of_text(text: Text) -> str:
    """Return tables and lists under a title."""
    blocks = [f"# {_md(text.title)}"]
    for grid in text.grids:
        marks = ["---:" if side == "r" else "---" for side in grid.align]
        lines = [_md_row(map(_md, grid.header)), _md_row(marks)]
        lines += [_md_row(map(_md, row)) for row in grid.rows]
        blocks.append(f"## {_md(grid.title)}\n\n" + "\n".join(lines))
    for title, lines in text.lists:
        blocks.append(f"## {title}\n\n" + "\n".join(f"- {_md(line)}" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _md_row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _md(text: str) -> str:
    """Text as Markdown data: no character starts markup, a link, HTML, a mention or another column."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&@$])", _md_character, clean(text))


def _md_character(match: re.Match[str]) -> str:
    # A backslash does not stop HTML, entities or mentions everywhere GitHub renders; character references do.
    character = match[1]
    return f"&#{ord(character)};" if character in "<>&@|" else f"\\{character}"
