"""The report: results against their references, as one versioned document. Rendering it is the work of
:mod:`ddqjobs.report.formats` and :mod:`ddqjobs.report.page`; what they say is decided here, once.

Tables: AP (a row per model and variant, a cell per phase and implementation), variants (a row per variant
that is compared with another), alignment (a row per align run), loss curves (a row per model of a phase that
is compared with another), AP recomputed from predictions, checks (convert, unit test, smoke and prepare
runs); then a summary line per phase, one overall, and what is missing together with the command that brings
it.

Rules:

* A cell's AP is its test runs'; a phase that only trains shows the last validation of its trainings. A cell
  with several test tasks becomes one column per task.
* ``against: reference`` compares with the published AP, or with the AP of the reference task's run; a
  variant for which the figure does not hold has no verdict. ``against: PHASE`` compares with that phase's
  same model, same variant where it exists there (else ``default``, but no verdict for a grid's variant that
  is not the baseline), same implementation where it exists there (else the experiment's first), seed by seed
  where both have them.
* A verdict needs all seeds of its cell to have come to an end (:mod:`ddqjobs.report.cells` says which count),
  and counts as required unless all of the cell's runs are optional.
* ``ok`` is what ``report --check`` asks: every required run done, every required verdict reproduced or equal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.report import footnotes, notebook, verdict
from ddqjobs.report.cells import ModelRow, model_rows
from ddqjobs.report.classes import ClassRow, class_rows
from ddqjobs.report.columns import Row
from ddqjobs.report.hours import HoursRow, Spent, hours_rows
from ddqjobs.report.lookup import REFERENCE, Column, Desk, label
from ddqjobs.report.loss_curves import Curve, CurveRow, curve_rows
from ddqjobs.report.missing import Missing, missing
from ddqjobs.report.recomputed import Recomputed, RecomputedRow, exact_points, recomputed_rows
from ddqjobs.report.results import rows
from ddqjobs.report.run_rows import AlignRow, CheckRow, align_rows, check_rows
from ddqjobs.report.variants import VariantRow, variant_rows
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.check.figures import RESERVED
from ddqjobs.spec.experiment import Experiment, metric_of, metrics_of
from ddqjobs.spec.metric import BOX_AP, OF_BOXES, Metric
from ddqjobs.spec.model import Plan, PlannedRun, Product, Status, TaskKind

VERSION = 2
MIXED = RESERVED  # the name of what is judged where models have several metrics


class PhaseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line per phase, and what it counts (required AP verdicts)."""

    phase: str
    """Name of the phase in the experiment file. Example: '3'"""
    text: str
    """Summary of the phase as one line of text. Example: 'phase 3: reproduced 3 of 4 (1 short)'"""
    good: int
    """Number of required AP verdicts that hold: *reproduced* or *equal*. Example: 3"""
    short: int
    """Number of required AP verdicts that are *short*. Example: 1"""
    differs: int
    """Number of required AP verdicts that are *differs*. Example: 0"""
    exceeds: int
    """Number of required AP verdicts that are *exceeds*. Example: 0"""
    unknown: int
    """Number of required AP verdicts that are *unknown*. Example: 0"""
    judged: int
    """Number of required AP verdicts in all, the sum of the five above. Example: 4"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The document. ``version`` changes when a key changes its meaning or goes away."""

    version: int = VERSION
    """Version of this schema; it changes when a key changes its meaning or is removed. Example: 2"""
    kind: str = "report"
    """Kind of document, always `report`. Example: report"""
    experiment: str
    """Name of the experiment. Example: ddq"""
    title: str
    """Title of the experiment; empty if it declares none. Example: Dense Distinct Query"""
    ok: bool
    """True if every required run is done and every required verdict is reproduced or equal (`report
    --check`). Example: true"""
    outcome: Outcome | None
    """Worst outcome of all required verdicts and runs; null if nothing was judged. Example: reproduced"""
    overall: str
    """Overall outcome and number of required runs done, as one line of text. Example: 'overall: reproduced;
    15 of 15 required runs done'"""
    metrics: tuple[str, ...]
    """Names of the metrics shown: first the one that results are judged by (`result` if models have several),
    then those that were asked for. Example: [AP, AP50]"""
    columns: tuple[Column, ...]
    """Columns of the AP table, in the order of `models.cells`."""
    models: tuple[ModelRow, ...]
    """Rows of the AP table, one per model and variant."""
    alignment: tuple[AlignRow, ...]
    """One row per run of kind `align`."""
    curves: tuple[CurveRow, ...]
    """Loss curves of each phase that is compared with another one, a row per model and variant."""
    variants: tuple[VariantRow, ...]
    """Variants beside their baseline; empty without a grid or a `baseline`."""
    recomputed: tuple[RecomputedRow, ...]
    """AP recomputed from the predictions of tests, a row per test run; empty until
    `--recompute` evaluated them."""
    classes: tuple[ClassRow, ...]
    """AP by class, the largest difference first; empty unless predictions of both sides were evaluated."""
    checks: tuple[CheckRow, ...]
    """One row per run of kind `convert`, `unittest`, `smoke` or `prepare`."""
    summary: tuple[PhaseSummary, ...]
    """One summary per phase that has runs."""
    missing: tuple[Missing, ...]
    """Outstanding runs, grouped by what they need, the most urgent first."""
    hours: tuple[HoursRow, ...]
    """Hours by phase and model, with their sums; empty where hours were not computed."""
    footnotes: tuple[str, ...]
    """Notes on marks in the tables and on single results, a line of text each. Example: ['n=1: one seed;
    being within the tolerance does not show that the codes are the same']"""
    runs: tuple[Row, ...]
    """One row per run of the plan, in its order."""

    def _repr_html_(self) -> str:
        """Return the AP table for a notebook."""
        title = f"{self.experiment}: {self.overall.removeprefix('overall: ')}"
        return notebook.of_report(title, self.models, self.columns)


