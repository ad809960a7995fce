"""The report: results against their references, as one versioned document. Rendering it is another
module's work (:mod:`ddqjobs.report_formats`); what both say is decided here, once.

Three tables: AP (a row per model and variant, a cell per phase and implementation), alignment (a row per
align run), checks (convert, unit test, smoke and prepare runs); then a summary line per phase, one overall,
and what is missing together with the command that brings it.

Rules:

* A cell's AP is its test runs'; a phase that only trains shows the last validation of its trainings. A cell
  with several test tasks becomes one column per task.
* ``against: reference`` compares with the published AP, or with the AP of the reference task's run; a
  variant for which the figure does not hold has no verdict. ``against: PHASE`` compares with that phase's
  same model, same variant where it exists there (else ``default``), same implementation where it exists
  there (else the experiment's first), seed by seed where both have them.
* A verdict needs all seeds of its cell, and counts as required unless all of the cell's runs are optional.
* ``ok`` is what ``report --check`` asks: every required run done, no required verdict short or unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from ddqjobs import report_checks, verdict
from ddqjobs.experiment import Experiment
from ddqjobs.model import Plan, PlannedRun, Product, Progress, Status, TaskKind
from ddqjobs.report_checks import AlignRow, CheckRow, Missing
from ddqjobs.results import METRICS, NAN, NO_OBJECTS, OPTIONAL, Row, Score, rows, score
from ddqjobs.verdict import Judgement, Outcome

VERSION = 1
REFERENCE = "reference"
NO_TOLERANCE = "no tolerance given"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A phase's results in one implementation. ``task`` is set only where a phase has several test tasks."""

    phase: str
    implementation: str
    task: str
    title: str  # of the phase
    against: str


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of a cell, in AP points; ``text`` says it, or why there is none."""

    text: str
    mean: float | None = None
    sd: float | None = None
    n: int = 0
    quanta: tuple[int, ...] = ()  # each seed's, in 0.1 points


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One model and variant in one column, with the evidence: ``runs`` names its runs."""

    values: dict[str, Value]  # metric -> value
    reference: float | None  # what AP is compared with, points
    difference: float | None  # points
    difference_text: str
    tolerance: float | None  # points
    judgement: Judgement
    required: bool
    adopted: bool
    stale: bool
    runs: tuple[str, ...]


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model and variant across all columns; None where the plan has no such run."""

    model: str
    title: str
    variant: str
    reference: float | None  # published or reference task's AP, points
    reference_text: str
    source: str
    cells: tuple[Cell | None, ...]


class PhaseSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line per phase, and what it counts (required AP verdicts)."""

    phase: str
    text: str
    good: int
    short: int
    unknown: int
    judged: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The document. ``version`` changes when a key changes its meaning or goes away."""

    version: int = VERSION
    kind: str = "report"
    experiment: str
    title: str
    ok: bool
    outcome: Outcome | None
    overall: str
    metrics: tuple[str, ...]
    columns: tuple[Column, ...]
    models: tuple[ModelRow, ...]
    alignment: tuple[AlignRow, ...]
    checks: tuple[CheckRow, ...]
    summary: tuple[PhaseSummary, ...]
    missing: tuple[Missing, ...]
    footnotes: tuple[str, ...]
    runs: tuple[Row, ...]


def build(
    experiment: Experiment,
    plan: Plan,
    products: Mapping[str, Product],
    *,
    progress: Mapping[str, Progress] | None = None,
    metrics: Sequence[str] = ("AP",),
    only: Collection[str] | None = None,
) -> Report:
    """The report of a plan. ``progress`` (run -> Progress) refines running cells; ``metrics`` are names of
    :data:`ddqjobs.results.METRICS` (AP is always there); ``only`` shows these runs and judges by all."""
    shown = ("AP", *(m for m in METRICS if m in metrics and m != "AP"))
    table = rows(plan, products, progress)
    desk = _Desk(experiment, plan, products, table)
    wanted = {row.run for row in table} if only is None else set(only)
    columns = desk.columns(wanted)
    models = tuple(_model_rows(desk, columns, shown, wanted))
    picked = [p for p in plan.runs if p.run.name in wanted]
    says = {row.run: row.says for row in table}
    aligned = report_checks.align_rows(picked, products, says)
    checked = report_checks.check_rows(picked, products, says)
    outcomes = _outcomes(models, aligned, checked, picked, says)
    return Report(
        experiment=experiment.name,
        title=experiment.title,
        ok=bool(picked) and not {Outcome.SHORT, Outcome.UNKNOWN} & set(outcomes),
        outcome=verdict.overall(outcomes),
        overall=_overall(outcomes, picked),
        metrics=shown,
        columns=columns,
        models=models,
        alignment=aligned,
        checks=checked,
        summary=tuple(_summaries(experiment, columns, models, aligned, picked)),
        missing=report_checks.missing(experiment.name, picked, says),
        footnotes=_footnotes(models, aligned, checked),
        runs=tuple(row for row in table if row.run in wanted),
    )


class _Side(msgspec.Struct, frozen=True, kw_only=True):
    """What an AP is compared with: values by seed, or the problem that there are none."""

    name: str  # for the rule's sentence
    values: dict[int | None, Fraction] = {}
    seeds: bool = True  # False: one figure, whatever seeds it was made with
    problem: str = ""
    absent: str = ""  # there is nothing to compare with by design: no verdict


Place = tuple[str, str, str, str]  # phase, implementation, model, variant


class _Desk:
    """Everything laid out for look-up: planned runs, scores, and the runs of each place of the AP table."""

    def __init__(
        self, experiment: Experiment, plan: Plan, products: Mapping[str, Product], table: Sequence[Row]
    ) -> None:
        self.experiment, self.products = experiment, products
        self.planned: dict[str, PlannedRun] = {p.run.name: p for p in plan.runs}
        self.says = {row.run: row.says for row in table}
        self.by_task: dict[tuple[str, str], list[PlannedRun]] = {}  # task, model
        found: dict[Place, list[PlannedRun]] = {}
        for p in plan.runs:
            run = p.run
            self.by_task.setdefault((run.task, run.model), []).append(p)
            if run.kind in (TaskKind.TEST, TaskKind.TRAIN) and run.phase and run.model:
                found.setdefault((run.phase, run.implementation, run.model, run.variant), []).append(p)
        self.places = {place: _tests_or_trainings(runs) for place, runs in found.items()}
        # Phase, model, variant -> implementation -> runs: where the other side of a comparison is found.
        self.sides: dict[tuple[str, str, str], dict[str, list[PlannedRun]]] = {}
        self.split: set[tuple[str, str]] = set()  # phase, implementation: a cell would hold several tasks
        for (phase, implementation, model, variant), runs in self.places.items():
            self.sides.setdefault((phase, model, variant), {})[implementation] = runs
            if len({p.run.task for p in runs}) > 1:
                self.split.add((phase, implementation))
        self._published: dict[str, _Side] = {}

    def columns(self, wanted: Collection[str]) -> tuple[Column, ...]:
        """Columns in the experiment's order that hold at least one wanted run."""
        found: dict[tuple[str, str, str], None] = {}
        for (phase, implementation, _, _), runs in self.places.items():
            for p in runs:
                if p.run.name in wanted:
                    task = p.run.task if (phase, implementation) in self.split else ""
                    found[phase, implementation, task] = None
        phases, implementations = _order(self.experiment.phases), _order(self.experiment.implementations)
        last = len(found) + len(phases)
        order = sorted(found, key=lambda k: (phases.get(k[0], last), implementations.get(k[1], last)))
        sections = self.experiment.phases
        return tuple(
            Column(
                phase=phase,
                implementation=implementation,
                task=task,
                title=sections[phase].title if phase in sections else "",
                against=sections[phase].against if phase in sections else REFERENCE,
            )
            for phase, implementation, task in order
        )

    def scores(self, runs: Iterable[PlannedRun], metric: str = "AP") -> dict[int | None, Score]:
        """Scores of the done runs, by seed."""
        return {
            p.run.seed: score(self.products[p.run.name], metric)
            for p in runs
            if p.status is Status.DONE and p.run.name in self.products
        }

    def state(self, runs: Sequence[PlannedRun]) -> str:
        """What unfinished runs say together: ``waiting``, or ``1 running, 2 waiting``."""
        words: dict[str, int] = {}
        for p in runs:
            words[self.says[p.run.name]] = words.get(self.says[p.run.name], 0) + 1
        if len(words) == 1:
            return next(iter(words))
        return ", ".join(f"{count} {word}" for word, count in words.items())

    def published(self, model: str) -> _Side:
        """The reference of a model: its figure, or the AP of its reference task's run."""
        if model not in self._published:
            self._published[model] = self._find_published(model)
        return self._published[model]

    def _find_published(self, model: str) -> _Side:
        section = self.experiment.models.get(model)
        reference = section.reference if section else None
        if reference is None or (reference.ap is None and reference.task is None):
            return _Side(name="", absent="no reference")
        if reference.ap is not None:
            value = verdict.from_points(reference.ap)
            source = f" ({reference.source})" if reference.source else ""
            name = f"the published {verdict.format_points(value)}{source}"
            return _Side(name=name, values={None: value}, seeds=False)
        task = reference.task or ""
        runs = self.by_task.get((task, model)) or self.by_task.get((task, ""), [])
        runs = [p for p in runs if p.run.variant == "default"] or runs
        side = self.side(runs, f"task {reference.task}")
        if side.problem:
            return side
        return _Side(name=side.name, values=side.values, seeds=False)

    def phase_side(self, place: Place, phase: str, task: str) -> _Side:
        """The same model in another phase; see the module's rules for variant and implementation."""
        _, implementation, model, variant = place
        for wanted in (variant, "default"):
            here = self.sides.get((phase, model, wanted))
            if here:
                order = [implementation, *self.experiment.implementations, *here]
                runs = here[next(i for i in order if i in here)]
                same = [p for p in runs if p.run.task == (task or runs[0].run.task)]
                runs = same or [p for p in runs if p.run.task == runs[0].run.task]
                return self.side(runs, label(phase))
        return _Side(name=label(phase), problem=f"no run in {label(phase)}")

    def side(self, runs: Sequence[PlannedRun], name: str) -> _Side:
        """The AP of some runs as the other side of a comparison."""
        if not runs:
            return _Side(name=name, problem=f"no run of {name}")
        found = self.scores(runs)
        if len(found) < len(runs):
            return _Side(name=name, problem=f"{name} is {self.state(runs)}")
        values = {seed: Fraction(s.quanta) for seed, s in found.items() if s.quanta is not None}
        if len(values) < len(found):
            notes = ", ".join(dict.fromkeys(s.note for s in found.values() if s.note))
            return _Side(name=name, problem=f"AP of {name}: {notes}")
        mean = verdict.format_points(verdict.mean(values.values()))
        return _Side(name=f"the {mean} of {name}", values=values)


