"""Lines of a table line up, fit the terminal and carry nothing that a terminal acts upon."""

from __future__ import annotations

import re
import time

import pytest

from ddqjobs.base.text import cells, clean, fit, format_table


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain – ± † 中文 é", "plain – ± † 中文 é"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J\x7f\x00", "\\x9b2J\\x7f\\x00"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("\udc80", "\\udc80"),
        ("\U000e0001", "\\U000e0001"),
        ("a\u00a0b", "a b"),
    ],
)
def test_control_characters_are_spelled_out(text: str, harmless: str) -> None:
    assert clean(text) == harmless
    assert clean(text).isprintable()


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("中文", 4), ("e\u0301", 1), ("±…", 2), ("", 0), ("🙂", 2)]
)
def test_width_in_terminal_cells(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [("abcdef", 6, "abcdef"), ("abcdef", 4, "abc…"), ("中文字", 4, "中…"), ("abc", 1, "…"), ("abc", 0, "")],
)
def test_cuts_are_marked(text: str, width: int, cut: str) -> None:
    assert fit(text, width) == cut


def test_columns_line_up_whatever_the_script() -> None:
    text = format_table(
        ["name", "AP", "note"], [["中文", "51.3", "x"], ["ab", "7", "y"]], align="lr", rule=True
    )
    assert text.splitlines() == ["name    AP  note", "────  ────  ────", "中文  51.3  x", "ab       7  y"]


def test_without_header_or_rows() -> None:
    assert format_table([], []) == ""
    assert format_table([], [["a", "b"]]) == "a  b"
    assert format_table(["a", "b"], []) == "a  b"


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have 2 cells"):
        format_table(["a", "b"], [["1"]])


def test_the_widest_text_gives_way_and_numbers_stay_whole() -> None:
    rows = [["run", "a reason that is much too long for this terminal", "1234567.5"]]
    text = format_table(["run", "reason", "AP"], rows, align="llr", width=40)
    assert text.splitlines()[1] == "run  a reason that is much t…  1234567.5"
    assert all(cells(line) == 40 for line in text.splitlines()[1:])


@pytest.mark.parametrize("width", [1, 5, 10, 33, 80])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    rows = [["中文字" * 5, "x" * 30, "9" * 12], ["a", "b", "c"]]
    for paint in (None, lambda row, column, text: text):
        text = format_table(["one", "two", "three"], rows, align="llr", width=width, paint=paint)
        assert max(map(cells, text.splitlines())) <= width


def test_paint_gets_the_padded_cell_and_does_not_count_as_width() -> None:
    calls: list[tuple[int, int, str]] = []

    def paint(row: int, column: int, text: str) -> str:
        calls.append((row, column, text))
        return f"\x1b[3{column + 1}m{text}\x1b[0m"

    text = format_table(["ab", "n"], [["c", "10"]], align="lr", paint=paint, width=80)
    assert calls == [(-1, 0, "ab"), (-1, 1, " n"), (0, 0, "c "), (0, 1, "10")]
    assert re.sub(r"\x1b\[\d+m", "", text) == "ab   n\nc   10"


def test_ten_thousand_rows_are_fast() -> None:
    rows = [[f"run-{i}", "done", "product found, – ± and whole", "51.3", "node01"] for i in range(10_000)]
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        format_table(list("abcde"), rows, width=60)
        best = min(best, time.process_time() - start)
    assert best < 0.3  # 0.05 s on an idle core
