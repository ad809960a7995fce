"""Learning curves of trainings that belong together, and how far two codes are apart. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from ddqjobs.report.lookup import label
from ddqjobs.report.loss_curves import Curve
from ddqjobs.report.page.charts import DASHES, Line, Panel, Point
from ddqjobs.spec.experiment import Experiment, metric_of
from ddqjobs.spec.metric import Metric, found_as
from ddqjobs.spec.model import Plan, PlannedRun, TaskKind

MOST_PANELS = 300  # a page with more is slow to make and to look at: terms of losses are left out first
MOST_POINTS = 200_000  # of all lines together: eleven bytes each; more are thinned once more
_FEW = 40  # points: of a line of so few, each is shown
_LOSSES = ("loss", "loss difference")
_UNFOLDED = 4  # panels of a model: its loss, its metric, and how two codes differ in them


def drawn(plan: Plan) -> Plan:
    """Return the trainings whose curves a page can bear: those of the first models."""
    kept: dict[tuple[str, str], list[PlannedRun]] = {}
    for planned in plan.runs:
        if planned.run.kind is TaskKind.TRAIN:
            kept.setdefault((planned.run.model or planned.run.task, planned.run.variant), []).append(planned)
    few = list(kept.values())[: MOST_PANELS // _UNFOLDED]
    return msgspec.structs.replace(plan, runs=tuple(planned for runs in few for planned in runs))


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The trainings of one model and variant, of all codes, overlaid."""

    title: str
    legend: tuple[tuple[str, str, int, int, str], ...]  # (what, its last part, style, dash, run)
    panels: tuple[Panel, ...]
    more: tuple[Panel, ...]  # folded: learning rate, gradient norm, terms of the loss
    finals: tuple[tuple[str, str, str, str, str], ...]  # run, logged, iterations, last loss, last metric
    notes: tuple[str, ...]
    metric: str = "AP"  # what the model is judged by


def groups(
    experiment: Experiment, plan: Plan, curves: Mapping[str, Curve], titles: Mapping[str, str]
) -> list[Group]:
    """Return one per model and variant that has curves, in the plan's order, what can be compared first."""
    trainings: dict[tuple[str, str], list[PlannedRun]] = {}
    for planned in plan.runs:
        if planned.run.name in curves:
            key = (planned.run.model or planned.run.task, planned.run.variant)
            trainings.setdefault(key, []).append(planned)
    styles = {name: i for i, name in enumerate(experiment.implementations)}
    groups = []
    for (model, variant), runs in trainings.items():
        title = titles.get(model, model)
        title = title if variant == "default" else f"{title}, {variant}"
        groups.append(_group(title, runs, curves, styles, metric_of(experiment, model)))
    # What can be compared comes first.
    return _fewer(sorted(groups, key=lambda g: len({style for _, _, style, _, _ in g.legend}) < 2))


def _group(
    title: str,
    runs: Sequence[PlannedRun],
    curves: Mapping[str, Curve],
    styles: Mapping[str, int],
    metric: Metric,
) -> Group:
    best = (*_LOSSES, metric.name, f"{metric.name} difference")
    order = (*best, "lr", "grad_norm")
    legend, finals, notes = [], [], list[str]()
    lines: dict[tuple[str, str], list[Line]] = {}
    dashes: dict[int, int] = {}
    for planned in runs:
        run, curve = planned.run, curves[planned.run.name]
        style = styles.get(run.implementation, 0)
        dashes[style] = dash = dashes.get(style, -1) + 1
        parts = [run.implementation or run.task, label(run.phase) if run.phase else ""]
        parts.append("" if run.seed is None else f"seed {run.seed}")
        what = ", ".join(filter(None, parts))
        known = dash > 0 and run.seed is not None
        legend.append((what, parts[-1] if known else what, style, dash, run.name))
        notes += _notes(run.name, curve)
        for term, points in curve.terms.items():
            means = _parts(curve, curve.means.get(term, ()))
            line = Line(label=what, style=style, dash=dash, points=points, smooth=means)
            lines.setdefault((term, "iteration"), []).append(line)
        measured = _measured(curve, metric)
        if measured:
            line = Line(label=what, style=style, dash=dash, points=measured)
            lines.setdefault((metric.name, curve.val_by), []).append(line)
        last = (_last(curve.terms.get("loss")), _last(measured, metric.decimals))
        finals.append((run.name, f"{curve.rows:,}", f"{curve.last:,}", *last))
    if any(dash >= DASHES for _, _, _, dash, _ in legend):
        notes.append(
            f"dashes repeat after {DASHES} trainings of a code; the value under the pointer has its name"
        )
    keys = sorted(lines, key=lambda k: (order.index(k[0]) if k[0] in order else len(order), k[0]))
    panels = [Panel(title=k[0], x=k[1], lines=tuple(lines[k])) for k in keys]
    panels += _differences(runs, curves, styles, metric)
    panels.sort(key=lambda panel: best.index(panel.title) if panel.title in best else len(best))
    return Group(
        title=title,
        legend=tuple(legend),
        panels=tuple(panel for panel in panels if panel.title in best),
        more=tuple(panel for panel in panels if panel.title not in best),
        finals=tuple(finals),
        notes=tuple(notes),
        metric=metric.name,
    )


def _notes(run: str, curve: Curve) -> Iterator[str]:
    if curve.problem:
        yield f"{run}: {curve.problem}"
    if curve.lost:
        yield f"{run}: {curve.lost} lines of its log are no rows and were passed over"


