"""The AP table's cells: each with its value, its difference from what it is compared with, and the verdict.

Which runs count: every seed of a cell must have come to an end. A training that *diverged* is a failure of
the cell, whatever the others did. A run that its machine failed
(:data:`ddqjobs.planning.failures.INFRASTRUCTURE`) says nothing about the method: it is left out and
counted. Anything else that is not there leaves the verdict unknown. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from ddqjobs.report import equivalence, ran, verdict
from ddqjobs.report.columns import Parameters
from ddqjobs.report.equivalence import Equivalence
from ddqjobs.report.lookup import REFERENCE, Column, Desk, Fate, Place, Side, order
from ddqjobs.report.results import NAN, NO_OBJECTS, OPTIONAL, Score
from ddqjobs.report.verdict import Judgement
from ddqjobs.spec.metric import BOX_AP, Metric
from ddqjobs.spec.model import SEEDS_APART, PlannedRun

NO_TOLERANCE = "no tolerance given"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of a cell, in its unit, AP in points; ``text`` says it, or why there is none."""

    text: str
    """The value as text (`51.3 ± 0.10 SD (n=3)`), or the reason why there is none. Example: 51.3 ± 0.10 SD
    (n=3)"""
    mean: float | None = None
    """Mean over seeds, in the metric's unit (AP in points, 0 to 100); null if there is none. Example: 51.3"""
    sd: float | None = None
    """Sample standard deviation over seeds, in the same unit; null for fewer than two seeds. Example: 0.1"""
    n: int = 0
    """Number of seeds with a value. Example: 3"""
    quanta: tuple[int, ...] = ()
    """Value of each seed as a whole number of units of the last printed digit (AP: 0.1 points). Example:
    [512, 513, 514]"""
    decimals: int | msgspec.UnsetType = msgspec.UNSET
    """Digits after the decimal point; absent if there is one. Example: 3"""

    @property
    def digits(self) -> int:
        """Return how many digits it has behind the point."""
        return BOX_AP.decimals if self.decimals is msgspec.UNSET else self.decimals

    @property
    def each(self) -> list[float]:
        """Return each seed's, in the metric's unit."""
        return [quanta / 10**self.digits for quanta in self.quanta]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model and variant in one column, with the evidence: ``runs`` names its runs."""

    values: dict[str, Value]
    """Values by name of metric; the first one is judged."""
    reference: float | None
    """Value that the mean is compared with, in the metric's unit (AP in points); null if there is none.
    Example: 51.3"""
    difference: float | None
    """This result minus `reference`, in the metric's unit; null if one of them is not there. Example: -0.1"""
    difference_text: str
    """The difference as text, with its sign; empty if there is none. Example: '-0.1'"""
    tolerance: float | None
    """Largest difference allowed, in the metric's unit (AP in points); null if none is declared. Example:
    0.2"""
    judgement: Judgement
    """Verdict on the difference."""
    required: bool
    """True unless all runs of the cell are optional; only required verdicts count for `ok`. Example: true"""
    adopted: bool
    """True if a result of the cell was adopted with `ddqjobs adopt`. Example: false"""
    stale: bool
    """True if a result is of an earlier configuration, environment or code. Example: false"""
    accepted: bool
    """True if a user declared a stale or different result valid. Example: false"""
    runs: tuple[str, ...]
    """Names of the runs that the cell is made of. Example: [p3-test.ddq-detr-4scale.s0,
    p3-test.ddq-detr-4scale.s7]"""
    seeds: tuple[int | None, ...] = ()
    """Seed of each of `runs`, in their order; null if the experiment declares none. Example: [0, 7]"""

    @property
    def value(self) -> Value:
        """Return the metric that is judged."""
        return next(iter(self.values.values()))


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model and variant across all columns; None where the plan has no such run."""

    model: str
    """Name of the model in the experiment file. Example: ddq-detr-4scale"""
    title: str
    """Title of the model, or its name if it declares none. Example: DDQ DETR 4scale"""
    variant: str
    """Name of the variant; `default` if the experiment declares none. Example: default"""
    reference: float | None
    """Published value or mean of the reference task, in the metric's unit (AP in points); null if there is
    none. Example: 51.3"""
    reference_text: str
    """The reference as text, or the reason why there is none. Example: '51.3'"""
    source: str
    """Source of the published value, or name of the reference task; empty if neither is declared. Example:
    https://github.com/jshilong/DDQ"""
    cells: tuple[Cell | None, ...]
    """One cell per entry of `columns`, in its order; null if the plan has no such run."""
    metric: Metric | msgspec.UnsetType = msgspec.UNSET
    """Metric that the model is judged by; absent for box AP with COCO's definition."""
    grid: Parameters | msgspec.UnsetType = msgspec.UNSET
    """Parameters of the variant by name; absent unless it comes from a grid. Example:
    {optim_wrapper.optimizer.lr: 0.0002}"""

    @property
    def judged_by(self) -> Metric:
        """Return what the model is judged by."""
        return BOX_AP if self.metric is msgspec.UNSET else self.metric


