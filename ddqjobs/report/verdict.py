"""Verdicts: is a result the reference's? Pure; everything is exact.

Results come in *quanta*, units of the last digit that their metric is rounded to: detectors print AP as a
fraction with three decimals, so its quantum is 0.001, that is 0.1 AP point. Differences are compared as
integers (means as fractions of integers): in floats ``abs(0.511 - 0.513) <= 0.002`` is false, and a verdict
would hang on the 17th digit.

=================  ===========================================================  ======================
word               rule                                                         outcome
=================  ===========================================================  ======================
within tolerance   the difference is smaller than the tolerance                 reproduced, or equal
edge of tolerance  the difference is exactly the tolerance                      reproduced, or equal
outside: short     worse than a published figure by more than the tolerance     short
exceeds: check     better than a published figure by more than the tolerance:   exceeds
                   a finding about the set-up, no success
differs: lower,    below or above another phase by more than the tolerance      differs
differs: higher
equal              tolerance 0: the same to three decimals                      reproduced, or equal
not equal          tolerance 0: any difference                                  differs of another phase;
                                                                                short or exceeds of a figure
diverged           a metric is NaN, or a training ended because its loss was     short
unknown            a side of the comparison is not there (yet)                  unknown
=================  ===========================================================  ======================

*Reproduced* is said of a published figure, *equal* of another phase. Every word says how many seeds it
stands on, ``(n=1)``, and how many runs were left out because their machines failed them.

These words speak of the mean that was measured. Whether the seeds *show* that the true difference keeps the
tolerance is another question, answered by :mod:`ddqjobs.report.equivalence` from three independent seeds
on and said beside the word: ``within tolerance, equivalent (n=3)`` or
``within tolerance, equivalence not shown (n=3)``. One seed never shows it. A published figure that is
rounded more coarsely than detectors print is an interval, and where the verdict would hang on what was
rounded away it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache

import msgspec

from ddqjobs.report.equivalence import Equivalence
from ddqjobs.spec.metric import BOX_AP, Metric

QUANTA_PER_POINT = BOX_AP.quanta  # one AP point is 0.01, one quantum 0.001
EMPTY_CLASS = -1.0  # what COCO's evaluation says of an area class without objects
_ROUNDING = {"half-even": ROUND_HALF_EVEN, "half-up": ROUND_HALF_UP, "down": ROUND_DOWN}


class Outcome(str, Enum):
    """A result against its reference, in one word."""

    REPRODUCED = "reproduced"
    EQUAL = "equal"
    SHORT = "short"
    DIFFERS = "differs"
    EXCEEDS = "exceeds"
    UNKNOWN = "unknown"


HOLDS = (Outcome.REPRODUCED, Outcome.EQUAL)  # the weaker word last
# Outcomes that keep a report from being whole, the worst first.
OPEN = (Outcome.SHORT, Outcome.DIFFERS, Outcome.EXCEEDS, Outcome.UNKNOWN)


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with the rule it followed. ``outcome`` None: nothing was to be judged (no reference)."""

    outcome: Outcome | None
    """Outcome; null if nothing was to be judged, for example without a reference, or if a check passed.
    Example: reproduced"""
    word: str
    """Verdict as text, with its number of seeds, or the reason why there is none. Example: 'within tolerance
    (n=3)'"""
    brief: str
    """The same, shorter, for narrow tables; empty if nothing was to be judged. Example: within (n=3)"""
    rule: str
    """Rule that was applied: what was compared with what, and the difference allowed. Example: 'AP within 0.2
    points of the published 51.3; n=3'"""
    n: int = 0
    """Number of seeds, pairs of seeds, or runs that the verdict is based on; 0 if it has none. Example: 3"""
    excluded: int = 0
    """Number of runs left out because their machines failed them. Example: 0"""
    test: Equivalence | None = None
    """Equivalence test; null if none was made: it needs three independent seeds or more."""

    @property
    def good(self) -> bool:
        """Return whether the result stands, or nothing was to be judged."""
        return self.outcome not in OPEN


@lru_cache(maxsize=4096)  # ten thousand runs share a few hundred values
def quanta(logged: float, metric: Metric = BOX_AP) -> int:
    """A metric as printed (0.513) in quanta (513), rounded as it says: box AP as detectors do.
    The caller has sorted out NaN and -1: they have no quanta (ValueError)."""
    if not math.isfinite(logged) or (logged < 0 and metric.is_fraction):
        raise ValueError(f"{logged} is no metric")
    exact = Decimal(repr(float(logged))) * Decimal(repr(float(metric.scale))) * metric.quanta
    return int(exact.to_integral_value(_ROUNDING[metric.rounding]))


