"""Verdicts on numbers where floats would be wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ddqjobs.report.verdict import (
    Outcome,
    deviation,
    format_difference,
    format_points,
    from_points,
    judge,
    judge_limits,
    mean,
    overall,
    paired,
    quanta,
    to_points,
    unjudged,
)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [(0.513, 513), (0.51, 510), (0.0, 0), (1.0, 1000), (0.0004, 0), (0.5136, 514), (1, 1000)],
)
def test_metrics_become_quanta(printed: float, expected: int) -> None:
    assert quanta(printed) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_what_is_no_metric_has_no_quanta(value: float) -> None:
    with pytest.raises(ValueError, match="is no metric"):
        quanta(value)


def test_every_printed_metric_survives_the_way_to_points_and_back() -> None:
    for value in range(1001):
        assert quanta(float(f"{value / 1000:.3f}")) == value
        assert from_points(to_points(Fraction(value))) == value


@pytest.mark.parametrize(
    ("ours", "word", "outcome"),
    [
        (0.513, "within tolerance (n=1)", Outcome.REPRODUCED),
        (0.511, "edge of tolerance (n=1)", Outcome.REPRODUCED),
        (0.515, "edge of tolerance (n=1)", Outcome.REPRODUCED),
        (0.510, "outside: short (n=1)", Outcome.SHORT),
        (0.516, "exceeds: check (n=1)", Outcome.EXCEEDS),
    ],
)
def test_two_quanta_are_two_tenths_of_a_point(ours: float, word: str, outcome: Outcome) -> None:
    assert not abs(0.511 - 0.513) <= 0.002  # why this module exists
    judgement = judge(
        Fraction(quanta(ours) - 513), from_points(0.2), n=1, reference="the published 51.3", published=True
    )
    assert (judgement.word, judgement.outcome) == (word, outcome)
    assert judgement.rule == "AP within 0.2 points of the published 51.3; n=1"


@pytest.mark.parametrize(
    ("difference", "outcome"), [(0, Outcome.EQUAL), (1, Outcome.DIFFERS), (-1, Outcome.DIFFERS)]
)
def test_tolerance_zero_knows_no_edge(difference: int, outcome: Outcome) -> None:
    judgement = judge(Fraction(difference), Fraction(0), n=1, reference="phase 1", published=False)
    assert judgement.outcome is outcome


@pytest.mark.parametrize(
    ("tolerance", "word"), [(0.25, "within"), (0.2, "edge"), (0.15, "short"), (0.19999, "short")]
)
def test_tolerances_need_not_be_whole_quanta(tolerance: float, word: str) -> None:
    judgement = judge(Fraction(-2), from_points(tolerance), n=3, reference="it", published=True)
    assert judgement.brief == f"{word} (n=3)"


def test_means_are_exact_and_deviations_are_the_sample_s() -> None:
    assert mean([510, 511, 511]) == Fraction(1532, 3)
    assert deviation([511, 512, 513]) == 1.0
    assert deviation([511]) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({None: 513}, {None: Fraction(512)}, (1, 1, "")),
        ({0: 513, 1: 515}, {0: Fraction(512), 1: Fraction(512)}, (2, 2, "seed by seed")),
        ({0: 513, 1: 999}, {0: Fraction(512), 2: Fraction(1)}, (1, 1, "seed by seed")),
        ({0: 513, 1: 515}, {None: Fraction(512)}, (2, 1, "means")),
    ],
)
def test_seeds_are_paired_where_both_have_them(
    ours: dict[int | None, int], theirs: dict[int | None, Fraction], expected: tuple[int, int, str]
) -> None:
    difference, n, how = paired(ours, theirs)
    assert (int(difference), n, how) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(Fraction(513), "51.3"), (Fraction(1025, 2), "51.25"), (Fraction(1532, 3), "51.067")]
)
def test_points_are_printed_as_long_as_they_are_exact(value: Fraction, text: str) -> None:
    assert format_points(value) == text


def test_differences_carry_a_sign_and_zero_none() -> None:
    assert [format_difference(Fraction(d)) for d in (-2, 0, 3)] == ["-0.2", "0.0", "+0.3"]


@pytest.mark.parametrize(
    ("measured", "word", "outcome"),
    [
        ([("box", 0.0, 0.1), ("score", 0.0, 0.1)], "equal", Outcome.EQUAL),
        ([("box", 0.1, 0.1)], "within tolerance", Outcome.EQUAL),
        ([("box", 0.2, 0.1), ("score", 0.0, 0.1)], "outside: box", Outcome.DIFFERS),
        ([("box", float("inf"), 0.1)], "outside: box", Outcome.DIFFERS),
        ([("box", float("nan"), 0.1)], "outside: box", Outcome.DIFFERS),
        ([("box", None, 0.1)], "unknown: no box measured", Outcome.UNKNOWN),
        ([("box", 5.0, None)], "no tolerance given", None),
    ],
)
def test_alignments_keep_their_limits(
    measured: list[tuple[str, float | None, float | None]], word: str, outcome: Outcome | None
) -> None:
    judgement = judge_limits(measured)
    assert (judgement.word, judgement.outcome) == (word, outcome)


@pytest.mark.parametrize(
    ("difference", "published", "word", "outcome"),
    [
        (3, True, "exceeds: check (n=1)", Outcome.EXCEEDS),
        (3, False, "differs: higher (n=1)", Outcome.DIFFERS),
        (-3, False, "differs: lower (n=1)", Outcome.DIFFERS),
        (-3, True, "outside: short (n=1)", Outcome.SHORT),
    ],
)
def test_only_what_is_below_a_published_figure_is_short(
    difference: int, published: bool, word: str, outcome: Outcome
) -> None:
    judgement = judge(Fraction(difference), Fraction(2), n=1, reference="it", published=published)
    assert (judgement.word, judgement.outcome, judgement.good) == (word, outcome, False)
    exact = judge(Fraction(difference), Fraction(0), n=1, reference="it", published=published)
    assert (exact.word, exact.outcome) == ("not equal (n=1)", outcome)


def test_the_worst_outcome_speaks_for_all() -> None:
    assert overall([Outcome.EQUAL, Outcome.SHORT, Outcome.UNKNOWN, None]) is Outcome.SHORT
    assert overall([Outcome.EQUAL, Outcome.UNKNOWN]) is Outcome.UNKNOWN
    assert overall([Outcome.EQUAL, Outcome.REPRODUCED]) is Outcome.REPRODUCED
    assert overall([None, Outcome.EQUAL]) is Outcome.EQUAL
    assert overall([None]) is None
    assert unjudged("no reference").good
