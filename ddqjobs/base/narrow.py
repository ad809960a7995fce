"""Tables on terminals that are narrower than they are: what names a row is never cut.

A list of runs leaves other columns out first and cuts reasons last; where even a name and a few words do not
fit side by side, they stand on lines of their own. A table of results stacks its cells and cuts none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ddqjobs.base.text import GAP, cells, clean, fit, format_table, widths

WORDS = 24  # cells of the last column below which other columns are left out
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
    header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int,
    paint: Callable[[int, int, str], str] | None = None,
) -> str:  # fmt: skip
    """Return each row as lines: its first cell, then a title and a text per line, wrapped and never cut."""
    titles = [clean(title) for title in header]
    column = max(map(cells, titles[1:]), default=0)
    room = max(1, width - len(INDENT) - column - len(GAP))
    lines: list[str] = []
    for number, row in enumerate(rows):
        texts = [clean(text) for text in row]
        lines += [part if paint is None else paint(number, 0, part) for part in wrapped(texts[0], width)]
        for index, (title, text) in enumerate(zip(titles[1:], texts[1:], strict=True), 1):
            for place, part in enumerate(wrapped(text, room)):
                painted = part if paint is None else paint(number, index, part)
                lines.append(INDENT + ("" if place else title).ljust(column) + GAP + painted)
    return "\n".join(lines)


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