def _tests_or_trainings(runs: list[PlannedRun]) -> list[PlannedRun]:
    return [p for p in runs if p.run.kind is TaskKind.TEST] or runs


def _order(words: Iterable[str]) -> dict[str, int]:
    return {word: i for i, word in enumerate(words)}


def label(phase: str) -> str:
    """``phase 1`` for phases that are numbers, else the phase's own name."""
    return f"phase {phase}" if phase[:1].isdigit() else phase


def _model_rows(
    desk: _Desk, columns: Sequence[Column], metrics: Sequence[str], wanted: Collection[str]
) -> Iterable[ModelRow]:
    """Rows in the experiment's order of models, then in the plan's order of variants."""
    found: dict[tuple[str, str], None] = {}
    for (_, _, model, variant), runs in desk.places.items():
        if any(p.run.name in wanted for p in runs):
            found[model, variant] = None
    names = _order(desk.experiment.models)
    variants = _order(dict.fromkeys(["default", *desk.experiment.variants]))
    last = len(names) + len(variants)
    for model, variant in sorted(found, key=lambda k: (names.get(k[0], last), variants.get(k[1], last))):
        section = desk.experiment.models.get(model)
        side = desk.published(model)
        value = None if side.problem or side.absent else verdict.mean(side.values.values())
        places = [(c.phase, c.implementation, model, variant) for c in columns]
        yield ModelRow(
            model=model,
            title=(section.title if section else "") or model,
            variant=variant,
            reference=None if value is None else verdict.to_points(value),
            reference_text=verdict.format_points(value) if value is not None else side.problem or "none",
            source=(section.reference.source or section.reference.task or "") if section else "",
            cells=tuple(_cell(desk, c, p, metrics, wanted) for c, p in zip(columns, places, strict=True)),
        )


