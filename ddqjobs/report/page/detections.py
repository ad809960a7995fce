"""Precision by recall of each phase, and the gallery's boxes, as small SVG pictures. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import msgspec

from ddqjobs.base.secrets import masked
from ddqjobs.base.text import clean
from ddqjobs.base.units import counted
from ddqjobs.detect.recompute import ERRORS
from ddqjobs.report.document import Report
from ddqjobs.report.gallery import Box, Gallery, Shot, Wall
from ddqjobs.report.lookup import label
from ddqjobs.report.page import charts
from ddqjobs.report.page.charts import Line, Panel
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Plan, PlannedRun

MOST_MODELS = 40  # whose curves a page draws
_SPAN = (0.0, 100.0)  # percent: a part of the axis would make small differences look large
_OVERLAPS = {
    "0.50:0.95": "all overlaps from 0.50 to 0.95",
    "0.50": "overlap 0.50",
    "0.75": "overlap 0.75",
}


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """One model's precision by recall: a line per phase and code, the mean over seeds."""

    title: str
    legend: tuple[tuple[str, int, int, int], ...]  # phase and code, style, dash, tests
    drawn: tuple[tuple[Panel, str], ...]


class Photo(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the gallery, drawn."""

    svg: str
    caption: str
    says: str  # all boxes with class and score


class Hall(msgspec.Struct, frozen=True, kw_only=True):
    """A wall of the gallery, drawn: titled rows of photos."""

    wall: Wall
    styles: tuple[int, int]
    rows: tuple[tuple[str, tuple[Photo, ...]], ...]


def recalls(experiment: Experiment, plan: Plan, report: Report) -> list[Recall]:
    """Return one per model and variant of which predictions were evaluated."""
    precision = {row.run: row.precision for row in report.recomputed if row.precision}
    titles = {row.model: row.title for row in report.models}
    by_model: dict[tuple[str, str], dict[tuple[str, str, str], list[PlannedRun]]] = {}
    for planned in plan.runs:
        if planned.run.name in precision:
            place = (planned.run.phase, planned.run.implementation, planned.run.task)
            key = (planned.run.model, planned.run.variant)
            by_model.setdefault(key, {}).setdefault(place, []).append(planned)
    charts = []
    for (model, variant), places in list(by_model.items())[:MOST_MODELS]:
        title = titles.get(model, model) + ("" if variant == "default" else f", {variant}")
        charts.append(_recall(title, places, precision, list(experiment.implementations)))
    return charts


def _recall(
    title: str,
    places: Mapping[tuple[str, str, str], Sequence[PlannedRun]],
    precision: Mapping[str, Mapping[str, Sequence[float]]],
    codes: Sequence[str],
) -> Recall:
    legend, dashes = [], dict[int, int]()
    lines: dict[str, list[Line]] = {name: [] for name in _OVERLAPS}
    for (phase, code, task), runs in places.items():
        style = codes.index(code) if code in codes else 0
        dashes[style] = dash = dashes.get(style, -1) + 1
        several = sum((phase, code) == key[:2] for key in places) > 1
        parts = (label(phase) if phase else "", code, task if several else "")
        name = " ".join(filter(None, parts))
        legend.append((name, style, dash, len(runs)))
        for overlap in _OVERLAPS:
            tests = [known for planned in runs if (known := precision[planned.run.name].get(overlap))]
            if tests:
                means = [100 * sum(each) / len(each) for each in zip(*tests, strict=True)]
                points = [(float(recall), mean) for recall, mean in enumerate(means)]
                lines[overlap].append(Line(label=name, style=style, dash=dash, points=points))
    panels = [
        Panel(
            title=f"precision, {text}",
            x="recall, %",
            lines=tuple(lines[overlap]),
            note="%",
            span=_SPAN,
        )
        for overlap, text in _OVERLAPS.items()
        if lines[overlap]
    ]
    return Recall(
        title=title,
        legend=tuple(legend),
        drawn=tuple((panel, masked(charts.draw(panel))) for panel in panels),
    )


def commonest(report: Report) -> str:
    """Return ``phase 3 duplicate (30 of 31), phase 4 duplicate (30 of 31)``: of each phase the kind of error
    that its tests make most often; empty where none were counted."""
    phases: dict[str, dict[str, int]] = {}
    for row in report.recomputed:
        kinds = phases.setdefault(row.phase, {}) if row.errors else {}
        for kind in ERRORS if row.errors else ():
            kinds[kind] = kinds.get(kind, 0) + row.errors.get(kind, 0)
    said = []
    for phase, kinds in phases.items():
        most = max(kinds, key=lambda kind: kinds[kind])
        what = f"{_KINDS.get(most, most)} ({kinds[most]} of {sum(kinds.values())})" if kinds[most] else "none"
        said.append(f"{label(phase)} {what}" if phase else what)
    return ", ".join(said)


def images(gallery: Gallery) -> Iterator[tuple[str, str]]:
    """Yield an id and the data of each image: it is on the page once, however many walls show it."""
    for i, jpeg in enumerate(gallery.images.values()):
        yield f"photo-{i}", f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def halls(experiment: Experiment, plan: Plan, gallery: Gallery) -> list[Hall]:
    """Return the walls that show anything, drawn."""
    numbers = {key: i for i, key in enumerate(gallery.images)}
    codes = list(experiment.implementations)
    runs = {planned.run.name: planned.run for planned in plan.runs}
    drawn_walls = []
    for wall in gallery.walls:
        styles = [
            codes.index(runs[name].implementation) if runs[name].implementation in codes else i
            for i, name in enumerate(wall.runs)
        ]
        if styles[0] == styles[1]:  # two phases of one code
            styles[1] += 1
        rows = [
            (title, tuple(_photo(shot, wall, styles, numbers.get(shot.key)) for shot in shots))
            for title, shots in (("The two differ most", wall.differing), ("Both fail", wall.failing))
            if shots
        ]
        if rows or wall.alike:
            drawn_walls.append(Hall(wall=wall, styles=(styles[0], styles[1]), rows=tuple(rows)))
    return drawn_walls


def _photo(shot: Shot, wall: Wall, styles: Sequence[int], number: int | None) -> Photo:
    looks = [
        f"series-{style % charts.STYLES} dash-{dash}" for style, dash in zip(styles, (1, 2), strict=True)
    ]
    sides = (
        ("truth", "truth", shot.truth),
        (looks[0], wall.theirs, shot.theirs),
        (looks[1], wall.ours, shot.ours),
    )
    boxes = [(box, look, side) for look, side, side_boxes in sides for box in side_boxes]
    # A large box would hide what the pointer is to find in it.
    boxes.sort(key=lambda each: -each[0].width * each[0].height)
    drawn = "".join(_rectangle(*each) for each in boxes)
    image = f'<rect class="blank" width="{shot.width}" height="{shot.height}"/>'
    if number is not None:
        image = f'<use href="#photo-{number}" transform="scale({shot.width} {shot.height})"/>'
    description = "; ".join(f"{side}: {_words(side_boxes)}" for _, side, side_boxes in sides)
    svg = (
        f'<svg class="photo" viewBox="0 0 {shot.width} {shot.height}" role="img" '
        f'aria-label="{_text(f"{shot.file}. {description}")}">{image}{drawn}</svg>'
    )
    caption = f"{shot.file}: {counted(len(shot.truth), 'object')}; {_errors(shot, wall)}"
    return Photo(svg=svg, caption=caption, says=description)


def _errors(shot: Shot, wall: Wall) -> str:
    """Return ``phase 3 legacy no error, phase 4 new 3 errors (1 wrong class, 2 duplicate)``."""
    theirs, ours = map(_counted, shot.errors)
    return f"{theirs} in each" if theirs == ours else f"{wall.theirs} {theirs}, {wall.ours} {ours}"


def _counted(kinds: Mapping[str, int]) -> str:
    if not kinds:
        return "no error"
    said = ", ".join(f"{n} {_KINDS.get(kind, kind)}" for kind, n in kinds.items())
    return f"{counted(sum(kinds.values()), 'error')} ({said})"


_KINDS = {"class": "wrong class", "both": "wrong class and place"}  # where no table's head explains them


def _rectangle(box: Box, look: str, side: str) -> str:
    sizes = {"x": box.left, "y": box.top, "width": max(box.width, 0), "height": max(box.height, 0)}
    place = " ".join(f'{name}="{value:.1f}"' for name, value in sizes.items())
    return f'<rect class="box {look}" {place}><title>{_text(f"{side}: {_said(box)}")}</title></rect>'


def _text(text: str) -> str:
    return escape(clean(masked(text)))


def _said(box: Box) -> str:
    return box.name if box.score is None else f"{box.name} {box.score:.2f}"


def _words(boxes: Sequence[Box]) -> str:
    return ", ".join(map(_said, boxes)) or "nothing"
