"""A report and the facts behind it, as what the page shows. Pure: geometry in percent, texts, panels."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ddqjobs.base.units import clock
from ddqjobs.report.cells import Cell
from ddqjobs.report.lookup import label
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page.facts import Facts
from ddqjobs.report.page.plots import Line, Panel
from ddqjobs.report.results import METRICS, score
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Attempt, Plan, PlannedRun, Product, Status

MOST_PANELS = 300  # a page with more is slow to make and to look at: terms of losses are left out first
MOST_POINTS = 200_000  # of all lines together: eleven bytes each; more are thinned once more
_SANE = (946684800.0, 7258118400.0)  # 2000 to 2200: a clock that says anything else is wrong
_FEW = 40  # points: of a line of so few, each is shown
_BEST = ("loss", "AP", "lr")
_ORDER = (*_BEST, "grad_norm")


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's AP on a line, positions in percent: the tolerance band, the reference, each seed, the mean
    and its 90 % interval."""

    band: tuple[float, float]
    reference: float
    seeds: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None


def strip(cell: Cell) -> Strip | None:
    """None where there is nothing to draw against."""
    value = cell.values["AP"]
    if cell.reference is None or cell.tolerance is None or value.mean is None or not value.quanta:
        return None
    reference: float = cell.reference
    tolerance: float = cell.tolerance
    seeds = [q / 10 for q in value.quanta]
    test = cell.judgement.test
    interval = None if test is None else (reference + test.low, reference + test.high)
    reach: float = 1.25 * max(
        2 * tolerance,
        0.1,
        *(abs(x - reference) for x in (*seeds, value.mean, *(interval or ()))),
    )

    def at(x: float) -> float:
        return round(50 + 50 * (x - reference) / reach, 2)

    return Strip(
        band=(at(reference - tolerance), at(reference + tolerance)),
        reference=50.0,
        seeds=tuple(map(at, seeds)),
        mean=at(value.mean),
        interval=None if interval is None else (at(interval[0]), at(interval[1])),
    )


# ---------------------------------------------------------------------------------------- learning curves


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The trainings of one model and variant, of all codes, overlaid."""

    title: str
    legend: tuple[tuple[str, int, int, str], ...]  # (what, style, dash, run)
    panels: tuple[Panel, ...]
    finals: tuple[tuple[str, str, str, str, str], ...]  # run, logged, iterations, last loss, last AP
    notes: tuple[str, ...]


def groups(
    experiment: Experiment, plan: Plan, curves: Mapping[str, Curve], titles: Mapping[str, str]
) -> list[Group]:
    """One per model and variant that has curves, in the plan's order."""
    found: dict[tuple[str, str], list[PlannedRun]] = {}
    for p in plan.runs:
        if p.run.name in curves:
            found.setdefault((p.run.model or p.run.task, p.run.variant), []).append(p)
    styles = {name: i for i, name in enumerate(experiment.implementations)}
    made = []
    for (model, variant), runs in found.items():
        title = titles.get(model, model)
        made.append(_group(title if variant == "default" else f"{title}, {variant}", runs, curves, styles))
    # What can be compared comes first.
    return _fewer(sorted(made, key=lambda g: len({style for _, style, _, _ in g.legend}) < 2))


def _group(
    title: str, runs: Sequence[PlannedRun], curves: Mapping[str, Curve], styles: Mapping[str, int]
) -> Group:
    legend, finals, notes = [], [], []
    lines: dict[tuple[str, str], list[Line]] = {}
    dashes: dict[int, int] = {}
    for p in runs:
        name, curve = p.run.name, curves[p.run.name]
        style = styles.get(p.run.implementation, 0)
        dashes[style] = dash = dashes.get(style, -1) + 1
        words = [p.run.implementation or p.run.task, label(p.run.phase) if p.run.phase else ""]
        words.append("" if p.run.seed is None else f"seed {p.run.seed}")
        what = ", ".join(filter(None, words))
        legend.append((what, style, dash, name))
        if curve.problem:
            notes.append(f"{name}: {curve.problem}")
        if curve.lost:
            notes.append(f"{name}: {curve.lost} lines of its log are no rows and were passed over")
        for term, points in curve.terms.items():
            line = Line(label=what, style=style, dash=dash, points=points)
            lines.setdefault((term, "iteration"), []).append(line)
        ap = [(x, None if y is None or y < 0 else 100 * y) for x, y in curve.val.get(METRICS["AP"], [])]
        if ap:
            line = Line(label=what, style=style, dash=dash, points=ap)
            lines.setdefault(("AP", curve.val_by), []).append(line)
        finals.append(
            (name, f"{curve.rows:,}", f"{curve.last:,}", _last(curve.terms.get("loss")), _last(ap, 1))
        )
    keys = sorted(lines, key=lambda k: (_ORDER.index(k[0]) if k[0] in _ORDER else len(_ORDER), k[0]))
    panels = tuple(Panel(title=k[0], x=k[1], lines=tuple(lines[k])) for k in keys)
    return Group(title=title, legend=tuple(legend), panels=panels, finals=tuple(finals), notes=tuple(notes))


