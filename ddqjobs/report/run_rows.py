"""The report's tables of single runs: align runs, and runs that merely check something. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ddqjobs.report import ran, verdict
from ddqjobs.report.alignment import Alignment, alignment, judge_alignment
from ddqjobs.report.results import MISSING, score
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.experiment import CANARY, Experiment, metric_of
from ddqjobs.spec.metric import Metric
from ddqjobs.spec.model import PlannedRun, Product, Run, Status, TaskKind


class AlignRow(msgspec.Struct, frozen=True, kw_only=True):
    """An align run's findings with the verdict by its own tolerances."""

    run: str
    """Name of the run. Example: p4-align.ddq-detr-4scale"""
    phase: str
    """Name of the phase; empty if its task has none. Example: '4'"""
    model: str
    """Name of the model; empty if its task has none. Example: ddq-detr-4scale"""
    variant: str
    """Name of the variant; `default` if the experiment declares none. Example: default"""
    seed: int | None
    """Seed of the run; null if the experiment declares none. Example: 7"""
    says: str
    """State of the run in the report's words (`done`, `running (epoch 3/12)`, `failed: code`). Example:
    done"""
    found: Alignment
    """Differences measured."""
    judgement: Judgement
    """Verdict by the tolerances of the run."""
    required: bool
    """True unless the run is optional; only required verdicts count for `ok`. Example: true"""
    adopted: bool
    """True if the result was adopted with `ddqjobs adopt`. Example: false"""
    stale: bool
    """True if the result is of an earlier configuration, environment or code. Example: false"""
    accepted: bool
    """True if a user declared a stale or different result valid. Example: false"""


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """A convert, unit test, smoke or prepare run with its product's headline."""

    run: str
    """Name of the run. Example: p2-convert.ddq-detr-4scale"""
    kind: str
    """Kind of task: `convert`, `unittest`, `smoke` or `prepare`. Example: convert"""
    phase: str
    """Name of the phase; empty if its task has none. Example: '2'"""
    model: str
    """Name of the model; empty if its task has none. Example: ddq-detr-4scale"""
    implementation: str
    """Name of the implementation; empty if its task has none. Example: new"""
    says: str
    """State of the run in the report's words (`done`, `running (epoch 3/12)`, `failed: code`). Example:
    done"""
    headline: str
    """Main result as text, for example counts of keys or tests; empty until the run is done. Example: 194
    tensors mapped, 12 dropped"""
    judgement: Judgement
    """Verdict; its `outcome` is null if the check passed or the run is only shown."""
    required: bool
    """True unless the run is optional; only required verdicts count for `ok`. Example: true"""
    adopted: bool
    """True if the result was adopted with `ddqjobs adopt`. Example: false"""
    stale: bool
    """True if the result is of an earlier configuration, environment or code. Example: false"""
    accepted: bool
    """True if a user declared a stale or different result valid. Example: false"""


def align_rows(
    picked: Iterable[PlannedRun], products: Mapping[str, Product], states: Mapping[str, str]
) -> tuple[AlignRow, ...]:
    """One row per align run, in the plan's order."""
    rows = []
    for planned in picked:
        run = planned.run
        if run.kind is not TaskKind.ALIGN:
            continue
        product = _product(planned, products)
        findings = Alignment() if product is None else alignment(product)
        rule = "largest differences within the tolerances"
        rows.append(
            AlignRow(
                run=run.name,
                phase=run.phase,
                model=run.model,
                variant=run.variant,
                seed=run.seed,
                says=states[run.name],
                found=findings,
                judgement=_aligned(findings, run, products)
                if product
                else verdict.unknown(states[run.name], rule),
                required=not run.optional,
                adopted=bool(product and product.adopted_from),
                stale=bool(planned.stale),
                accepted=bool(planned.accepted),
            )
        )
    return tuple(rows)