def build(
    experiment: Experiment,
    plan: Plan,
    products: Mapping[str, Product],
    *,
    progress: Mapping[str, Progress] | None = None,
    recomputed: Mapping[str, Recomputed] | None = None,
    curves: Mapping[str, Curve] | None = None,
    metrics: Sequence[str] | None = (),
    hours: Mapping[str, Spent] | None = None,
    only: Collection[str] | None = None,
    unfollowed: Iterable[str] = (),
) -> Report:
    """The report of a plan. ``progress`` (run -> Progress) refines running cells; ``recomputed``
    and ``curves`` (run -> what was found) add their tables, ``hours`` (run -> hours) theirs; ``metrics``
    are names of :func:`metrics_known` that are shown beside what is judged (None: all that may be there);
    ``only`` shows these runs and judges by all; ``unfollowed`` says what configurations build on that no
    digest covers."""
    judged, more = _shown(experiment, plan, metrics)
    table = rows(experiment, plan, products, progress, hours)
    exact = exact_points(recomputed or {}, products)
    desk = Desk(experiment, plan, products, table, exact)
    wanted = {row.run for row in table} if only is None else set(only)
    columns = desk.columns(wanted)
    models = tuple(model_rows(desk, columns, more, wanted))
    picked = [planned for planned in plan.runs if planned.run.name in wanted]
    states = {row.run: row.says for row in table}
    findings = _beside(experiment, picked, products, states, recomputed or {})
    variants = variant_rows(desk, columns, wanted)
    outcomes = _outcomes(models, [*findings.aligned, *findings.checked, *findings.recomputed], picked, states)
    return Report(
        experiment=experiment.name,
        title=experiment.title,
        ok=bool(picked) and not set(verdict.OPEN) & set(outcomes),
        outcome=verdict.overall(outcomes),
        overall=_overall(outcomes, picked),
        metrics=(judged, *(metric.name for metric in more)),
        columns=columns,
        models=models,
        alignment=findings.aligned,
        curves=curve_rows(experiment, picked, curves or {}),
        variants=variants,
        recomputed=findings.recomputed,
        classes=class_rows(desk, picked, recomputed or {}),
        checks=findings.checked,
        summary=tuple(_summaries(experiment, columns, models, findings.aligned, picked)),
        missing=missing(experiment.name, picked, states, plan),
        hours=hours_rows(experiment, picked, hours) if hours else (),
        footnotes=footnotes.notes(
            models, findings.aligned, findings.checked, picked, products, unfollowed, variants
        ),
        runs=tuple(row for row in table if row.run in wanted),
    )