def _last(points: Sequence[tuple[int, float | None]] | None, decimals: int = 3) -> str:
    if not points:
        return "–"
    value = points[-1][1]
    return "not finite" if value is None else f"{value:.{decimals}f}"


def _fewer(made: list[Group]) -> list[Group]:
    """As many panels as a page can bear: all of them, or only the most important ones, or those of the
    first models."""
    if sum(len(g.panels) for g in made) > MOST_PANELS:
        note = "the terms of the loss are left out on a page of so many trainings: choose runs with --model"
        made = [
            msgspec.structs.replace(
                g, panels=tuple(p for p in g.panels if p.title in _BEST), notes=(*g.notes, note)
            )
            for g in made
        ]
    left, kept = MOST_PANELS, []
    for g in made:
        panels = g.panels[: max(0, left)]
        left -= len(panels)
        kept.append(msgspec.structs.replace(g, panels=panels))
    total = sum(len(line.points) for g in kept for panel in g.panels for line in panel.lines)
    factor = math.ceil(total / MOST_POINTS)
    return kept if factor < 2 else [_thinner(g, 2 * factor) for g in kept]


def _thinner(group: Group, size: int) -> Group:
    panels = []
    for panel in group.panels:
        few = all(len(x.points) <= _FEW for x in panel.lines)
        lines = [msgspec.structs.replace(x, points=extremes(x.points, size)) for x in panel.lines]
        panels.append(panel if few else msgspec.structs.replace(panel, lines=tuple(lines)))
    return msgspec.structs.replace(group, panels=tuple(panels))


def extremes(points: Sequence[tuple[int, float | None]], size: int) -> list[tuple[int, float | None]]:
    """Of each ``size`` points the smallest, the largest and the first that is not finite; the ends stay."""
    kept = {0, len(points) - 1} if points else set()
    for start in range(0, len(points), size):
        places = range(start, min(start + size, len(points)))
        finite = [(y, i) for i in places if (y := points[i][1]) is not None]
        if finite:
            kept.update((min(finite)[1], max(finite)[1]))
        kept.update([i for i in places if points[i][1] is None][:1])
    return [points[i] for i in sorted(kept)]


# ----------------------------------------------------------------------------------------------- attempts


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on the time line, positions in percent of the whole."""

    number: int
    left: float
    width: float
    state: str  # done, failed, stopped or running
    start: str
    length: str
    host: str
    end: str
    odd: str = ""  # what is wrong with its clock


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """All attempts of all runs that were started."""

    first: str
    last: str
    rows: tuple[tuple[str, tuple[Bar, ...]], ...]


def time_line(plan: Iterable[PlannedRun], facts: Facts, now: float) -> TimeLine | None:
    """None if nothing was started."""
    known = [
        (p, facts.runs[p.run.name].attempts, facts.runs[p.run.name].ends)
        for p in plan
        if p.run.name in facts.runs
    ]
    times = [t for _, attempts, _ in known for a in attempts for t in (a.started_at, a.ended_at) if _sane(t)]
    known_times = [t for t in times if t is not None]
    if not known_times:
        return None
    low, high = min(known_times), max(*known_times, min(known_times) + 1)
    rows = tuple(
        (p.run.name, tuple(_bar(p, a, (low, high), now, a is attempts[-1], ends) for a in attempts))
        for p, attempts, ends in known
        if attempts
    )
    return TimeLine(first=moment(low), last=moment(high), rows=rows)


def _sane(at: float | None) -> bool:
    return at is not None and _SANE[0] <= at <= _SANE[1]


def _bar(
    p: PlannedRun, a: Attempt, span: tuple[float, float], now: float, newest: bool, ends: Mapping[int, str]
) -> Bar:
    low, high = span
    odd = ""
    start, end = a.started_at, a.ended_at
    if not _sane(start) or (end is not None and not _sane(end)):
        odd = "its clock was wrong"
        start, end = (start if _sane(start) else low), (end if _sane(end) else None)
    running = end is None and newest and p.status is Status.ACTIVE
    begin = start if start is not None else low
    stop = end if end is not None else min(max(now, begin), high) if running else begin
    if stop < begin:
        odd = f"its clock went back by {clock(begin - stop)}"
    state = "running" if running else "done" if a.exit_code == 0 else "stopped" if a.stopped else "failed"
    how = {"running": "running", "done": "ended well", "stopped": "asked to stop"}.get(state, "")
    if state == "failed":
        code = f"exit {a.exit_code}" if a.exit_code else "left no last word"
        how = ends.get(a.number) or (a.failure.value if a.failure else code)
    return Bar(
        number=a.number,
        left=round(100 * (begin - low) / (high - low), 2),
        width=round(max(0.0, 100 * (stop - begin) / (high - low)), 2),
        state=state,
        start=moment(begin),
        length="" if odd else clock(stop - begin),
        host=a.host,
        end=", ".join(filter(None, (how, a.note))),
        odd=odd,
    )


def moment(at: float | None) -> str:
    """``2026-11-25 09:45``, local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None and _sane(at) else "?"