def check_rows(
    experiment: Experiment,
    picked: Iterable[PlannedRun],
    products: Mapping[str, Product],
    states: Mapping[str, str],
) -> tuple[CheckRow, ...]:
    """One row per run of the kinds in :data:`_HEADLINES`, in the plan's order."""
    rows = []
    for planned in picked:
        run, headline = planned.run, _HEADLINES.get(planned.run.kind)
        if headline is None:
            continue
        product = _product(planned, products)
        text, judgement = (
            headline(product, metric_of(experiment, run.model))
            if product
            else ("", verdict.unjudged(states[run.name]))
        )
        if product and run.task == CANARY:
            text = "ran"  # an AP after 20 iterations would look like a result
        rows.append(
            CheckRow(
                run=run.name,
                kind=run.kind.value,
                phase=run.phase,
                model=run.model,
                implementation=run.implementation,
                says=states[run.name],
                headline=text,
                judgement=judgement,
                required=not run.optional,
                adopted=bool(product and product.adopted_from),
                stale=bool(planned.stale),
                accepted=bool(planned.accepted),
            )
        )
    return tuple(rows)


def _aligned(findings: Alignment, run: Run, products: Mapping[str, Product]) -> Judgement:
    """Return the verdict of an align run, and where its first input and the others were made on different
    machines."""
    sides = [products[name] for name in run.upstream if name in products]
    judgement = judge_alignment(findings, run)
    doubt = ran.doubt(sides)
    if doubt and judgement.outcome is not None:
        return verdict.unknown(doubt.word, f"{judgement.rule}; {doubt.sentence}")
    return verdict.on_machines(judgement, ran.apart(sides[:1], sides[1:]))


def _product(planned: PlannedRun, products: Mapping[str, Product]) -> Product | None:
    return products.get(planned.run.name) if planned.status is Status.DONE else None


def _count(product: Product, key: str) -> int | None:
    """A count among the metrics, or in the product's report, where a list of names counts as its length."""
    value: object = product.metrics.get(key, product.report.get(key))
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return int(value)
    return None


def _convert(product: Product, _: Metric) -> tuple[str, Judgement]:
    """Every key is mapped or dropped for a reason (tied duplicates); a missing one makes it short.
    A conversion that counts nothing has still checked itself, key by key, before it ended well."""
    counts = {key: _count(product, key) for key in ("tensors", "dropped", "missing", "unexpected")}
    said = {"tensors": "tensors mapped"}
    text = ", ".join(f"{count} {said.get(key, key)}" for key, count in counts.items() if count is not None)
    rule = "every key of the target is mapped, none is missing or left over"
    if not text:
        return "converted", verdict.unjudged("done")
    bad = [key for key in ("missing", "unexpected") if counts[key]]
    return text, _passed(not bad, f"keys {' and '.join(bad)}", rule)


def _unittest(product: Product, _: Metric) -> tuple[str, Judgement]:
    keys = ("tests", "passed", "failures", "failed", "errors", "skipped")
    counts = {key: _count(product, key) for key in keys}
    text = ", ".join(f"{count} {key}" for key, count in counts.items() if count is not None)
    rule = "at least one test ran, none failed"
    bad = sum(counts[key] or 0 for key in ("failures", "failed", "errors"))
    ran = counts["passed"]
    if ran is None and counts["tests"] is not None:
        ran = counts["tests"] - bad - (counts["skipped"] or 0)
    if bad:
        return text, _passed(False, f"{bad} failed", rule)
    return (text, _passed(True, "", rule)) if ran else (text, verdict.unknown("no test ran", rule))


def _ran(product: Product, metric: Metric) -> tuple[str, Judgement]:
    """Prepare and smoke runs: an AP where they have one."""
    found_score = score(product, metric)
    text = "ran"
    if found_score.points is not None:
        text = f"{metric.name} {found_score.points:.{metric.decimals}f}"
    elif found_score.note != MISSING:
        text = f"{metric.name} {found_score.note}"
    return text, verdict.unjudged("done")


def _passed(good: bool, why: str, rule: str) -> Judgement:
    if good:
        return Judgement(outcome=None, word="passed", brief="passed", rule=rule, n=1)
    return Judgement(outcome=Outcome.SHORT, word=f"failed: {why}", brief="failed", rule=rule, n=1)


_HEADLINES: dict[TaskKind, Callable[[Product, Metric], tuple[str, Judgement]]] = {
    TaskKind.PREPARE: _ran,
    TaskKind.CONVERT: _convert,
    TaskKind.UNITTEST: _unittest,
    TaskKind.SMOKE: _ran,
}