def _cell(
    desk: _Desk, column: Column, place: Place, metrics: Sequence[str], wanted: Collection[str]
) -> Cell | None:
    runs = [p for p in desk.places.get(place, []) if p.run.name in wanted and column.task in ("", p.run.task)]
    if not runs:
        return None
    side = _other_side(desk, column, place, runs)
    ours = desk.scores(runs)
    difference, n, how = _difference(ours, side)
    allowed = dict(runs[0].run.tolerances).get("ap")
    tolerance = None if allowed is None else verdict.from_points(allowed)
    points = None if difference is None else verdict.to_points(difference)
    return Cell(
        values={metric: _value(desk, runs, metric) for metric in metrics},
        reference=verdict.to_points(verdict.mean(side.values.values())) if side.values else None,
        difference=points,
        difference_text="" if difference is None else verdict.format_difference(difference),
        tolerance=allowed,
        judgement=_judge(desk, runs, side, column, (difference, tolerance, n, how)),
        required=not all(p.run.optional for p in runs),
        adopted=any(desk.products[p.run.name].adopted_from for p in runs if p.run.name in desk.products),
        stale=any(p.stale for p in runs),
        runs=tuple(p.run.name for p in runs),
    )


def _other_side(desk: _Desk, column: Column, place: Place, runs: Sequence[PlannedRun]) -> _Side:
    if column.against != REFERENCE:
        return desk.phase_side(place, column.against, column.task)
    if not all(p.run.comparable for p in runs):
        return _Side(name="", absent="no reference for this variant")
    return desk.published(place[2])


