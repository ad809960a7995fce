"""The top of the page: every model and phase at a glance, and failures by cause. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ddqjobs.base.errors import listed
from ddqjobs.base.units import counted
from ddqjobs.report import missing
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.document import Report
from ddqjobs.report.page.facts import Facts
from ddqjobs.report.results import OPTIONAL
from ddqjobs.report.verdict import HOLDS, Outcome
from ddqjobs.spec.model import FailureClass, JobState, Plan, PlannedRun, Status

_ADVICE = {
    FailureClass.OUT_OF_MEMORY: "Give it more memory first (smaller batches are another experiment).",
    FailureClass.STORAGE: "Free room on the disk first.",
    FailureClass.LIMIT: "Raise the limit that its reason names first.",
    FailureClass.NETWORK: "The processes did not meet. To try once more:",
    FailureClass.ENVIRONMENT: "Build its environment anew first: ddqjobs env build.",
    FailureClass.DATA: "Look at its data and inputs first: ddqjobs data verify.",
    FailureClass.CODE: "Correct its code or configuration first.",
    FailureClass.NO_PRODUCT: "Correct what it writes first.",
    FailureClass.DIVERGED: "It counts as a failure of the method unless another try ends well:",
    FailureClass.HANG: "Look where it hung first: hang.json in its attempt.",
    FailureClass.NODE: "Tell the administrators which node it was{}. To try once more:",
}


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one column of the heat map."""

    cell: Cell | None
    tone: str  # the verdict, else failed, active or none
    text: str  # AP, or the state of its runs
    word: str  # verdict in one or two words
    place: float | None  # of the difference, percent; the tolerance is from a third to two thirds
    done: int
    runs: int
    failed: int
    why: str  # of the failed ones, where the value does not say it
    again: int  # failed, and may be tried again
    to_come: float  # GPU hours
    anchor: str  # of its row in the table


class HeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model and variant."""

    row: ModelRow
    marks: tuple[Mark | None, ...]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Failed runs that have one reason, and how to go on."""

    title: str
    again: bool  # they may be tried again as they are
    reason: str
    last_line: str
    runs: tuple[str, ...]
    waiting: int  # runs that wait for them
    advice: str
    command: str


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one state, and their share in percent."""

    state: str
    word: str
    count: int
    share: float


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the first screen."""

    good: int
    judged: int
    counts: tuple[Count, ...]
    runs: int
    optional: int  # runs that nobody asked for
    wall: float  # hours of all jobs
    used: float
    to_come: float
    unknown: int  # runs to come of which no GPU hours are known
    when: str
    remaining: dict[str, float]  # what is the matter with outstanding runs -> their GPU hours
    heat: tuple[HeatRow, ...]
    causes: tuple[Cause, ...]


def glance(report: Report, plan: Plan, facts: Facts, to_come: Mapping[str, float]) -> Glance:
    """Return the first screen of the runs of a plan. ``to_come``: run -> GPU hours."""
    runs = plan.runs
    total = next((row for row in report.hours if not row.phase and not row.model), None)
    asked = [planned for planned in runs if _is_asked(planned)]
    judged = [c.judgement.outcome for row in report.models for c in row.cells if c and c.required]
    known = [outcome for outcome in judged if outcome is not None]
    return Glance(
        good=sum(outcome in HOLDS for outcome in known),
        judged=len(known),
        counts=_counts(asked),
        runs=len(asked),
        optional=len(runs) - len(asked),
        wall=total.wall if total else 0.0,
        used=total.used if total else 0.0,
        to_come=total.to_come if total else 0.0,
        unknown=total.unknown if total else 0,
        when=_when(runs, total.to_come if total else 0.0, to_come),
        remaining={m.what: sum(to_come.get(run, 0.0) for run in m.runs) for m in report.missing},
        heat=_heat(report, runs, to_come),
        causes=causes(plan, facts),
    )


def _is_asked(planned: PlannedRun) -> bool:
    """Return whether a run counts: it is required, was submitted, or is there."""
    return not planned.run.optional or bool(planned.submissions) or planned.status is Status.DONE


def _counts(runs: Sequence[PlannedRun]) -> tuple[Count, ...]:
    states = ["again" if planned.again else planned.word for planned in runs]
    counts = [(state, states.count(state)) for state in _STATES]
    return tuple(
        Count(state=s, word=_WORDS.get(s, s), count=n, share=round(100 * n / len(states), 2))
        for s, n in counts
        if n
    )


_STATES = ("done", "active", "eligible", "waiting", "cancelled", "again", "failed")
_WORDS = {"again": "failed, to be tried again"}


def _when(runs: Iterable[PlannedRun], hours: float, to_come: Mapping[str, float]) -> str:
    """Return how long what remains takes on the GPUs that are in use now; where none are, on those that one
    of its runs asks for."""
    runs = list(runs)
    running = [planned.run.resources for planned in runs if planned.state is JobState.RUNNING]
    gpus = sum(r.gpus * r.nodes for r in running)
    where = f"on the {counted(gpus, 'GPU')} now in use"
    if not gpus:
        left = [planned.run.resources for planned in runs if to_come.get(planned.run.name)]
        gpus = max((r.gpus * r.nodes for r in left), default=0)
        where = f"with one run at a time on {counted(gpus, 'GPU')}"
    if not gpus or not hours:
        return ""
    days = hours / gpus / 24
    length = f"{days:.0f} days" if days >= 2 else f"{hours / gpus:.0f} hours"
    return f"about {length} {where}"


# ------------------------------------------------------------------------------------------------ heat map


def anchor(column: int, row: int) -> str:
    """Return the name of a model's row in the table of a column."""
    return f"ap-{column}-{row}"


