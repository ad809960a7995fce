"""AP computed once more from the predictions of a test, beside the AP that its log prints. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ddqjobs.report import verdict
from ddqjobs.report.results import score
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.metric import BOX_AP, OF_BOXES, found_as
from ddqjobs.spec.model import PlannedRun, Product, Status, TaskKind


class Recomputed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The findings of :mod:`ddqjobs.detect.recompute` for one test run: metrics in the detector's own keys
    and scale, not rounded; or the problem that there are none."""

    run: str
    metrics: dict[str, float | None] = {}
    errors: dict[str, int] = {}  # kind -> count, where predictions were evaluated
    sizes: dict[str, dict[str, int]] = {}  # size -> the same
    precision: dict[str, list[float]] = {}  # overlap -> precision at 101 recalls
    classes: dict[str, float] = {}  # class -> AP as a fraction
    problem: str = ""
    key: str = ""  # of predictions and annotations: other files, other metrics


class RecomputedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A test run's printed AP beside the one recomputed from its predictions, in AP points."""

    run: str
    """Name of the test run. Example: p3-test.ddq-detr-4scale"""
    phase: str
    """Name of the phase; empty if its task has none. Example: '3'"""
    printed: float | None
    """AP in the log, in points; null if the log has none. Example: 51.3"""
    recomputed: float | None
    """AP recomputed from the predictions, in points, not rounded; null if it could not be recomputed.
    Example: 51.2874"""
    errors: dict[str, int]
    """Number of detections or objects by kind of error as TIDE names it, and of `found` ones; empty if not
    counted. Example: {found: 27100, class: 911, localisation: 4120, both: 402, duplicate: 38, background:
    3950, missed: 8240}"""
    sizes: dict[str, dict[str, int]]
    """The same by size (`small`, `medium`, `large`) of the object, or of a detection without object; empty if
    not counted. Example: {small: {found: 8410, missed: 3120}}"""
    precision: dict[str, list[float]]
    """Precision, 0 to 1, at 101 recalls from 0 to 1, the mean over classes, by overlap (`0.50:0.95`, `0.50`,
    `0.75`). Example: {"0.50": [0.97, 0.96, 0.95]}"""
    judgement: Judgement
    """Verdict: the recomputed metrics, rounded, are to equal those in the log."""
    required: bool
    """True unless the run is optional; only required verdicts count for `ok`. Example: true"""


RECOMPUTED_RULE = "AP recomputed from the predictions rounds to the AP in the log, and so do AP50, AP75, ..."

NOT_RECOMPUTED = "not recomputed"
NO_BOX_AP = "the log has no box AP"


def recomputed_rows(
    picked: Iterable[PlannedRun], products: Mapping[str, Product], recomputed: Mapping[str, Recomputed]
) -> tuple[RecomputedRow, ...]:
    """One row per done test run that was recomputed, or could not be."""
    rows = []
    for planned in picked:
        name = planned.run.name
        if (
            planned.run.kind is not TaskKind.TEST
            or planned.status is not Status.DONE
            or name not in recomputed
        ):
            continue
        if name not in products:
            continue
        again = recomputed[name]
        ap = again.metrics.get(BOX_AP.key)
        rows.append(
            RecomputedRow(
                run=name,
                phase=planned.run.phase,
                printed=score(products[name]).points,
                recomputed=None if ap is None else 100 * ap,
                errors=again.errors,
                sizes=again.sizes,
                precision=again.precision,
                judgement=_judge_recomputed(products[name], again),
                required=not planned.run.optional,
            )
        )
    return tuple(rows)


def _judge_recomputed(product: Product, again: Recomputed) -> Judgement:
    if again.problem:
        return verdict.unjudged(f"{NOT_RECOMPUTED}: {again.problem}")
    if BOX_AP.key not in again.metrics:
        return verdict.unjudged(NOT_RECOMPUTED)
    if found_as(BOX_AP.key, product.metrics) is None:
        return verdict.unjudged(NO_BOX_AP)
    recomputed = msgspec.structs.replace(product, metrics=again.metrics)
    differing = []
    for name, metric in OF_BOXES.items():
        # By the name under which the printed column shows it: what is not compared is not equal.
        if found_as(metric.key, product.metrics) and metric.key in again.metrics:
            printed, computed = score(product, metric), score(recomputed, metric)
            if printed != computed:
                differing.append(name)
    if differing:
        text = f"differs: {', '.join(differing)}"
        return Judgement(outcome=Outcome.DIFFERS, word=text, brief="differs", rule=RECOMPUTED_RULE, n=1)
    return Judgement(outcome=Outcome.EQUAL, word="equal", brief="equal", rule=RECOMPUTED_RULE, n=1)


def exact_points(recomputed: Mapping[str, Recomputed], products: Mapping[str, Product]) -> dict[str, float]:
    """Run -> AP before rounding, in points, where it was recomputed and rounds to what the log prints."""
    points = {}
    for name, again in recomputed.items():
        ap = again.metrics.get(BOX_AP.key)
        if ap is None or name not in products:
            continue
        if _judge_recomputed(products[name], again).outcome is Outcome.EQUAL:
            points[name] = 100 * ap
    return points
