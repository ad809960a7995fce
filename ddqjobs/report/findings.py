"""Two findings beside the AP table: AP computed once more from the predictions, and loss curves. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.report import verdict
from ddqjobs.report.lookup import REFERENCE
from ddqjobs.report.results import METRICS, score
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import PlannedRun, Product, Status, TaskKind


class Recomputed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What :mod:`ddqjobs.detect.recompute` found for one test run: metrics in the detector's own keys and
    scale, not rounded; or the problem that there are none."""

    run: str
    metrics: dict[str, float | None] = {}
    problem: str = ""
    key: str = ""  # of predictions and annotations: other files, other metrics


class RecomputedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A test run's printed AP beside the one recomputed from its predictions, in AP points."""

    run: str
    phase: str
    printed: float | None
    recomputed: float | None  # not rounded
    judgement: Judgement
    required: bool


RECOMPUTED_RULE = "AP recomputed from the predictions rounds to the AP in the log, and so do AP50, AP75, ..."


def recomputed_rows(
    picked: Iterable[PlannedRun], products: Mapping[str, Product], found: Mapping[str, Recomputed]
) -> tuple[RecomputedRow, ...]:
    """One row per done test run that was recomputed, or could not be."""
    made = []
    for p in picked:
        name = p.run.name
        if p.run.kind is not TaskKind.TEST or p.status is not Status.DONE or name not in found:
            continue
        if name not in products:
            continue
        again = found[name]
        ap = again.metrics.get(METRICS["AP"])
        made.append(
            RecomputedRow(
                run=name,
                phase=p.run.phase,
                printed=score(products[name], "AP").points,
                recomputed=None if ap is None else 100 * ap,
                judgement=_judge_recomputed(products[name], again),
                required=not p.run.optional,
            )
        )
    return tuple(made)


def _judge_recomputed(product: Product, again: Recomputed) -> Judgement:
    if again.problem:
        return verdict.unjudged(f"not recomputed: {again.problem}")
    made = msgspec.structs.replace(product, metrics=again.metrics)
    differing = []
    for metric in METRICS:
        if METRICS[metric] in product.metrics and METRICS[metric] in again.metrics:
            printed, computed = score(product, metric), score(made, metric)
            if printed != computed:
                differing.append(metric)
    if METRICS["AP"] not in again.metrics:
        return verdict.unjudged("not recomputed")
    if differing:
        words = f"differs: {', '.join(differing)}"
        return Judgement(outcome=Outcome.SHORT, word=words, brief="differs", rule=RECOMPUTED_RULE, n=1)
    return Judgement(outcome=Outcome.EQUAL, word="equal", brief="equal", rule=RECOMPUTED_RULE, n=1)


def exact_points(found: Mapping[str, Recomputed], products: Mapping[str, Product]) -> dict[str, float]:
    """Run -> AP before rounding, in points, where it was recomputed and rounds to what the log prints."""
    made = {}
    for name, again in found.items():
        ap = again.metrics.get(METRICS["AP"])
        if ap is not None and name in products and _judge_recomputed(products[name], again).good:
            made[name] = 100 * ap
    return made


class Curve(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training's loss curve as the job thinned it (:mod:`ddqjobs.detect.job.curves`)."""

    rows: int = 0  # logged iterations
    first: int = 0  # the first and the last of them
    last: int = 0
    terms: dict[str, list[tuple[int, float | None]]] = {}  # every extreme kept; None: not finite
    means: dict[str, list[float | None]] = {}  # of equal parts of the training, in order
    val: dict[str, list[tuple[int, float | None]]] = {}  # metric -> (epoch, fraction)
    lost: int = 0  # lines of the log that were no rows
    problem: str = ""  # why there is no curve


class CurveRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a code's loss curves are from the other's, beside how far that one's are from each other."""

    phase: str
    model: str
    variant: str
    runs: tuple[str, ...]
    others: tuple[str, ...]
    distance: float | None  # largest relative difference of the mean loss in any part of the training
    spread: float | None  # the same between two of the others; None: there is only one
    judgement: Judgement


CURVE_RULE = (
    "the mean loss of each {parts}th of the training is no further from the other code's than two runs "
    "of that code are from each other"
)


def curve_rows(
    experiment: Experiment, picked: Sequence[PlannedRun], curves: Mapping[str, Curve]
) -> tuple[CurveRow, ...]:
    """One row per phase that is compared with another, model and variant that both trained."""
    trained: dict[tuple[str, str, str], dict[int | None, str]] = {}
    for p in picked:
        run = p.run
        if run.kind is TaskKind.TRAIN and run.phase and run.name in curves and curves[run.name].means:
            trained.setdefault((run.phase, run.model, run.variant), {})[run.seed] = run.name
    return tuple(_curve_rows(experiment, trained, curves))


def _curve_rows(
    experiment: Experiment,
    trained: Mapping[tuple[str, str, str], dict[int | None, str]],
    curves: Mapping[str, Curve],
) -> Iterator[CurveRow]:
    for (phase, model, variant), ours in trained.items():
        section = experiment.phases.get(phase)
        if section is None or section.against == REFERENCE:
            continue
        theirs = trained.get((section.against, model, variant))
        if not theirs:
            continue
        pairs = [(ours[s], theirs[s]) for s in ours if s in theirs]
        pairs = pairs or [(a, b) for a in ours.values() for b in theirs.values()]
        distances = [distance(curves[a], curves[b]) for a, b in pairs]
        others = list(theirs.values())
        among = [distance(curves[a], curves[b]) for i, a in enumerate(others) for b in others[i + 1 :]]
        far = _largest(distances)
        spread = _largest(among) if among else None
        yield CurveRow(
            phase=phase,
            model=model,
            variant=variant,
            runs=tuple(ours.values()),
            others=tuple(others),
            distance=far,
            spread=spread,
            judgement=_judge_curves(far, spread, len(among), len(curves[pairs[0][0]].means.get("loss", ()))),
        )


def _largest(values: Sequence[float | None]) -> float | None:
    """The largest; None if one of them could not be taken."""
    return None if None in values else max((v for v in values if v is not None), default=None)


def distance(a: Curve, b: Curve) -> float | None:
    """Largest relative difference of the mean ``loss`` in any part of the training that both went through.
    Infinity where one of them is not finite; None if they have no part in common."""
    one, two = a.means.get("loss", []), b.means.get("loss", [])
    if not one or len(one) != len(two) or a.last != b.last:
        return None
    worst = 0.0
    for x, y in zip(one, two, strict=True):
        if x is None or y is None:
            worst = worst if x is y else math.inf
        elif x != y:
            worst = max(worst, abs(x - y) / max(abs(x), abs(y)))
    return worst


def _judge_curves(far: float | None, spread: float | None, pairs: int, parts: int) -> Judgement:
    rule = CURVE_RULE.format(parts=parts)
    if far is None:
        return verdict.unjudged("the trainings are not of the same length")
    if far == 0:
        return Judgement(outcome=Outcome.EQUAL, word="equal", brief="equal", rule=rule, n=1)
    if spread is None:
        return verdict.unjudged("the other code has one run: give it a second seed, 1,000 or more apart")
    rule = f"{rule}: {far:.2g} against {spread:.2g}, the largest of {pairs}"
    if far <= spread:
        return Judgement(
            outcome=Outcome.EQUAL, word="no further than seeds", brief="within", rule=rule, n=pairs
        )
    return Judgement(outcome=Outcome.SHORT, word="further than seeds", brief="further", rule=rule, n=pairs)


def points_text(value: float | None) -> str:
    """AP points with four decimals, as far as they are known."""
    return "" if value is None else f"{value:.4f}"