@lru_cache(maxsize=4096)
def from_points(points: float, per_unit: int = QUANTA_PER_POINT) -> Fraction:
    """AP points as an experiment file writes them (51.3, a tolerance of 0.25), exactly, in quanta, of which
    ``per_unit`` are a point, or one of another metric's unit."""
    return Fraction(repr(float(points))) * per_unit


def to_points(value: Fraction, per_unit: int = QUANTA_PER_POINT) -> float:
    """Quanta as AP points, for people and for JSON; nothing is computed with it."""
    return value.numerator / (value.denominator * per_unit)


def mean(values: Collection[int] | Collection[Fraction]) -> Fraction:
    """Exact mean, in quanta."""
    if len(values) == 1:
        return Fraction(*values)
    return Fraction(sum(values, Fraction(0))) / len(values)


def deviation(values: Sequence[int]) -> float | None:
    """Sample standard deviation (n - 1) in quanta; None for fewer than two values."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def paired(
    ours: Mapping[int | None, int], theirs: Mapping[int | None, Fraction]
) -> tuple[Fraction, int, str]:
    """Difference ours - theirs in quanta, the number of values it stands on, and how it was taken.

    Keys are seeds. Where both sides have a seed, only those seeds count, each against its like; otherwise
    mean against mean, and n is the smaller side's. ``how`` is empty where both have a single value.
    """
    common = [seed for seed in ours if seed in theirs]
    if common:
        difference = mean([ours[seed] - theirs[seed] for seed in common])
        return difference, len(common), "seed by seed" if len(ours) > 1 or len(theirs) > 1 else ""
    difference = mean(list(ours.values())) - mean(list(theirs.values()))
    n = min(len(ours), len(theirs))
    return difference, n, "means" if max(len(ours), len(theirs)) > 1 else ""


def format_points(value: Fraction, decimals: int = 1) -> str:
    """Quanta of 10**-decimals as text with ``decimals`` decimals, or up to two more where exact."""
    per_unit, most = 10**decimals, decimals + 2
    if value.denominator == 1:
        return f"{value.numerator / per_unit:.{decimals}f}"
    points = value / per_unit
    while decimals < most and (points * 10**decimals).denominator != 1:
        decimals += 1
    return f"{float(points):.{decimals}f}"


def format_difference(difference: Fraction, decimals: int = 1) -> str:
    """The same with a sign; zero has none."""
    text = format_points(abs(difference), decimals)
    return text if difference == 0 else f"{'+' if difference > 0 else '-'}{text}"


def judge(
    difference: Fraction,
    tolerance: Fraction,
    *,
    n: int,
    reference: str,
    published: bool,
    how: str = "",
    rounded_to: Fraction = Fraction(1),
    excluded: int = 0,
    test: Equivalence | None = None,
    basis: str = "",
    metric: Metric = BOX_AP,
) -> Judgement:
    """The verdict on a difference (ours - reference), in quanta like ``tolerance``.

    ``reference`` names the other side in the rule's sentence; ``published`` tells a reference figure from
    another phase; ``how`` says how the difference was taken where that is not plain (means, pairs of seeds);
    ``rounded_to`` is the last digit of the reference; ``excluded`` runs were left out; ``test`` is what the
    seeds show, ``basis`` why there is none; ``metric`` says which differences are for the better.
    """
    outcome, word, brief = _point_rule(difference, tolerance, rounded_to, published, metric)
    crashed = f"{excluded} crashed run{'s' if excluded > 1 else ''} excluded" if excluded else ""
    stands_on = ", ".join(filter(None, (f"n={n}", how, crashed)))
    if tolerance == 0:
        digits = "three decimals" if metric == BOX_AP else f"{metric.decimals} decimals"
        rule = f"{metric.name} equal to {digits} to {reference}; {stands_on}"
    else:
        allowed = f"{format_points(tolerance, metric.decimals)} {metric.unit}".rstrip()
        rule = f"{metric.name} within {allowed} of {reference}; {stands_on}"
    rule = "; ".join(filter(None, (rule, test.text if test else basis)))
    short = f"(n={n}, {excluded} excluded)" if excluded else f"(n={n})"
    shown = "" if test is None else ", equivalent" if test.shown else ", equivalence not shown"
    return Judgement(
        outcome=outcome,
        word=f"{word}{shown} {short}",
        brief=f"{brief}{', equivalent' if test is not None and test.shown else ''} {short}",
        rule=rule,
        n=n,
        excluded=excluded,
        test=test,
    )


def _point_rule(
    difference: Fraction, tolerance: Fraction, rounded_to: Fraction, published: bool, metric: Metric
) -> tuple[Outcome, str, str]:
    """(outcome, word, short word) by the difference alone."""
    distance = abs(difference)
    passed = Outcome.REPRODUCED if published else Outcome.EQUAL
    outside = _outside(difference, published, metric)
    if rounded_to > 1:  # the figure is anywhere within half its last digit
        half = rounded_to / 2
        if distance - half <= tolerance < distance + half:
            return Outcome.UNKNOWN, "unknown: the reference is rounded too coarsely", "unknown"
    if tolerance == 0:
        return (passed, "equal", "equal") if difference == 0 else (outside[0], "not equal", "not equal")
    if distance < tolerance:
        return passed, "within tolerance", "within"
    if distance == tolerance:
        return passed, "edge of tolerance", "edge"
    return outside


def _outside(difference: Fraction, published: bool, metric: Metric) -> tuple[Outcome, str, str]:
    """(outcome, word, short word) of a difference beyond the tolerance. Two codes differ, whichever way."""
    if not published:
        word = f"differs: {'lower' if difference < 0 else 'higher'}"
        return Outcome.DIFFERS, word, word
    if (difference < 0) == (metric.direction == "higher"):
        return Outcome.SHORT, "outside: short", "short"
    return Outcome.EXCEEDS, "exceeds: check", "exceeds: check"


def on_machines(judgement: Judgement, apart: str) -> Judgement:
    """Return the verdict with ``different GPUs: A against B`` beside it; as it is if ``apart`` is empty."""
    if not apart:
        return judgement
    return msgspec.structs.replace(
        judgement,
        word=f"{judgement.word}, {apart.partition(':')[0]}",
        rule=f"{judgement.rule}; the two sides ran on {apart}",
    )


def unknown(why: str, rule: str) -> Judgement:
    """A side is not there (yet): ``why`` in a few words."""
    return Judgement(outcome=Outcome.UNKNOWN, word=f"unknown: {why}", brief="unknown", rule=rule)


def diverged(rule: str, diverged: int, of: int) -> Judgement:
    """``diverged`` of ``of`` runs are NaN, or ended because their loss was: whatever the tolerance, and
    whatever the others did, the method failed there."""
    which = "" if of == 1 else f" ({diverged} of {of})"
    rule = f"{rule}; a run that diverges is a failure, not a value to leave out"
    return Judgement(
        outcome=Outcome.SHORT, word=f"short: diverged{which}", brief=f"diverged{which}", rule=rule, n=of
    )


def unjudged(why: str) -> Judgement:
    """There is nothing to compare with, and nobody claims otherwise."""
    return Judgement(outcome=None, word=why, brief="", rule=f"no verdict: {why}")


def judge_limits(measured: Iterable[tuple[str, float | None, float | None]]) -> Judgement:
    """The verdict on an alignment: triples (what, largest difference, allowed).

    All must keep their limit, the limit itself included. What has no limit is shown and not judged; what
    has one and was not measured leaves the verdict unknown. These are measured floats, not AP: no quanta.
    """
    limits = [(what, value, limit) for what, value, limit in measured if limit is not None]
    if not limits:
        return unjudged("no tolerance given")
    rule = "largest differences at most: " + ", ".join(f"{what} {limit:g}" for what, _, limit in limits)
    above = [what for what, value, limit in limits if value is not None and not value <= limit]
    absent = [what for what, value, _ in limits if value is None]
    if above:
        word = f"outside: {', '.join(above)}"
        return Judgement(outcome=Outcome.DIFFERS, word=word, brief="outside", rule=rule, n=1)
    if absent:
        return unknown(f"no {', '.join(absent)} measured", rule)
    if all(value == 0 for _, value, _ in limits):
        return Judgement(outcome=Outcome.EQUAL, word="equal", brief="equal", rule=rule, n=1)
    return Judgement(outcome=Outcome.EQUAL, word="within tolerance", brief="within", rule=rule, n=1)


def overall(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """One word for several: the worst of them; None when nothing was judged. *Equal* is the weaker good
    word: it is said only when nothing was held against a published figure."""
    distinct_outcomes = set(outcomes)
    for outcome in (*OPEN, *HOLDS):
        if outcome in distinct_outcomes:
            return outcome
    return None