class _Beside(msgspec.Struct, frozen=True):
    """Findings that count for the verdict of a report beside AP."""

    aligned: tuple[AlignRow, ...]
    checked: tuple[CheckRow, ...]
    recomputed: tuple[RecomputedRow, ...]


def _beside(
    experiment: Experiment,
    picked: Sequence[PlannedRun],
    products: Mapping[str, Product],
    states: Mapping[str, str],
    recomputed: Mapping[str, Recomputed],
) -> _Beside:
    return _Beside(
        aligned=align_rows(picked, products, states),
        checked=check_rows(experiment, picked, products, states),
        recomputed=recomputed_rows(picked, products, recomputed),
    )


def metrics_known(experiment: Experiment) -> dict[str, Metric]:
    """Return what a report can show, by name: COCO's figures for boxes, and what models are judged by."""
    return {**OF_BOXES, **metrics_of(experiment)}


def _shown(experiment: Experiment, plan: Plan, names: Sequence[str] | None) -> tuple[str, tuple[Metric, ...]]:
    """Return the name of what is judged, and the metrics beside it."""
    models = dict.fromkeys(planned.run.model for planned in plan.runs if planned.run.model)
    judged = {metric.name: metric for metric in (metric_of(experiment, model) for model in models)}
    name = next(iter(judged)) if len(judged) == 1 else MIXED if judged else BOX_AP.name
    known = metrics_known(experiment)
    if names is None:
        boxes = any(metric.is_box_ap for metric in judged.values()) or not judged
        names = [n for n in OF_BOXES if n not in judged] if boxes else []
    return name, tuple(metric for n, metric in known.items() if n in names and n != name)


def compared(experiment: Experiment, plan: Plan) -> Plan:
    """The trainings of phases that are compared with each other: all that a verdict on curves looks at."""
    against = {name: phase.against for name, phase in experiment.phases.items() if phase.against != REFERENCE}
    phases = {*against, *against.values()}
    trained = [
        planned for planned in plan.runs if planned.run.kind is TaskKind.TRAIN and planned.run.phase in phases
    ]
    sides = {(planned.run.phase, planned.run.model, planned.run.variant) for planned in trained}
    both = {
        place
        for phase, model, variant in sides
        if (against.get(phase, ""), model, variant) in sides
        for place in ((phase, model, variant), (against[phase], model, variant))
    }
    runs = tuple(
        planned for planned in trained if (planned.run.phase, planned.run.model, planned.run.variant) in both
    )
    return msgspec.structs.replace(plan, runs=runs)


def _outcomes(
    models: Iterable[ModelRow],
    others: Iterable[AlignRow | CheckRow | RecomputedRow],
    picked: Iterable[PlannedRun],
    states: Mapping[str, str],
) -> list[Outcome | None]:
    """Outcomes of all that is required; a required run that is not done, is stale, or whose product is gone,
    is one: *unknown*."""
    cells = [c for row in models for c in row.cells if c is not None and c.required]
    outcomes = [c.judgement.outcome for c in cells]
    outcomes += [r.judgement.outcome for r in others if r.required]
    undone = sum(
        not planned.run.optional and (states[planned.run.name] != "done" or bool(planned.stale))
        for planned in picked
    )
    return outcomes + [Outcome.UNKNOWN] * undone


def _overall(outcomes: Sequence[Outcome | None], picked: Sequence[PlannedRun]) -> str:
    required = [planned for planned in picked if not planned.run.optional]
    done = sum(planned.status is Status.DONE for planned in required)
    stale = sum(bool(planned.stale) for planned in required)
    outcome = verdict.overall(outcomes)
    word = outcome.value if outcome else "nothing to judge"
    left = f", {stale} of them stale" if stale else ""
    return f"overall: {word}; {done} of {len(required)} required runs done{left}"


