"""A table for notebooks, without style of its own: Jupyter's fits it to the page. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ddqjobs.base.secrets import masked
from ddqjobs.base.text import clean

_MOST = 200  # rows that one looks at


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table under a title; secrets are masked, and of very many rows the first are shown.

    >>> table("a", ["x"], [["1 < 2"]]).partition("<tbody>")[2]
    '<tr><td>1 &lt; 2</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows[:_MOST])
    more = f"<p>and {len(rows) - _MOST} more</p>" if len(rows) > _MOST else ""
    html = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p><b>{_text(title)}</b></p>{html}{more}"


def _text(text: str) -> str:
    return html.escape(masked(clean(text)))