def model_rows(
    desk: Desk, columns: Sequence[Column], metrics: Sequence[Metric], wanted: Collection[str]
) -> Iterable[ModelRow]:
    """Rows in the experiment's order of models, then in the plan's order of variants. ``metrics`` are shown
    beside the one that each model is judged by."""
    pairs: dict[tuple[str, str], None] = {}
    for (_, _, model, variant), runs in desk.places.items():
        if any(planned.run.name in wanted for planned in runs):
            pairs[model, variant] = None
    names = order(desk.experiment.models)
    variants = order(dict.fromkeys(["default", *desk.experiment.variants]))
    last = len(names) + len(variants)
    for model, variant in sorted(pairs, key=lambda k: (names.get(k[0], last), variants.get(k[1], last))):
        section = desk.experiment.models.get(model)
        side = desk.published(model)
        value = None if side.problem or side.absent else verdict.mean(side.values.values())
        metric = desk.metric(model)
        places = [(c.phase, c.implementation, model, variant) for c in columns]
        yield ModelRow(
            model=model,
            title=(section.title if section else "") or model,
            variant=variant,
            reference=None if value is None else verdict.to_points(value, metric.quanta),
            reference_text=side.problem or "none"
            if value is None
            else verdict.format_points(value, metric.decimals),
            source=(section.reference.source or section.reference.task or "") if section else "",
            cells=tuple(
                _cell(desk, column, place, metrics, wanted)
                for column, place in zip(columns, places, strict=True)
            ),
            metric=msgspec.UNSET if metric == BOX_AP else metric,
            grid=desk.grids.get(variant, msgspec.UNSET),
        )


def _cell(
    desk: Desk, column: Column, place: Place, metrics: Sequence[Metric], wanted: Collection[str]
) -> Cell | None:
    runs = [
        planned
        for planned in desk.places.get(place, [])
        if planned.run.name in wanted and column.task in ("", planned.run.task)
    ]
    if not runs:
        return None
    return cell_of(desk, runs, _other_side(desk, column, place, runs), metrics, column.against == REFERENCE)


def cell_of(
    desk: Desk, runs: list[PlannedRun], side: Side, metrics: Sequence[Metric] = (), published: bool = False
) -> Cell:
    """Return what runs of one place measured, and the verdict against a side, maybe a published figure."""
    measured = _measure(desk, side, runs)
    metric, difference, theirs = measured.metric, measured.difference, measured.side.values.values()
    return Cell(
        values={shown.name: _value(desk, runs, shown) for shown in (metric, *metrics)},
        reference=verdict.to_points(verdict.mean(theirs), metric.quanta) if theirs else None,
        difference=None if difference is None else verdict.to_points(difference, metric.quanta),
        difference_text="" if difference is None else verdict.format_difference(difference, metric.decimals),
        tolerance=_tolerance(runs[0], metric),
        judgement=_judge(desk, measured, published),
        required=not all(planned.run.optional for planned in runs),
        adopted=any(
            desk.products[planned.run.name].adopted_from
            for planned in runs
            if planned.run.name in desk.products
        ),
        stale=any(planned.stale for planned in runs),
        accepted=any(planned.accepted for planned in runs),
        runs=tuple(planned.run.name for planned in runs),
        seeds=tuple(planned.run.seed for planned in runs),
    )


