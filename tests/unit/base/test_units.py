"""Durations and sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddqjobs.base.units import clock, megabytes, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("45m", 2700), ("24h", 86400), ("2d", 172800), ("1h30m", 5400), ("1.5h", 5400), ("0s", 0)],
)
def test_durations_are_read(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "90", "h", "1 h", "1h 30m", "-1h", "1y", "1h30", "1H", "24:00:00", "1h\n"]
)
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid duration; use 90s"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500MB", 500), ("300GB", 300_000), ("16GiB", 17180), ("1TB", 1_000_000), ("1.5 GB", 1500)],
)
def test_sizes_are_read(text: str, value: int) -> None:
    assert megabytes(text) == value


@pytest.mark.parametrize("text", ["", "300", "300G", "GB", "-1GB", "300gb", "300GB\n"])
def test_what_is_no_size_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid size; use 500MB"):
        megabytes(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (45.4, "45s"),
        (725, "12m05s"),
        (11220, "3h07m"),
        (187200, "2d04h"),
        (59.6, "1m00s"),
    ],
)
def test_durations_are_shown(value: float, text: str) -> None:
    assert clock(value) == text


@given(st.integers(0, 10**7))
def test_what_is_shown_can_be_read_again_to_its_last_digit(value: int) -> None:
    duration = seconds(clock(value))
    assert duration <= value < duration + 3600
