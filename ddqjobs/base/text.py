"""Columns of text for terminals, fast: 10,000 rows in well under a tenth of a second.

rich's tables measure and wrap every cell and take seconds for as many rows. Here a row is a line: text is
made harmless (:func:`clean`), measured in terminal cells (East-Asian wide characters take two), cut with an
ellipsis where the terminal is too narrow, and padded. Colour is the caller's: ``paint`` gets each finished
cell, so that escape sequences never count as width.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence

Paint = Callable[[int, int, str], str]  # row (-1 for the header), column, padded text -> text to print

ELLIPSIS = "…"
GAP = "  "
NARROWEST = 6  # a column that must shrink keeps at least so many terminal cells
# Latin letters, dashes, quotes, arrows, mathematical signs, box lines: one cell each, no look-up needed.
_ALL_NARROW = re.compile("[ -~\u00a1-\u02ff\u2010-\u2027\u2030-\u205e\u2190-\u22ff\u2500-\u257f]*").fullmatch
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\u00a0": " "}


def clean(text: str) -> str:
    """``text`` with everything a terminal might act upon, or hide, spelled out: control characters, escape
    sequences, bidirectional overrides, lone surrogates. Ordinary text comes back as it is."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    known = _SHORT_ESCAPES.get(character)
    if known is not None:
        return known
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cells(text: str) -> int:
    """Return how many terminal cells ``text`` takes: two per East-Asian wide character, none per combining
    mark."""
    if text.isascii() or _ALL_NARROW(text):
        return len(text)
    return sum(_cells(c) for c in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int) -> str:
    """``text``, cut to at most ``width`` terminal cells; a cut is marked by an ellipsis."""
    if cells(text) <= width:
        return text
    if width <= 1:
        return ELLIPSIS[:width]
    if text.isascii():
        return text[: width - 1] + ELLIPSIS
    kept, room = [], width - 1
    for character in text:
        room -= _cells(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS


def widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Natural width of each column in terminal cells."""
    columns = [cells(title) for title in header]
    for column, texts in enumerate(zip(*rows, strict=True)):
        columns[column] = max(columns[column], max(map(cells, texts)))
    return columns


def shrink(natural: Sequence[int], room: int, keep: Sequence[bool]) -> list[int]:
    """Widths that add up to at most ``room`` if that can be: the widest columns give way first, columns
    with ``keep`` (numbers: half a number is a wrong number) not at all, none goes below ``NARROWEST``."""
    cut = list(natural)
    surplus = sum(cut) - room
    while surplus > 0:
        able = [i for i, width in enumerate(cut) if not keep[i] and width > NARROWEST]
        if not able:
            break
        widest = max(cut[i] for i in able)
        top = [i for i in able if cut[i] == widest]
        below = max((cut[i] for i in able if cut[i] < widest), default=NARROWEST)
        step = min(widest - below, max(1, surplus // len(top)))
        for i in top:
            taken = min(step, surplus)
            cut[i] -= taken
            surplus -= taken
    return cut


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    align: str = "",
    width: int | None = None,
    paint: Paint | None = None,
    rule: bool = False,
    whole: Collection[int] = (),
) -> str:
    """Aligned lines, without a newline at the end; an empty ``header`` prints none.

    ``align`` has one letter per column, ``l`` or ``r`` (missing ones are ``l``). ``width`` is the
    terminal's; None cuts nothing. ``rule`` draws a line below the header. Numbers (``r``) and the columns of
    ``whole`` are not cut. A line that is still too long
    when all columns are at their narrowest is cut whole, so that a terminal never wraps it.
    """
    if not header and not rows:
        return ""
    count = len(header) or len(rows[0])
    if any(len(row) != count for row in rows):
        raise ValueError(f"every row must have {count} cells")
    titles = [clean(t) for t in header] or [""] * count
    body = [list(map(clean, row)) for row in rows]
    sides = align.ljust(count, "l")[:count]
    room = widths(titles, body)
    if width is not None:
        natural = room
        keep = [side == "r" or column in whole for column, side in enumerate(sides)]
        room = shrink(natural, width - len(GAP) * (count - 1), keep)
        _cut([titles, *body], natural, room)
    lines = [titles, ["─" * w for w in room]] if header and rule else [titles] if header else []
    if paint is None or (width is not None and sum(room) + len(GAP) * (count - 1) > width):
        # A painted line cannot be cut without cutting a colour: one that is too long loses its paint.
        plain = _plain([*lines, *body], room, sides)
        return "\n".join(plain if width is None else [fit(line, width) for line in plain])
    painted = [_line(line, room, sides, _on_row(paint, -1)) for line in lines]
    painted += [_line(row, room, sides, _on_row(paint, i)) for i, row in enumerate(body)]
    return "\n".join(painted)


def _cut(rows: Sequence[list[str]], natural: Sequence[int], room: Sequence[int]) -> None:
    """Cuts, in place, the texts of the columns that had to shrink."""
    for column, (before, now) in enumerate(zip(natural, room, strict=True)):
        if now < before:
            for row in rows:
                row[column] = fit(row[column], now)


def _on_row(paint: Paint, row: int) -> Callable[[int, str], str]:
    return lambda column, text: paint(row, column, text)


def _plain(body: Sequence[Sequence[str]], room: Sequence[int], sides: str) -> list[str]:
    """Lines without colour. Rows without wide or combining characters go through one compiled format."""
    layout = GAP.join(f"{{:{'>' if s == 'r' else '<'}{w}}}" for w, s in zip(room, sides, strict=True)).format
    lines = []
    for row in body:
        line = layout(*row)
        if not line.isascii() and not _ALL_NARROW(line):
            line = _line(row, room, sides)
        lines.append(line.rstrip())
    return lines


def _line(
    row: Sequence[str], room: Sequence[int], sides: str, paint: Callable[[int, str], str] | None = None
) -> str:
    parts = []
    last = len(row) - 1
    for column, (text, width, side) in enumerate(zip(row, room, sides, strict=True)):
        blank = " " * (width - cells(text))
        padded = blank + text if side == "r" else text if column == last else text + blank
        parts.append(padded if paint is None else paint(column, padded))
    return GAP.join(parts).rstrip()
