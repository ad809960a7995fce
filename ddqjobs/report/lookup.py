"""Lay out for look-up what the AP table is made from: runs by place, their scores, and what they are compared
with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from fractions import Fraction

import msgspec

from ddqjobs.planning.failures import INFRASTRUCTURE
from ddqjobs.report import verdict
from ddqjobs.report.columns import Parameters, Row
from ddqjobs.report.results import NAN, Score, score
from ddqjobs.spec.experiment import Experiment, metric_of
from ddqjobs.spec.metric import Metric
from ddqjobs.spec.model import FailureClass, Plan, PlannedRun, Product, Status, TaskKind

REFERENCE = "reference"
Place = tuple[str, str, str, str]  # phase, implementation, model, variant


class Fate(str, Enum):
    """The ways in which a run counts for a verdict."""

    RESULT = "result"  # it has an AP, or a reason why that is no number
    DIVERGED = "diverged"  # its training became NaN: a failure of the method
    CRASHED = "crashed"  # its machine failed it: no statement about the method, so it is left out and counted
    OPEN = "open"  # not there (yet), for any other reason


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A phase's results in one implementation. ``task`` is set only where a phase has several test tasks."""

    phase: str
    """Name of the phase in the experiment file. Example: '3'"""
    implementation: str
    """Name of the implementation, the code that was run. Example: legacy"""
    task: str
    """Name of the test task; empty unless the phase has several test tasks in this implementation. Example:
    p3-test-ema"""
    title: str
    """Title of the phase; empty if it declares none. Example: train the release"""
    against: str
    """Name of the phase that results are compared with, or `reference` for the model's reference. Example:
    reference"""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The side that a result is compared with: values by seed, or the problem that there are none."""

    name: str  # for the rule's sentence
    values: dict[int | None, Fraction] = {}
    runs: tuple[str, ...] = ()  # that have the values; none of a published figure
    exact: dict[int | None, float] = {}  # AP points before rounding, of the seeds where they are known
    seeds: bool = True  # False: one figure, whatever seeds it was made with
    rounded_to: Fraction = Fraction(1)  # a published figure's last digit, quanta
    problem: str = ""
    absent: str = ""  # there is nothing to compare with by design: no verdict


class Desk:
    """Everything laid out for look-up: planned runs, scores, and the runs of each place of the AP table."""

    def __init__(
        self,
        experiment: Experiment,
        plan: Plan,
        products: Mapping[str, Product],
        table: Sequence[Row],
        exact: Mapping[str, float],
    ) -> None:
        self.experiment, self.products, self.exact = experiment, products, exact
        self.planned: dict[str, PlannedRun] = {planned.run.name: planned for planned in plan.runs}
        self.states = {row.run: row.says for row in table}
        self.by_task: dict[tuple[str, str], list[PlannedRun]] = {}  # task, model
        self.grids: dict[str, Parameters] = {}  # variant of a grid -> its parameters
        places: dict[Place, list[PlannedRun]] = {}
        for planned in plan.runs:
            run = planned.run
            if run.grid:
                self.grids[run.variant] = dict(run.grid)
            self.by_task.setdefault((run.task, run.model), []).append(planned)
            if run.kind in (TaskKind.TEST, TaskKind.TRAIN) and run.phase and run.model:
                places.setdefault((run.phase, run.implementation, run.model, run.variant), []).append(planned)
        self.places = {place: _tests_or_trainings(runs) for place, runs in places.items()}
        # Phase, model, variant -> implementation -> runs: where the other side of a comparison is found.
        self.sides: dict[tuple[str, str, str], dict[str, list[PlannedRun]]] = {}
        self.split: set[tuple[str, str]] = set()  # phase, implementation: a cell would hold several tasks
        for (phase, implementation, model, variant), runs in self.places.items():
            self.sides.setdefault((phase, model, variant), {})[implementation] = runs
            if len({planned.run.task for planned in runs}) > 1:
                self.split.add((phase, implementation))
        self._published: dict[str, Side] = {}

    def columns(self, wanted: Collection[str]) -> tuple[Column, ...]:
        """Columns in the experiment's order that hold at least one wanted run."""
        keys: dict[tuple[str, str, str], None] = {}
        for (phase, implementation, _, _), runs in self.places.items():
            for planned in runs:
                if planned.run.name in wanted:
                    task = planned.run.task if (phase, implementation) in self.split else ""
                    keys[phase, implementation, task] = None
        phases, implementations = order(self.experiment.phases), order(self.experiment.implementations)
        last = len(keys) + len(phases)
        places = sorted(keys, key=lambda k: (phases.get(k[0], last), implementations.get(k[1], last)))
        sections = self.experiment.phases
        return tuple(
            Column(
                phase=phase,
                implementation=implementation,
                task=task,
                title=sections[phase].title if phase in sections else "",
                against=sections[phase].against if phase in sections else REFERENCE,
            )
            for phase, implementation, task in places
        )

    def metric(self, model: str) -> Metric:
        """Return what results of a model are judged by."""
        return metric_of(self.experiment, model)

    def scores(self, runs: Iterable[PlannedRun], metric: Metric) -> dict[int | None, Score]:
        """Scores of the done runs, by seed."""
        return {
            planned.run.seed: score(self.products[planned.run.name], metric)
            for planned in runs
            if planned.status is Status.DONE and planned.run.name in self.products
        }

    def exact_of(self, runs: Iterable[PlannedRun], metric: Metric) -> dict[int | None, float]:
        """AP before rounding, points, by seed, of the runs whose AP was recomputed."""
        if not (metric.is_box_ap and metric.is_fraction):
            return {}
        return {
            planned.run.seed: self.exact[planned.run.name]
            for planned in runs
            if planned.run.name in self.exact
        }

    def made_by(self, names: Iterable[str]) -> list[Product]:
        """Return the products of runs, and of the trainings whose checkpoints they tested."""
        products = []
        for name in names:
            planned = self.planned.get(name)
            upstream = planned.run.upstream if planned is not None else ()
            trained = [
                n for n in upstream if n in self.planned and self.planned[n].run.kind is TaskKind.TRAIN
            ]
            products += [self.products[n] for n in (name, *trained) if n in self.products]
        return products

    def fate(self, planned: PlannedRun) -> Fate:
        """Return how a run counts for a verdict. One that waits for a training shares that training's
        fate."""
        if planned.status is Status.DONE and planned.run.name in self.products:
            note = score(self.products[planned.run.name], self.metric(planned.run.model)).note
            return Fate.DIVERGED if note == NAN else Fate.RESULT
        if planned.status is Status.FAILED:
            if planned.failure is FailureClass.DIVERGED:
                return Fate.DIVERGED
            return Fate.CRASHED if planned.failure in INFRASTRUCTURE else Fate.OPEN
        if planned.status is Status.WAITING:
            upstream = [
                self.fate(self.planned[name]) for name in planned.run.upstream if name in self.planned
            ]
            return next((f for f in (Fate.DIVERGED, Fate.CRASHED) if f in upstream), Fate.OPEN)
        return Fate.OPEN

    def with_fate(self, runs: Iterable[PlannedRun], *fates: Fate) -> list[PlannedRun]:
        """Those of the runs that met one of these."""
        return [planned for planned in runs if self.fate(planned) in fates]

    def state(self, runs: Sequence[PlannedRun]) -> str:
        """Return the state of unfinished runs together: ``waiting``, or ``1 running, 2 waiting``."""
        counts: dict[str, int] = {}
        for planned in runs:
            word = self._state(planned)
            counts[word] = counts.get(word, 0) + 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count} {word}" for word, count in counts.items())

    def _state(self, planned: PlannedRun) -> str:
        """Return ``waiting (out-of-memory)`` for a run that waits for one that failed."""
        state = self.states[planned.run.name]
        above = [self.planned[name] for name in planned.run.upstream if name in self.planned]
        failed = [u.failure.value for u in above if u.status is Status.FAILED and u.failure is not None]
        return f"{state} ({failed[0]})" if failed and planned.status is Status.WAITING else state

    def published(self, model: str) -> Side:
        """The reference of a model: its figure, or the AP of its reference task's run."""
        if model not in self._published:
            self._published[model] = self._find_published(model)
        return self._published[model]

    def _find_published(self, model: str) -> Side:
        section = self.experiment.models.get(model)
        reference = section.reference if section else None
        metric = self.metric(model)
        if reference is None or (reference.figure is None and reference.task is None):
            return Side(name="", absent="no reference")
        if reference.figure is not None:
            value = verdict.from_points(reference.figure, metric.quanta)
            source = f" ({reference.source})" if reference.source else ""
            name = f"the published {verdict.format_points(value, metric.decimals)}{source}"
            last = reference.rounded_to
            step = Fraction(1) if last is None else verdict.from_points(last, metric.quanta)
            return Side(name=name, values={None: value}, seeds=False, rounded_to=step)
        task = reference.task or ""
        runs = self.by_task.get((task, model)) or self.by_task.get((task, ""), [])
        runs = [planned for planned in runs if planned.run.variant == "default"] or runs
        side = self.side(runs, f"task {reference.task}", metric)
        if side.problem:
            return side
        return msgspec.structs.replace(side, seeds=False)

    def phase_side(self, place: Place, phase: str, task: str) -> Side:
        """The same model in another phase; see the module's rules for variant and implementation."""
        runs = self.opposite(place, phase, task)
        if not runs and self._alone(place[3]):
            return Side(name="", absent=f"not in {label(phase)}")
        if not runs:
            return Side(name=label(phase), problem=f"no run in {label(phase)}")
        return self.side(runs, label(phase), self.metric(place[2]))

    def opposite(self, place: Place, phase: str, task: str) -> list[PlannedRun]:
        """Return the runs of another phase that a place is compared with; empty if there are none."""
        _, implementation, model, variant = place
        for wanted in (variant,) if self._alone(variant) else (variant, "default"):
            here = self.sides.get((phase, model, wanted))
            if here:
                sought = [implementation, *self.experiment.implementations, *here]
                runs = here[next(i for i in sought if i in here)]
                same = [planned for planned in runs if planned.run.task == (task or runs[0].run.task)]
                return same or [planned for planned in runs if planned.run.task == runs[0].run.task]
        return []

    def _alone(self, variant: str) -> bool:
        """Tell a variant of a grid, which no other setting speaks for unless it is the baseline."""
        return variant in self.grids and variant != self.experiment.baseline

    def side(self, runs: Sequence[PlannedRun], name: str, metric: Metric) -> Side:
        """The results of some runs as the other side of a comparison."""
        if not runs:
            return Side(name=name, problem=f"no run of {name}")
        diverged = self.with_fate(runs, Fate.DIVERGED)
        if diverged:
            return Side(name=name, problem=f"{name} diverged in {len(diverged)} of {len(runs)} runs")
        kept = [planned for planned in runs if self.fate(planned) is not Fate.CRASHED]
        scores = self.scores(kept, metric)
        if not kept or len(scores) < len(kept):
            return Side(name=name, problem=f"{name} is {self.state(runs)}")
        values = {seed: Fraction(s.quanta) for seed, s in scores.items() if s.quanta is not None}
        if len(values) < len(scores):
            notes = ", ".join(dict.fromkeys(s.note for s in scores.values() if s.note))
            return Side(name=name, problem=f"{metric.name} of {name}: {notes}")
        mean = verdict.format_points(verdict.mean(values.values()), metric.decimals)
        return Side(
            name=f"the {mean} of {name}",
            values=values,
            runs=tuple(planned.run.name for planned in kept),
            exact=self.exact_of(kept, metric),
        )


def _tests_or_trainings(runs: list[PlannedRun]) -> list[PlannedRun]:
    return [planned for planned in runs if planned.run.kind is TaskKind.TEST] or runs


def order(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def label(phase: str) -> str:
    """``phase 1`` for phases that are numbers, else the phase's own name."""
    return f"phase {phase}" if phase[:1].isdigit() else phase
