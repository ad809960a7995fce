"""Equivalence tests: do several seeds show that a difference in AP is smaller than a tolerance? Pure.

Two one-sided t-tests (TOST; Schuirmann 1987) at 5 % each: equivalence is shown when the 90 % confidence
interval of the difference lies inside the tolerance. That is a claim; a difference that is merely *not
significant* would be none. Everything here is in AP points.

Three designs: :func:`one_sample` against a figure taken as fixed, :func:`paired` for seeds that both codes
have, :func:`welch` for seeds that differ. Where only a rounded AP exists its rounding, uniform over one
quantum q, adds its variance q²/12 to each value's: three seeds that all print 51.3 are not the same to the
last digit.

Student's t is computed here (:func:`t_cdf`, :func:`t_quantile`) because SciPy would be the project's largest
dependency for two functions; the tests compare them with SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist, mean, variance

import msgspec

from ddqjobs.spec.model import SEEDS_APART, SEEDS_OF_TEST

ALPHA = 0.05  # of each of the two one-sided tests
LEAST = SEEDS_OF_TEST
WANTED_POWER = 0.8
MANY = 1000  # seeds: more is as good as never
_STEPS = 200  # of the integral; enough for six digits
_NORMAL = NormalDist()


class Equivalence(msgspec.Struct, frozen=True, kw_only=True):
    """An equivalence test's result. ``low`` and ``high`` bound the 90 % confidence interval."""

    method: str
    """Name of the test: one-sample, seed-paired or Welch TOST. Example: one-sample TOST"""
    n: int
    """Number of seeds or pairs of seeds; with two arms, of the smaller one. Example: 3"""
    tolerance: float
    """Largest difference allowed, in the metric's unit (AP in points), like the four below. Example: 0.2"""
    difference: float
    """Mean of this side minus the reference or the mean of the other side. Example: 0.0"""
    sd: float
    """Standard deviation of one value, or of one pair's difference, with the variance of rounding. Example:
    0.1041"""
    low: float
    """Lower end of the 90 % confidence interval of the difference. Example: -0.1755"""
    high: float
    """Upper end of the 90 % confidence interval of the difference. Example: 0.1755"""
    p: float
    """Larger p-value of the two one-sided tests, 0 to 1. Example: 0.0398"""
    shown: bool
    """True if equivalence is shown: `p` is below 0.05. Example: true"""
    power: float
    """Probability, 0 to 1, of showing equivalence with this many seeds if there is no true difference.
    Example: 0.5231"""
    needed: int | None
    """Seeds (per arm) for a power of 80 %; null if more than 1000. Example: 5"""
    text: str
    """Result of the test as one line of text. Example: 'one-sample TOST: 90 % interval [-0.18, +0.18] inside
    ±0.2, p = 0.040: equivalence is shown; power 52 % at a standard deviation of 0.10 and no true difference,
    80 % takes 5 seeds'"""


