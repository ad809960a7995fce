"""Tables on terminals that are narrower than they are: what names a row is never cut.

A list of runs leaves other columns out first and cuts reasons last; where even a name and a few words do not
fit side by side, they stand on lines of their own. A table of results stacks its cells and cuts none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ddqjobs.base.text import GAP, cells, clean, fit, format_table, widths

WORDS = 24  # cells of the last column below which other columns are left out
LAST = 16  # cells that a last column needs at least to be wrapped beside others
INDENT = "  "
Paint = Callable[[int, str, str], str]  # row (-1 for the header), title of the column, text -> text to print


def listed(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    leave_out: Sequence[str] = (),
    paint: Paint | None = None,
) -> list[list[str]]:
    """Return the header's lines, then the lines of each row. The first column is never cut. Empty columns
    are left out, and those of ``leave_out`` in this order until the rest fits; then the last one is cut."""
    rows = [[clean(text) for text in row] for row in rows]
    last = len(header) - 1
    shown = [i for i in range(last + 1) if i in (0, last) or any(row[i] for row in rows)]
    natural = widths(header, rows)
    for title in leave_out:
        if _least(natural, shown) > width:
            shown = [i for i in shown if header[i] != title]
    titles = [header[i] for i in shown]
    kept = [[row[i] for i in shown] for row in rows]
    if _least(natural, shown) > width:
        return [_stack(-1, titles, titles, width, paint)] + [
            _stack(number, titles, row, width, paint) for number, row in enumerate(kept)
        ]

    def on_column(row: int, column: int, text: str) -> str:
        return text if paint is None else paint(row, titles[column], text)

    table = format_table(
        titles, kept, width=width, paint=on_column if paint else None, whole=range(len(shown) - 1)
    )
    return [[line] for line in table.split("\n")]


def _least(natural: Sequence[int], shown: Sequence[int]) -> int:
    """Return how many cells a row needs at least."""
    return sum(natural[i] + len(GAP) for i in shown[:-1]) + min(natural[shown[-1]], WORDS)


def _stack(
    row: int, titles: Sequence[str], texts: Sequence[str], width: int, paint: Paint | None
) -> list[str]:
    """Return a row as its first cell and, below it, the others; the last one that has no room is cut."""
    room, others = width - len(INDENT), []
    for title, text in zip(titles[1:], texts[1:], strict=True):
        if not text or room < 1:
            continue
        short = fit(text, room)
        room -= cells(short) + len(GAP)
        others.append(short if paint is None else paint(row, title, short))
    name = [part if paint is None else paint(row, titles[0], part) for part in pieces(texts[0], width)]
    return [*name, INDENT + GAP.join(others)] if others else name


def stacked(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, align: str = "",
    paint: Callable[[int, int, str], str] | None = None,
) -> str:  # fmt: skip
    """Return each row as its first cell and, below it, the others: side by side with the last one wrapped,
    or, where that does not fit either, a title and a text per line. No text is cut."""
    titles = [clean(title) for title in header]
    body = [[clean(text) for text in row] for row in rows]
    natural = widths(titles, body)[1:]
    room = width - len(INDENT) - sum(n + len(GAP) for n in natural[:-1])
    if room < min(natural[-1], LAST):
        natural, room = [], width - len(INDENT) - max(map(cells, titles[1:])) - len(GAP)

    def painted(row: int, column: int, text: str) -> str:
        return text if paint is None else paint(row, column, text)

    lines: list[str] = []
    for number, texts in enumerate(body, 0) if not natural else enumerate([titles, *body], -1):
        lines += [painted(number, 0, part) for part in wrapped(texts[0], width)]
        on_column = functools.partial(painted, number)
        if natural:
            lines += _beside(texts, natural, align, room, on_column)
        else:
            lines += _below(titles, texts, max(1, room), on_column)
    return "\n".join(lines)


def _beside(
    texts: Sequence[str], natural: Sequence[int], align: str, room: int, paint: Callable[[int, str], str]
) -> list[str]:
    """Return all cells but the first side by side, the last one wrapped."""
    parts = []
    for column, (text, size) in enumerate(zip(texts[1:-1], natural, strict=False), 1):
        blank = " " * (size - cells(text))
        parts.append(paint(column, blank + text if align[column : column + 1] == "r" else text + blank))
    first, *more = wrapped(texts[-1], room) or [""]
    line = INDENT + GAP.join([*parts, paint(len(texts) - 1, first)])
    hang = INDENT + " " * sum(size + len(GAP) for size in natural[:-1])
    return [line.rstrip(), *(hang + paint(len(texts) - 1, part) for part in more)]


def _below(
    titles: Sequence[str], texts: Sequence[str], room: int, paint: Callable[[int, str], str]
) -> list[str]:
    """Return all cells but the first, a title and a text per line."""
    column, lines = max(map(cells, titles[1:])), []
    for index, (title, text) in enumerate(zip(titles[1:], texts[1:], strict=True), 1):
        for place, part in enumerate(wrapped(text, room)):
            lines.append(INDENT + ("" if place else title).ljust(column) + GAP + paint(index, part))
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most ``width`` cells, broken between words where that can be."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and cells(line) + 1 + cells(word) <= width:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        *whole, line = pieces(word, width)
        lines += whole
    return [*lines, line] if line else lines


def pieces(text: str, width: int) -> list[str]:
    """Return the text in pieces of at most ``width`` cells."""
    if cells(text) <= width:
        return [text]
    parts, part = [], ""
    for character in text:
        if part and cells(part + character) > width:
            parts.append(part)
            part = ""
        part += character
    return [*parts, part]