def _heat(report: Report, runs: Sequence[PlannedRun], to_come: Mapping[str, float]) -> tuple[HeatRow, ...]:
    places: dict[tuple[str, str, str, str], list[PlannedRun]] = {}
    for planned in runs:
        place = (planned.run.phase, planned.run.implementation, planned.run.model, planned.run.variant)
        places.setdefault(place, []).append(planned)
    rows = []
    for number, row in enumerate(report.models):
        marks = [
            _mark(cell, places.get((column.phase, column.implementation, row.model, row.variant), []),
                  to_come, anchor(i, number))
            for i, (column, cell) in enumerate(zip(report.columns, row.cells, strict=True))
        ]  # fmt: skip
        rows.append(HeatRow(row=row, marks=tuple(marks)))
    return tuple(rows)


def _mark(
    cell: Cell | None, runs: Sequence[PlannedRun], to_come: Mapping[str, float], name: str
) -> Mark | None:
    if cell is None:
        return None
    asked = [planned for planned in runs if _is_asked(planned)]
    failed = [planned for planned in runs if planned.status is Status.FAILED and not planned.cancelled]
    outcome = cell.judgement.outcome
    value = cell.value.mean
    return Mark(
        cell=cell,
        tone=_tone(cell, len(failed)),
        text=cell.value.text.partition(" ")[0] if value is not None else _state(cell, runs),
        word="" if outcome is None else outcome.value,
        place=_place(cell),
        done=sum(planned.status is Status.DONE for planned in asked),
        runs=len(asked),
        failed=len(failed),
        why=_failures(failed) if value is not None else "",
        again=sum(planned.again for planned in runs),
        to_come=sum(to_come.get(planned.run.name, 0.0) for planned in runs),
        anchor=name,
    )


def _tone(cell: Cell, failed: int) -> str:
    outcome = cell.judgement.outcome
    if failed and outcome in (None, Outcome.UNKNOWN):
        return "failed"
    return outcome.value if outcome else "none"


def _state(cell: Cell, runs: Sequence[PlannedRun]) -> str:
    """Return why there is no AP: what failed, else what its runs do."""
    failed = [planned for planned in runs if planned.status is Status.FAILED]
    if failed:
        return failed[0].failure.value if failed[0].failure else "failed"
    if any(planned.state is JobState.RUNNING for planned in runs):
        return "running"
    if any(
        planned.status is Status.ELIGIBLE and not planned.again and _is_asked(planned) for planned in runs
    ):
        return Status.ELIGIBLE.value
    text = cell.value.text
    return "not asked for" if text == OPTIONAL else text


def _failures(failed: Iterable[PlannedRun]) -> str:
    return ", ".join(dict.fromkeys(planned.failure.value for planned in failed if planned.failure))


def _place(cell: Cell) -> float | None:
    if cell.difference is None or cell.tolerance is None:
        return None
    if cell.tolerance > 0:
        return round(min(98.0, max(2.0, 50 + 100 / 6 * cell.difference / cell.tolerance)), 1)
    # Without a tolerance there is no unit: any difference stands at the end of the line.
    return 50.0 if cell.difference == 0 else 98.0 if cell.difference > 0 else 2.0


# ------------------------------------------------------------------------------------------------ failures


def causes(plan: Plan, facts: Facts) -> tuple[Cause, ...]:
    """Return the failed runs of a plan by cause, the most frequent first, to be tried again last."""
    groups: dict[tuple[str, bool, str], list[PlannedRun]] = {}
    for planned in plan.runs:
        if (planned.status is Status.FAILED and not planned.cancelled) or planned.again:
            kind = planned.failure.value if planned.failure else "failed"
            key = (kind, planned.again, re.sub(r"\d+", "#", planned.reason))
            groups.setdefault(key, []).append(planned)
    waiting: dict[str, int] = {}
    for planned in plan.runs:
        for name in planned.run.upstream if planned.status is Status.WAITING else ():
            waiting[name] = waiting.get(name, 0) + 1
    all_causes = [_cause(plan, kind, runs, facts, waiting) for (kind, *_), runs in groups.items()]
    return tuple(sorted(all_causes, key=lambda cause: (cause.again, -len(cause.runs))))


def _cause(
    plan: Plan, kind: str, runs: Sequence[PlannedRun], facts: Facts, waiting: Mapping[str, int]
) -> Cause:
    names = tuple(planned.run.name for planned in runs)
    tail = next((f.log_tail for n in names if (f := facts.runs.get(n)) is not None and f.log_tail), ())
    failure = runs[0].failure
    return Cause(
        title=kind,
        again=runs[0].again,
        reason=re.sub(rf"^(retry \d+ of \d+ after )?{re.escape(kind)}: ", "", runs[0].reason),
        last_line=tail[-1] if tail else "",
        runs=names,
        waiting=sum(waiting.get(name, 0) for name in names),
        advice=_ADVICE.get(failure, "").format(_nodes(names, facts)) if failure is not None else "",
        # All are named, however many: the same command without names takes the failures of other causes too.
        command=missing.command(("submit" if runs[0].again else "retry",), plan.experiment, names, plan.site),
    )


def _nodes(runs: Iterable[str], facts: Facts) -> str:
    """Return `` (gpu7)``: where the last attempt of each run was."""
    known = [f.attempts[-1].host for name in runs if (f := facts.runs.get(name)) is not None and f.attempts]
    hosts = list(dict.fromkeys(filter(None, known)))
    return f" ({listed(hosts, _MOST_NODES)})" if hosts else ""


_MOST_NODES = 6
