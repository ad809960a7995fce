"""Equivalence tests give what SciPy and the literature give, and say how many seeds they would take."""

from __future__ import annotations

import itertools
import math

import pytest
from scipy import integrate, stats

from ddqjobs.report.equivalence import (
    independent,
    one_sample,
    paired,
    power,
    seeds_needed,
    t_cdf,
    t_quantile,
    welch,
)

FREEDOM = (1, 2, 3.7, 10, 50.5, 400, 2000)


@pytest.mark.parametrize("freedom", FREEDOM)
def test_student_s_t_is_scipy_s(freedom: float) -> None:
    for t in (-40.0, -3.0, -0.5, 0.0, 0.01, 1.0, 2.5, 8.0, 60.0):
        assert t_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), abs=1e-10)
    for probability in (0.5001, 0.6, 0.95, 0.975, 0.9999):
        assert t_quantile(probability, freedom) == pytest.approx(
            stats.t.ppf(probability, freedom), rel=1e-8, abs=1e-9
        )


@pytest.mark.parametrize(
    ("arms", "deviation", "seeds"),
    [(1, 0.1, 4), (1, 0.15, 7), (1, 0.2, 11), (2, 0.1, 6), (2, 0.15, 11), (2, 0.2, 18)],
)
def test_seeds_for_80_percent_power_at_a_tolerance_of_0_2(arms: int, deviation: float, seeds: int) -> None:
    assert seeds_needed(deviation, 0.2, arms=arms) == seeds
    assert power(seeds, deviation, 0.2, arms=arms) >= 0.8 > power(seeds - 1, deviation, 0.2, arms=arms)


@pytest.mark.parametrize(
    ("n", "deviation", "arms"), list(itertools.product((2, 3, 7, 40, 500), (0.05, 0.2, 0.9), (1, 2)))
)
def test_power_is_the_integral_that_scipy_computes(n: int, deviation: float, arms: int) -> None:
    freedom, error = arms * (n - 1), deviation * math.sqrt(arms / n)
    quantile = stats.t.ppf(0.95, freedom)

    def density(ratio: float) -> float:
        inside = 2 * stats.norm.cdf((0.2 - quantile * ratio * error) / error) - 1
        root = math.sqrt(freedom)
        return float(max(0.0, inside) * stats.chi.pdf(ratio * root, freedom) * root)

    top = min(0.2 / quantile / error, 1 + 15 / math.sqrt(2 * freedom))
    expected, _ = integrate.quad(density, 0, top, limit=200, points=[min(1.0, top)])
    assert power(n, deviation, 0.2, arms=arms) == pytest.approx(expected, abs=2e-5)


def test_one_sample_is_two_one_sided_t_tests() -> None:
    values = [51.31, 51.22, 51.4, 51.35]
    outcome = one_sample(values, 51.3, 0.2, quantum=0)
    above = stats.ttest_1samp(values, 51.1, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 51.5, alternative="less").pvalue
    interval = stats.ttest_1samp(values, 51.3).confidence_interval(0.9)
    assert outcome.p == pytest.approx(max(above, below))
    assert (outcome.low, outcome.high) == pytest.approx((interval.low - 51.3, interval.high - 51.3))
    assert outcome.shown


def test_welch_is_scipy_s_with_unequal_variances() -> None:
    ours, theirs = [51.3, 51.1, 51.6, 51.2], [51.25, 51.3, 51.27]
    outcome = welch(ours, theirs, 0.2, quantum=0)
    above = stats.ttest_ind([v + 0.2 for v in ours], theirs, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind([v - 0.2 for v in ours], theirs, equal_var=False, alternative="less").pvalue
    assert outcome.p == pytest.approx(max(above, below))
    assert not outcome.shown
    assert outcome.n == 3


def test_pairs_take_out_what_seeds_share() -> None:
    theirs = [50.9, 51.3, 51.7, 51.1]
    ours = [50.95, 51.28, 51.75, 51.12]
    assert paired([a - b for a, b in zip(ours, theirs, strict=True)], 0.2, quantum=0).shown
    assert not welch(ours, theirs, 0.2, quantum=0).shown


def test_rounding_adds_its_variance_so_that_equal_prints_are_not_certainty() -> None:
    rounded = one_sample([51.3, 51.3, 51.3], 51.3, 0.2, quantum=0.1)
    assert rounded.sd == pytest.approx(0.1 / math.sqrt(12))
    assert rounded.low < 0 < rounded.high
    assert paired([0.0] * 3, 0.2, quantum=0.1).sd == pytest.approx(0.1 / math.sqrt(6))
    exact = one_sample([51.3, 51.3, 51.3], 51.3, 0.2, quantum=0)
    assert (exact.p, exact.shown, exact.power) == (0.0, True, 1.0)
    assert not one_sample([51.5] * 3, 51.3, 0.2, quantum=0).shown


def test_a_test_says_what_it_stands_on_and_what_it_would_take() -> None:
    weak = one_sample([51.1, 51.3, 51.5], 51.3, 0.2, quantum=0.1)
    assert not weak.shown
    assert weak.text.startswith("one-sample TOST: 90 % interval [-0.34, +0.34] not inside ±0.2, p = 0.")
    assert "equivalence is not shown; power" in weak.text
    assert weak.text.endswith("80 % takes 11 seeds")
    hopeless = one_sample([30.0, 51.3, 70.0], 51.3, 0.2, quantum=0.1)
    assert hopeless.needed is None
    assert "no reasonable number of seeds" in hopeless.text


@pytest.mark.parametrize(
    ("seeds", "chosen"),
    [
        ([0, 1000, 2000], (0, 1000, 2000)),
        ([0, 1, 2], (0,)),
        ([0, 999, 1000], (0, 1000)),
        ([7, 7], (7,)),
        ([2023, 7, 1100], (7, 1100)),
        ([None, 5], (None, 5)),
        ([], ()),
    ],
)
def test_seeds_near_each_other_count_once(seeds: list[int | None], chosen: tuple[int | None, ...]) -> None:
    assert independent(seeds) == chosen
