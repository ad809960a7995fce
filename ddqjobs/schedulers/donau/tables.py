"""Turn the output of ``djob`` into cells by name. Pure.

The whole header is not public, so nothing is taken for granted but the names of a few columns. A row whose
cells cannot be told apart for certain is no row: its job is then simply not in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Cells = dict[str, str]
_WORD = re.compile(r"\S+")
_DETAIL = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(?:[:=]\s*|\s+)(\S.*?)\s*")


class Table(NamedTuple):
    """An answer with a header."""

    columns: tuple[str, ...]
    rows: tuple[Cells, ...]


def table(text: str, required: Sequence[Sequence[str]]) -> Table | None:
    """The table in a text; None without a header line that has a name of each of the ``required`` columns.

    What comes before the header (notices, in any language) and a last line that was cut off are passed over.
    A header that comes again (pages) is no row.
    """
    lines = whole_lines(text)
    for number, line in enumerate(lines):
        columns = tuple(line.split())
        if all(any(name in columns for name in names) for names in required):
            if len(set(columns)) != len(columns):
                return None  # which of two columns of one name counts?
            starts = [match.start() for match in _WORD.finditer(line)]
            rows = (_cells(row, columns, starts) for row in lines[number + 1 :] if row.split() != [*columns])
            return Table(columns, tuple(cells for cells in rows if cells is not None))
    return None


def details(text: str) -> Cells:
    """``key value`` lines, also with ``:`` or ``=`` between. A key that comes twice with two values is none:
    the lines may be of two jobs."""
    values: dict[str, str | None] = {}
    for line in whole_lines(text):
        match = _DETAIL.fullmatch(line)
        if match:
            key, value = match[1], match[2]
            values[key] = value if values.get(key, value) == value else None
    return {key: value for key, value in values.items() if value is not None}


def cell(cells: Cells, names: Sequence[str]) -> str:
    """The first of these columns that is there; empty if none is."""
    return next((cells[name] for name in names if name in cells), "")


def whole_lines(text: str) -> list[str]:
    """Lines that are ended: one that is not was cut off, and half a word may be another word."""
    return [line.rstrip("\r") for line in text.split("\n")[:-1]]


def _cells(line: str, columns: tuple[str, ...], starts: Sequence[int]) -> Cells | None:
    if not line.strip():
        return None
    for cells in _readings(line, starts):
        if len(cells) == len(columns):
            return dict(zip(columns, cells, strict=True))
    return None


def _readings(line: str, starts: Sequence[int]) -> Iterator[list[str]]:
    """Ways to part a row, the surest first: under the header's words, by wide gaps, by any gap."""
    padded = line.ljust(starts[-1] + 1)
    edges = [*starts[1:], len(padded)]
    under = [padded[start:end] for start, end in zip(starts, edges, strict=True)]
    # A column is left-aligned if it begins under its name, after a space, or is empty.
    if all(not part[0].isspace() or not part.strip() for part in under) and all(
        padded[start - 1].isspace() for start in starts[1:]
    ):
        yield [part.strip() for part in under]
    yield re.split(r"\s{2,}", line.strip())
    yield line.split()