def metrics(product: Product) -> list[tuple[str, str]]:
    """Return a product's metrics by name: AP and its like in points, others as they are."""
    names = {key: name for name, key in METRICS.items()}
    made = []
    for key, value in product.metrics.items():
        if key in names:
            found = score(product, names[key])
            text = found.note if found.points is None else f"{found.points:.1f}"
        else:
            text = "nan" if value is None else f"{value:.6g}"
        made.append((names.get(key, key), text))
    return made


# ------------------------------------------------------------------------------------------------- hours


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """What one phase took. GPU hours are 0 where nothing asks for GPUs; None: not known."""

    phase: str
    done: int
    runs: int
    wall: float  # hours of all attempts
    wall_kept: float  # of those that made a product
    gpu_planned: float | None
    gpu_used: float
    share: float = 0.0  # used of planned, percent, at most 100

    @property
    def efficiency(self) -> float | None:
        """Return the share of the wall time that ended well, 0 to 1; None before anything ran."""
        return self.wall_kept / self.wall if self.wall else None


def hours(experiment: Experiment, plan: Iterable[PlannedRun], facts: Facts) -> list[Hours]:
    """A row per phase, one for runs of none, and their sum. Optional runs count once they were started."""
    by_phase: dict[str, list[PlannedRun]] = {}
    for p in plan:
        if p.run.name in facts.runs and (not p.run.optional or facts.runs[p.run.name].attempts):
            by_phase.setdefault(p.run.phase, []).append(p)
    order = [phase for phase in (*experiment.phases, "") if phase in by_phase]
    rows = [_hours(label(phase) if phase else "no phase", by_phase[phase], facts) for phase in order]
    everything = [p for runs in by_phase.values() for p in runs]
    return [*rows, _hours("all", everything, facts)] if rows else []


def _hours(name: str, runs: Sequence[PlannedRun], facts: Facts) -> Hours:
    wall = kept = used = 0.0
    planned: list[float | None] = []
    for p in runs:
        gpus = p.run.resources.gpus * p.run.resources.nodes
        found = facts.runs[p.run.name]
        planned.append(p.run.gpu_hours if p.run.hours is not None else found.estimate.gpu_hours)
        for a in found.attempts:
            spent = _spent(a)
            wall += spent
            used += spent * gpus
            kept += spent if a.exit_code == 0 else 0.0
    total = None if None in planned else sum(x for x in planned if x is not None)
    return Hours(
        phase=name,
        done=sum(p.status is Status.DONE for p in runs),
        runs=len(runs),
        wall=wall,
        wall_kept=kept,
        gpu_planned=total,
        gpu_used=used,
        share=min(100.0, 100 * used / total) if total else 0.0,
    )


def _spent(a: Attempt) -> float:
    """Hours of an attempt; none if its clock cannot be believed or it has not ended."""
    if not (_sane(a.started_at) and _sane(a.ended_at)) or a.started_at is None or a.ended_at is None:
        return 0.0
    return max(0.0, a.ended_at - a.started_at) / 3600