class _Design(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    n: int
    difference: float
    error: float  # standard error of the difference
    freedom: float
    sd: float
    arms: int = 1


def one_sample(values: Sequence[float], reference: float, tolerance: float, *, quantum: float) -> Equivalence:
    """Seeds against a published figure. ``quantum`` is the step that the values were rounded to; 0: none.
    Raises ValueError for fewer than two values."""
    spread = variance(values) + quantum**2 / 12
    design = _Design(
        method="one-sample TOST",
        n=len(values),
        difference=mean(values) - reference,
        error=math.sqrt(spread / len(values)),
        freedom=len(values) - 1,
        sd=math.sqrt(spread),
    )
    return _test(design, tolerance)


def paired(differences: Sequence[float], tolerance: float, *, quantum: float) -> Equivalence:
    """Differences of seeds that both codes were run with; both sides of each were rounded."""
    spread = variance(differences) + 2 * quantum**2 / 12
    design = _Design(
        method="seed-paired TOST",
        n=len(differences),
        difference=mean(differences),
        error=math.sqrt(spread / len(differences)),
        freedom=len(differences) - 1,
        sd=math.sqrt(spread),
    )
    return _test(design, tolerance)


def welch(ours: Sequence[float], theirs: Sequence[float], tolerance: float, *, quantum: float) -> Equivalence:
    """Two codes with seeds of their own, whose variances need not be the same (Welch 1947)."""
    arms = [(variance(side) + quantum**2 / 12, len(side)) for side in (ours, theirs)]
    parts = [spread / n for spread, n in arms]
    below = sum(part**2 / (n - 1) for part, (_, n) in zip(parts, arms, strict=True))
    design = _Design(
        method="Welch TOST",
        n=min(len(ours), len(theirs)),
        difference=mean(ours) - mean(theirs),
        error=math.sqrt(sum(parts)),
        freedom=sum(parts) ** 2 / below if below else sum(n for _, n in arms) - 2.0,
        sd=math.sqrt(sum(spread for spread, _ in arms) / 2),
        arms=2,
    )
    return _test(design, tolerance)


def _test(d: _Design, tolerance: float) -> Equivalence:
    margin = t_quantile(1 - ALPHA, d.freedom) * d.error
    low, high = d.difference - margin, d.difference + margin
    nearest = tolerance - abs(d.difference)  # from the difference to the nearer limit
    # Without any spread the difference is what it is.
    p_value = float(nearest <= 0) if d.error == 0 else 1 - t_cdf(nearest / d.error, d.freedom)
    shown = p_value < ALPHA
    chance, needed = power(d.n, d.sd, tolerance, arms=d.arms), seeds_needed(d.sd, tolerance, arms=d.arms)
    return Equivalence(
        method=d.method,
        n=d.n,
        tolerance=tolerance,
        difference=d.difference,
        sd=d.sd,
        low=low,
        high=high,
        p=p_value,
        shown=shown,
        power=chance,
        needed=needed,
        text=_text(d, tolerance, (low, high), p_value, shown, (chance, needed)),
    )


def _text(
    d: _Design,
    tolerance: float,
    interval: tuple[float, float],
    p_value: float,
    shown: bool,
    chance: tuple[float, int | None],
) -> str:
    where = "inside" if shown else "not inside"
    verdict = "equivalence is shown" if shown else "equivalence is not shown"
    probability = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    text = (
        f"{d.method}: 90 % interval [{interval[0]:+.2f}, {interval[1]:+.2f}] {where} "
        f"±{tolerance:g}, {probability}: {verdict}"
    )
    arm = " per arm" if d.arms == 2 else ""
    share, needed = chance
    if needed is None:
        return f"{text}; at a standard deviation of {d.sd:.2f} no reasonable number of seeds would show it"
    return (
        f"{text}; power {100 * share:.0f} % at a standard deviation of {d.sd:.2f} and no true difference, "
        f"80 % takes {needed} seeds{arm}"
    )


def independent(seeds: Iterable[int | None]) -> tuple[int | None, ...]:
    """Those of the seeds that are independent of each other, lowest first: of seeds closer than
    :data:`SEEDS_APART` the first counts, and a seed counts once, with or without a deterministic flag. None,
    a seed that nobody chose, was drawn at random."""
    given = list(seeds)
    chosen: list[int | None] = [seed for seed in given if seed is None]
    last: int | None = None
    for seed in sorted(seed for seed in given if seed is not None):
        if last is None or seed - last >= SEEDS_APART:
            chosen.append(seed)
            last = seed
    return tuple(chosen)


@lru_cache(maxsize=4096)
def power(n: int, sd: float, tolerance: float, *, arms: int = 1) -> float:
    """Chance that TOST shows equivalence with ``n`` seeds (per arm) of standard deviation ``sd`` when the
    true difference is 0. Exact: the normal probability that the mean keeps the limits left by the estimated
    standard error, averaged over that estimate's distribution (chi, integrated by Simpson's rule)."""
    freedom = arms * (n - 1)
    if freedom < 1 or tolerance <= 0:
        return 0.0
    if sd == 0:
        return 1.0
    room = tolerance / (sd * math.sqrt(arms / n))  # the tolerance in standard errors
    quantile = t_quantile(1 - ALPHA, freedom)
    # Estimated over true standard error: 12 deviations around 1, up to where nothing can be shown any more.
    bottom = max(0.0, 1 - 12 / math.sqrt(2 * freedom))
    top = min(room / quantile, 1 + 12 / math.sqrt(2 * freedom))
    if top <= bottom:
        return 0.0
    total, step = 0.0, (top - bottom) / _STEPS
    for i in range(_STEPS + 1):
        estimate = bottom + i * step
        weight = 1 if i in (0, _STEPS) else 4 if i % 2 else 2
        inside = 2 * _NORMAL.cdf(room - quantile * estimate) - 1
        total += weight * inside * _chi_density(estimate, freedom)
    return min(1.0, total * step / 3)


def _chi_density(ratio: float, freedom: int) -> float:
    """Density of S/σ, a chi variable over the root of its degrees of freedom."""
    if ratio <= 0:
        return 0.0 if freedom > 1 else math.sqrt(2 / math.pi)
    half = freedom / 2
    log = math.log(2) + half * math.log(half) - math.lgamma(half)
    return math.exp(log + (freedom - 1) * math.log(ratio) - half * ratio**2)


@lru_cache(maxsize=4096)
def seeds_needed(sd: float, tolerance: float, *, arms: int = 1) -> int | None:
    """The fewest seeds (per arm) for a power of 80 %; None if it is more than :data:`MANY`."""
    if tolerance <= 0:
        return None
    low, high = 2, 2
    while power(high, sd, tolerance, arms=arms) < WANTED_POWER:
        low, high = high + 1, 2 * high
        if low > MANY:
            return None
    while low < high:
        middle = (low + high) // 2
        if power(middle, sd, tolerance, arms=arms) >= WANTED_POWER:
            high = middle
        else:
            low = middle + 1
    return low


def t_cdf(t: float, freedom: float) -> float:
    """P(T <= t) of Student's t; ``freedom`` need not be whole."""
    tail = _beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """The t with P(T <= t) = ``probability``, which is above a half, by bisection."""
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges quickly
        return 1 - _beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    numerators = [1.0]
    for m in range(1, 200):
        numerators.append(-(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1)))
        numerators.append(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)))
    fraction = 0.0
    for numerator in reversed(numerators[1:]):
        fraction = numerator / (1 + fraction)
    return front / (a * (1 + fraction))