def _tolerance(planned: PlannedRun, metric: Metric) -> float | None:
    return dict(planned.run.tolerances).get("ap" if metric.is_box_ap else "metric")


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A cell before its verdict. ``kept`` are its runs without those that their machines failed."""

    metric: Metric
    runs: list[PlannedRun]
    kept: list[PlannedRun]
    side: Side
    ours: dict[int | None, Score]
    difference: Fraction | None = None  # quanta
    n: int = 0
    how: str = ""

    @property
    def values(self) -> dict[int | None, int]:
        """Quanta by seed."""
        return {seed: s.quanta for seed, s in self.ours.items() if s.quanta is not None}


def _measure(desk: Desk, side: Side, runs: list[PlannedRun]) -> _Measured:
    kept = [planned for planned in runs if desk.fate(planned) is not Fate.CRASHED]
    metric = desk.metric(runs[0].run.model)
    measured = _Measured(metric=metric, runs=runs, kept=kept, side=side, ours=desk.scores(kept, metric))
    values = measured.values
    if not values or not side.values or len(values) < len(measured.ours):
        return measured
    if side.seeds:
        difference, n, how = verdict.paired(values, side.values)
    else:
        difference = verdict.mean(values.values()) - verdict.mean(side.values.values())
        n, how = len(values), "mean" if len(values) > 1 else ""
    return msgspec.structs.replace(measured, difference=difference, n=n, how=how)


def _other_side(desk: Desk, column: Column, place: Place, runs: Sequence[PlannedRun]) -> Side:
    if column.against != REFERENCE:
        return desk.phase_side(place, column.against, column.task)
    if not all(planned.run.comparable for planned in runs):
        return Side(name="", absent="no reference for this variant")
    return desk.published(place[2])


def _judge(desk: Desk, m: _Measured, published: bool) -> Judgement:
    metric = m.metric
    rule = f"{metric.name} against {m.side.name}" if m.side.name else metric.name
    allowed = _tolerance(m.runs[0], metric)
    diverged = desk.with_fate(m.runs, Fate.DIVERGED)
    if diverged:
        return verdict.diverged(rule, len(diverged), len(m.runs))
    if m.side.absent:
        return verdict.unjudged(m.side.absent)
    if allowed is None:
        return verdict.unjudged(NO_TOLERANCE)
    if all(desk.states[planned.run.name] == OPTIONAL for planned in m.runs):
        return verdict.unjudged("not asked for")
    if not m.kept or len(m.ours) < len(m.kept):
        why = desk.state(m.runs) if not m.ours else f"{len(m.ours)} of {len(m.runs)} seeds done"
        return verdict.unknown(why, rule)
    notes = [s.note for s in m.ours.values() if s.note]
    if notes:
        return verdict.unknown(f"{metric.name}: {notes[0]}", rule)
    if m.side.problem or m.difference is None:
        return verdict.unknown(m.side.problem or "nothing to compare with", rule)
    ours, theirs = list(desk.made_by(planned.run.name for planned in m.kept)), list(desk.made_by(m.side.runs))
    chains = (desk.made_by([name]) for name in (*(planned.run.name for planned in m.kept), *m.side.runs))
    doubt = ran.doubt([*ours, *theirs]) or ran.other_data(chains, desk.planned)
    if doubt:
        return verdict.unknown(doubt.word, f"{rule}; {doubt.sentence}")
    apart = ran.apart(ours, theirs)
    test, basis = _test(m, desk.exact_of(m.kept, metric), allowed)
    if test is not None and (again := _repeated(desk, m)):
        test, basis = None, f"no equivalence test: {again}"
    judgement = verdict.judge(
        m.difference,
        verdict.from_points(allowed, metric.quanta),
        n=m.n,
        reference=m.side.name,
        published=published,
        how=m.how,
        rounded_to=m.side.rounded_to,
        excluded=len(m.runs) - len(m.kept),
        test=test,
        basis=basis,
        metric=metric,
    )
    return verdict.on_machines(judgement, apart)


def _repeated(desk: Desk, m: _Measured) -> str:
    """Return which seeds of a side are no two samples; empty if there are none."""
    sides = [planned.run.name for planned in m.kept], m.side.runs
    reasons = (ran.repeated({name: desk.made_by([name]) for name in side}) for side in sides)
    return next(filter(None, reasons), "")


def _test(
    m: _Measured, exact: Mapping[int | None, float], tolerance: float
) -> tuple[Equivalence | None, str]:
    """(equivalence test, or what keeps one from being made): only of independent seeds, at least three."""
    if tolerance == 0 or m.side.rounded_to > 1 or len(m.ours) < equivalence.LEAST:
        return None, ""
    if not any(m.values.values()) and not any(m.side.values.values()):
        return None, "no equivalence test: it cannot be shown from figures of 0"
    per_unit = m.metric.quanta
    ours, ours_exact = _points(m.values, exact, per_unit)
    theirs, theirs_exact = _points(m.side.values, m.side.exact, per_unit)
    common = [seed for seed in ours if seed in theirs] if m.side.seeds else []
    seeds = equivalence.independent(common or ours)
    if len(seeds) < equivalence.LEAST:
        near = f"seeds closer than {SEEDS_APART:,} are not independent"
        return None, f"no equivalence test: {len(seeds)} independent seeds of {len(common or ours)} ({near})"
    quantum = 0.0 if ours_exact and (theirs_exact or not m.side.seeds) else 1 / per_unit
    if not m.side.seeds:
        reference = sum(theirs.values()) / len(theirs)
        values = [ours[seed] for seed in seeds]
        return equivalence.one_sample(values, reference, tolerance, quantum=quantum), ""
    if common:
        return equivalence.paired([ours[s] - theirs[s] for s in seeds], tolerance, quantum=quantum), ""
    others = equivalence.independent(theirs)
    if len(others) < equivalence.LEAST:
        return None, f"no equivalence test: {len(others)} independent seeds to compare with"
    arms = ([ours[s] for s in seeds], [theirs[s] for s in others])
    return equivalence.welch(*arms, tolerance, quantum=quantum), ""


def _points(
    rounded: Mapping[int | None, int] | Mapping[int | None, Fraction],
    exact: Mapping[int | None, float],
    per_unit: int,
) -> tuple[dict[int | None, float], bool]:
    """(AP points by seed, whether they are exact): before rounding only if that is known of every seed."""
    if rounded and all(seed in exact for seed in rounded):
        return {seed: exact[seed] for seed in rounded}, True
    return {seed: verdict.to_points(Fraction(value), per_unit) for seed, value in rounded.items()}, False


def _value(desk: Desk, runs: Sequence[PlannedRun], metric: Metric) -> Value:
    scores = list(desk.scores(runs, metric).values())
    if not scores:
        return Value(text=desk.state(runs))
    n, of = len(scores), len(runs)
    for note, text in ((NAN, NAN), ("missing", "missing"), (NO_OBJECTS, "–")):
        count = sum(s.note == note for s in scores)
        if count:
            return Value(text=text if count == of else f"{text} ({count} of {of})", n=n - count)
    quanta = tuple(s.quanta for s in scores if s.quanta is not None)
    mean, sd = verdict.mean(quanta), verdict.deviation(quanta)
    text = verdict.format_points(mean, metric.decimals)
    if sd is not None:
        text += f" ± {sd / metric.quanta:.{metric.decimals + 1}f} SD"
    if of > 1:
        text += f" (n={n})" if n == of else f" ({n} of {of})"
    return Value(
        text=text,
        mean=verdict.to_points(mean, metric.quanta),
        sd=None if sd is None else sd / metric.quanta,
        n=n,
        quanta=quanta,
        decimals=msgspec.UNSET if metric.decimals == BOX_AP.decimals else metric.decimals,
    )
