"""Measure how far the loss curves of two codes are apart, beside how far seeds are. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from ddqjobs.report import verdict
from ddqjobs.report.lookup import REFERENCE
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import PlannedRun, TaskKind

Number = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]  # that a float holds exactly


class Curve(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training's loss curve as the job thinned it (:mod:`ddqjobs.detect.job.curves`)."""

    rows: Number = 0  # logged iterations
    first: Number = 0  # the first and the last of them
    last: Number = 0
    terms: dict[str, list[tuple[Number, float | None]]] = {}  # every extreme kept; None: not finite
    means: dict[str, list[float | None]] = {}  # of equal parts of the training, in order
    val: dict[str, list[tuple[Number, float | None]]] = {}  # metric -> (epoch, fraction)
    # By iterations where a training has no epochs, or validations in their middle.
    val_by: Literal["epoch", "iteration"] = "epoch"
    lost: int = 0  # lines of the log that were no rows
    problem: str = ""  # why there is no curve


class CurveRow(msgspec.Struct, frozen=True, kw_only=True):
    """The distance of a code's loss curves from the other's, beside that of the other's from each other."""

    phase: str
    """Name of the phase. Example: '4'"""
    model: str
    """Name of the model. Example: ddq-detr-4scale"""
    variant: str
    """Name of the variant; `default` if the experiment declares none. Example: default"""
    runs: tuple[str, ...]
    """Names of the trainings of this phase. Example: [p4-train.ddq-detr-4scale]"""
    others: tuple[str, ...]
    """Names of the trainings of the phase that it is compared with. Example: [p3-train.ddq-detr-4scale]"""
    distance: float | None
    """Largest relative difference of the mean loss in any part of the training, as a fraction; null if the
    trainings differ in length or a loss is not finite. Example: 0.013"""
    spread: float | None
    """The same between two of the other phase's trainings; null if there is only one, or none can be
    measured. Example: 0.021"""
    judgement: Judgement
    """Verdict: `distance` is to be no larger than `spread`. It does not count for `ok`."""


CURVE_RULE = (
    "the mean loss of each {parts}th of the training is no further from the other code's than two runs "
    "of that code are from each other"
)


def curve_rows(
    experiment: Experiment, picked: Sequence[PlannedRun], curves: Mapping[str, Curve]
) -> tuple[CurveRow, ...]:
    """One row per phase that is compared with another, model and variant that both trained."""
    trained: dict[tuple[str, str, str], dict[int | None, str]] = {}
    for planned in picked:
        run = planned.run
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
    return Judgement(outcome=Outcome.DIFFERS, word="further than seeds", brief="further", rule=rule, n=pairs)