def _summaries(
    experiment: Experiment,
    columns: Sequence[Column],
    models: Sequence[ModelRow],
    aligned: Sequence[AlignRow],
    picked: Sequence[PlannedRun],
) -> Iterable[PhaseSummary]:
    phases = dict.fromkeys(
        [*experiment.phases, *(planned.run.phase for planned in picked if planned.run.phase)]
    )
    for phase in phases:
        runs = [planned for planned in picked if planned.run.phase == phase]
        if not runs:
            continue
        indices = [i for i, c in enumerate(columns) if c.phase == phase]
        cells = [cell for row in models for i in indices if (cell := row.cells[i]) is not None]
        judged = [c.judgement for c in cells if c.required and c.judgement.outcome]
        extra = [c.judgement for c in cells if not c.required and c.judgement.outcome]
        against = columns[indices[0]].against if indices else REFERENCE
        alignments = [r.judgement for r in aligned if r.phase == phase and r.required and r.judgement.outcome]
        counts = {o: sum(j.outcome is o for j in judged) for o in verdict.OPEN}
        yield PhaseSummary(
            phase=phase,
            text=_summary_text(phase, against, judged, extra, alignments, runs),
            good=len(judged) - sum(counts.values()),
            short=counts[Outcome.SHORT],
            differs=counts[Outcome.DIFFERS],
            exceeds=counts[Outcome.EXCEEDS],
            unknown=counts[Outcome.UNKNOWN],
            judged=len(judged),
        )


def _summary_text(
    phase: str,
    against: str,
    judged: Sequence[Judgement],
    extra: Sequence[Judgement],
    alignments: Sequence[Judgement],
    runs: Sequence[PlannedRun],
) -> str:
    """``phase 1: reproduced 6 of 7 (1 short); aligned 7 of 7``."""
    parts = []
    if judged:
        # The outcome *equal* alone would read as the word *equal*, a difference of zero.
        word = "reproduced" if against == REFERENCE else "equal within tolerance"
        part = f"{word} {sum(j.good for j in judged)} of {len(judged)}"
        bad = [(o, sum(j.outcome is o for j in judged)) for o in verdict.OPEN]
        if any(count for _, count in bad):
            part += f" ({', '.join(f'{count} {o.value}' for o, count in bad if count)})"
        parts.append(part)
    if alignments:
        parts.append(f"aligned {sum(j.good for j in alignments)} of {len(alignments)}")
    tests = [j.test for j in (*judged, *extra) if j.test is not None]
    if tests:
        parts.append(f"equivalence shown in {sum(t.shown for t in tests)} of {len(tests)} (3+ seeds)")
    if extra:
        parts.append(f"optional {sum(j.good for j in extra)} of {len(extra)}")
    if not parts:
        done = [planned.status is Status.DONE for planned in runs if not planned.run.optional]
        parts.append(f"nothing to judge, {sum(done)} of {len(done)} done")
    return f"{label(phase)}: {'; '.join(parts)}"


def rules(report: Report) -> dict[str, list[str]]:
    """Rule -> what was judged by it, of everything that was judged."""
    by_rule: dict[str, list[str]] = {}
    for what, rule in _rules(report):
        by_rule.setdefault(rule, []).append(what)
    return by_rule


def _rules(report: Report) -> Iterator[tuple[str, str]]:
    for row in report.models:
        name = row.title if row.variant == "default" else f"{row.title}, {row.variant}"
        for column, cell in zip(report.columns, row.cells, strict=True):
            if cell is not None and cell.judgement.outcome is not None:
                where = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
                yield f"{name}, {where}", cell.judgement.rule
    judged: list[AlignRow | CheckRow | RecomputedRow] = [*report.alignment, *report.recomputed]
    for other in (*judged, *report.checks):
        if other.judgement.outcome is not None:
            yield other.run, other.judgement.rule
    for compared_row in report.variants:
        if compared_row.judgement.outcome is not None:
            where = " ".join(filter(None, (label(compared_row.phase), compared_row.implementation)))
            yield (
                f"variant {compared_row.variant} of {compared_row.title}, {where}",
                compared_row.judgement.rule,
            )
    for line in report.curves:
        if line.judgement.outcome is not None:
            name = line.model if line.variant == "default" else f"{line.model}, {line.variant}"
            yield f"loss curves of {name}, {label(line.phase)}", line.judgement.rule