def _difference(ours: Mapping[int | None, Score], side: _Side) -> tuple[Fraction | None, int, str]:
    """(difference in quanta, values it stands on, how it was taken); None without numbers on both sides."""
    values = {seed: s.quanta for seed, s in ours.items() if s.quanta is not None}
    if not values or not side.values or len(values) < len(ours):
        return None, len(values), ""
    if side.seeds:
        return verdict.paired(values, side.values)
    difference = verdict.mean(values.values()) - verdict.mean(side.values.values())
    return difference, len(values), "mean" if len(values) > 1 else ""


def _judge(
    desk: _Desk,
    runs: Sequence[PlannedRun],
    side: _Side,
    column: Column,
    measured: tuple[Fraction | None, Fraction | None, int, str],
) -> Judgement:
    difference, tolerance, n, how = measured
    ours = desk.scores(runs)
    rule = f"AP against {side.name}" if side.name else "AP"
    notes = [s.note for s in ours.values() if s.note]
    if NAN in notes:
        return verdict.diverged(f"{rule}; a metric is NaN", len(ours))
    if side.absent:
        return verdict.unjudged(side.absent)
    if tolerance is None:
        return verdict.unjudged(NO_TOLERANCE)
    if all(desk.says[p.run.name] == OPTIONAL for p in runs):
        return verdict.unjudged("not asked for")
    if len(ours) < len(runs):
        why = desk.state(runs) if not ours else f"{len(ours)} of {len(runs)} seeds done"
        return verdict.unknown(why, rule)
    if notes:
        return verdict.unknown(f"AP: {notes[0]}", rule)
    if side.problem or difference is None:
        return verdict.unknown(side.problem or "nothing to compare with", rule)
    published = column.against == REFERENCE
    return verdict.judge(difference, tolerance, n=n, reference=side.name, published=published, how=how)


def _value(desk: _Desk, runs: Sequence[PlannedRun], metric: str) -> Value:
    found = list(desk.scores(runs, metric).values())
    if not found:
        return Value(text=desk.state(runs))
    n, of = len(found), len(runs)
    for note, text in ((NAN, NAN), ("missing", "missing"), (NO_OBJECTS, "–")):
        count = sum(s.note == note for s in found)
        if count:
            return Value(text=text if count == of else f"{text} ({count} of {of})", n=n - count)
    quanta = tuple(s.quanta for s in found if s.quanta is not None)
    mean, sd = verdict.mean(quanta), verdict.deviation(quanta)
    text = verdict.format_points(mean)
    if sd is not None:
        text += f" ± {sd / verdict.QUANTA_PER_POINT:.2f}"
    if of > 1:
        text += f" (n={n})" if n == of else f" ({n} of {of})"
    return Value(
        text=text,
        mean=verdict.to_points(mean),
        sd=None if sd is None else sd / verdict.QUANTA_PER_POINT,
        n=n,
        quanta=quanta,
    )