def _measured(curve: Curve, metric: Metric) -> list[Point]:
    points = curve.val.get(found_as(metric.key, curve.val) or "", [])
    return [(x, None if y is None or (y < 0 and metric.is_fraction) else metric.scale * y) for x, y in points]


def _parts(curve: Curve, means: Sequence[float | None]) -> list[Point]:
    """Return means of equal parts of a training, each in the middle of its part."""
    return [((i + 0.5) * curve.last / len(means), y) for i, y in enumerate(means)]


def _differences(
    runs: Sequence[PlannedRun], curves: Mapping[str, Curve], styles: Mapping[str, int], metric: Metric
) -> Iterator[Panel]:
    """Yield how far the second code's loss (in parts of the first's) and metric are from the first's, seed by
    seed. What the first code's seeds differ by among themselves is beside them, for scale."""
    sides: dict[int, dict[int | None, Curve]] = {}
    for planned in runs:
        side = sides.setdefault(styles.get(planned.run.implementation, 0), {})
        side[planned.run.seed] = curves[planned.run.name]
    if len(sides) < 2:
        return
    (first, one), (style, two) = sorted(sides.items())[:2]
    names = {look: name for name, look in styles.items()}
    between_them = f"{names.get(style, 'second')} \u2212 {names.get(first, 'first')}"
    pairs = [(f"seed {s}" if s is not None else "new code", one[s], two[s], style) for s in two if s in one]
    seeds = list(one.items())
    pairs += [
        (f"seed {s} against {seeds[0][0]}, one code", seeds[0][1], curve, first)
        for s, curve in seeds[1:]
        if pairs
    ]
    kinds: tuple[tuple[str, str, str, Callable[[Curve, Curve], list[Point]]], ...] = (
        ("loss difference", "iteration", "%", _loss_difference),
        (f"{metric.name} difference", next(iter(one.values())).val_by, metric.unit, partial(_apart, metric)),
    )
    for title, x, unit, between in kinds:
        lines, dashes = [], dict.fromkeys(sides, -1)
        for name, a, b, look in pairs:
            dashes[look] = dash = dashes.get(look, -1) + 1
            if points := between(a, b):
                lines.append(Line(label=name, style=look, dash=dash, points=points))
        if lines:
            yield Panel(
                title=title,
                x=x,
                lines=tuple(lines),
                zero=True,
                note=f"{between_them}, {unit}".removesuffix(", "),
            )


def _loss_difference(a: Curve, b: Curve) -> list[Point]:
    """Return b - a in percent of a, by part of the training; nothing where they are not of one length."""
    means, others = a.means.get("loss", []), b.means.get("loss", [])
    if len(means) != len(others) or a.last != b.last:
        return []
    percents = [
        None if x is None or y is None or not x else 100 * (y - x) / abs(x)
        for x, y in zip(means, others, strict=True)
    ]
    return _parts(a, percents)


def _apart(metric: Metric, a: Curve, b: Curve) -> list[Point]:
    known = dict(_measured(a, metric)) if a.val_by == b.val_by else {}
    points = [(x, known[x], y) for x, y in _measured(b, metric) if x in known]
    return [(x, None if ours is None or y is None else y - ours) for x, ours, y in points]


def _last(points: Sequence[Point] | None, decimals: int = 3) -> str:
    if not points:
        return "–"
    value = points[-1][1]
    return "not finite" if value is None else f"{value:.{decimals}f}"


def _fewer(groups: list[Group]) -> list[Group]:
    """Return as many panels as a page can bear: all of them, or only the most important ones, or those of
    the first models."""
    if sum(len(g.panels) + len(g.more) for g in groups) > MOST_PANELS:
        note = "the terms of the loss are left out on a page of so many trainings: choose runs with --model"
        groups = [msgspec.structs.replace(g, more=(), notes=(*g.notes, note)) for g in groups]
    left, kept = MOST_PANELS, []
    for g in groups:
        panels = g.panels[: max(0, left)]
        left -= len(panels)
        kept.append(msgspec.structs.replace(g, panels=panels))
    total = sum(len(line.points) for g in kept for panel in (*g.panels, *g.more) for line in panel.lines)
    factor = math.ceil(total / MOST_POINTS)
    return kept if factor < 2 else [_thinner(g, 2 * factor) for g in kept]


def _thinner(group: Group, size: int) -> Group:
    return msgspec.structs.replace(
        group,
        panels=tuple(_thinner_panel(panel, size) for panel in group.panels),
        more=tuple(_thinner_panel(panel, size) for panel in group.more),
    )


def _thinner_panel(panel: Panel, size: int) -> Panel:
    if all(len(x.points) <= _FEW for x in panel.lines):
        return panel
    lines = [msgspec.structs.replace(x, points=extremes(x.points, size)) for x in panel.lines]
    return msgspec.structs.replace(panel, lines=tuple(lines))


def extremes(points: Sequence[Point], size: int) -> list[Point]:
    """Return the smallest, the largest and the first not finite of each ``size`` points, and both ends."""
    kept = {0, len(points) - 1} if points else set()
    for start in range(0, len(points), size):
        places = range(start, min(start + size, len(points)))
        finite = [(y, i) for i in places if (y := points[i][1]) is not None]
        if finite:
            kept.update((min(finite)[1], max(finite)[1]))
        kept.update([i for i in places if points[i][1] is None][:1])
    return [points[i] for i in sorted(kept)]