def _outcomes(
    models: Iterable[ModelRow],
    aligned: Iterable[AlignRow],
    checked: Iterable[CheckRow],
    picked: Iterable[PlannedRun],
    says: Mapping[str, str],
) -> list[Outcome | None]:
    """Outcomes of all that is required; a required run that is not done, is stale, or whose product is gone,
    is one: *unknown*."""
    cells = [c for row in models for c in row.cells if c is not None and c.required]
    found = [c.judgement.outcome for c in cells]
    found += [r.judgement.outcome for r in aligned if r.required]
    found += [r.judgement.outcome for r in checked if r.required]
    undone = sum(not p.run.optional and (says[p.run.name] != "done" or bool(p.stale)) for p in picked)
    return found + [Outcome.UNKNOWN] * undone


def _overall(outcomes: Sequence[Outcome | None], picked: Sequence[PlannedRun]) -> str:
    required = [p for p in picked if not p.run.optional]
    done = sum(p.status is Status.DONE for p in required)
    outcome = verdict.overall(outcomes)
    word = outcome.value if outcome else "nothing to judge"
    return f"overall: {word}; {done} of {len(required)} required runs done"


def _summaries(
    experiment: Experiment,
    columns: Sequence[Column],
    models: Sequence[ModelRow],
    aligned: Sequence[AlignRow],
    picked: Sequence[PlannedRun],
) -> Iterable[PhaseSummary]:
    phases = dict.fromkeys([*experiment.phases, *(p.run.phase for p in picked if p.run.phase)])
    for phase in phases:
        runs = [p for p in picked if p.run.phase == phase]
        if not runs:
            continue
        indices = [i for i, c in enumerate(columns) if c.phase == phase]
        cells = [cell for row in models for i in indices if (cell := row.cells[i]) is not None]
        judged = [c.judgement for c in cells if c.required and c.judgement.outcome]
        extra = [c.judgement for c in cells if not c.required and c.judgement.outcome]
        against = columns[indices[0]].against if indices else REFERENCE
        alignments = [r.judgement for r in aligned if r.phase == phase and r.required and r.judgement.outcome]
        counts = [sum(j.outcome is o for j in judged) for o in (Outcome.SHORT, Outcome.UNKNOWN)]
        yield PhaseSummary(
            phase=phase,
            text=_summary_text(phase, against, judged, extra, alignments, runs),
            good=len(judged) - sum(counts),
            short=counts[0],
            unknown=counts[1],
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
        word = "reproduced" if against == REFERENCE else "equal"
        part = f"{word} {sum(j.good for j in judged)} of {len(judged)}"
        bad = [(o, sum(j.outcome is o for j in judged)) for o in (Outcome.SHORT, Outcome.UNKNOWN)]
        if any(count for _, count in bad):
            part += f" ({', '.join(f'{count} {o.value}' for o, count in bad if count)})"
        parts.append(part)
    if alignments:
        parts.append(f"aligned {sum(j.good for j in alignments)} of {len(alignments)}")
    if extra:
        parts.append(f"optional {sum(j.good for j in extra)} of {len(extra)}")
    if not parts:
        done = [p.status is Status.DONE for p in runs if not p.run.optional]
        parts.append(f"nothing to judge, {sum(done)} of {len(done)} done")
    return f"{label(phase)}: {'; '.join(parts)}"


def _footnotes(
    models: Sequence[ModelRow], aligned: Sequence[AlignRow], checked: Sequence[CheckRow]
) -> tuple[str, ...]:
    """What the marks in the tables mean; only those that are used."""
    cells = [c for row in models for c in row.cells if c is not None]
    everything: list[Cell | AlignRow | CheckRow] = [*cells, *aligned, *checked]
    notes = []
    if any(x.adopted for x in everything):
        notes.append("† adopted: made elsewhere and taken in by `ddqjobs adopt`")
    if any(x.stale for x in everything):
        notes.append("‡ stale: made by an earlier configuration, environment or code (reasons below)")
    values = [v for c in cells for v in c.values.values()]
    if any(v.text.startswith("–") for v in values):
        notes.append("– no such objects: the data set has no object of this size")
    if any(v.text.startswith(NAN) for v in values):
        notes.append("nan: the metric is no number, the training diverged")
    if any(c.judgement.n == 1 for c in cells):
        notes.append("n=1: one seed; being within the tolerance does not show that the codes are the same")
    return tuple(notes)
