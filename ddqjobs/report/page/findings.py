"""Explain the verdicts that do not hold: by how much, on how many seeds, and what other checks say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.base.units import counted
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.document import Report
from ddqjobs.report.gallery import Gallery
from ddqjobs.report.lookup import REFERENCE, Column, label
from ddqjobs.report.loss_curves import CurveRow
from ddqjobs.report.page.glance import anchor
from ddqjobs.report.page.tables import column_name
from ddqjobs.report.verdict import Judgement, Outcome
from ddqjobs.spec.model import FailureClass, PlannedRun, Status

MOST = 24  # findings that a page spells out; the tables have all
_NAMED = 6  # of a kind that one finding names
_BEYOND = (Outcome.SHORT, Outcome.DIFFERS, Outcome.EXCEEDS)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict that does not hold, or several of one kind, with the reason."""

    outcome: Outcome
    word: str
    what: str
    why: tuple[str, ...]
    anchor: str = ""
    find: str = ""  # what the page's filter looks at


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """The image on which two codes differ most in one respect."""

    what: str
    text: str
    anchor: str


def findings(report: Report, picked: Sequence[PlannedRun]) -> list[Finding]:
    """Return verdicts beyond their tolerance one by one, then curves, what is unknown, and stale results."""
    runs = {planned.run.name: planned for planned in picked}
    beyond = [
        _beyond(report, row, number, column, runs)
        for row, number, column, cell in _cells(report)
        if cell.judgement.outcome in _BEYOND
    ]
    beyond.sort(key=lambda finding: _BEYOND.index(finding.outcome))
    return [*beyond, *_curves(report), *_alignments(report), *_unknown(report, runs), *_stale(picked)]


def _cells(report: Report) -> Iterator[tuple[ModelRow, int, int, Cell]]:
    for number, row in enumerate(report.models):
        for column, cell in enumerate(row.cells):
            if cell is not None and (cell.required or cell.judgement.outcome in _BEYOND):
                yield row, number, column, cell


def _name(row: ModelRow) -> str:
    return row.title if row.variant == "default" else f"{row.title}, {row.variant}"


def _beyond(
    report: Report, row: ModelRow, number: int, index: int, runs: Mapping[str, PlannedRun]
) -> Finding:
    column, cell = report.columns[index], row.cells[index]
    assert cell is not None
    judgement = cell.judgement
    assert judgement.outcome is not None
    why = [_failed(cell, runs), _measured(row, column, cell), _seeds(cell), _theirs(report, row, index)]
    why += _checks(report, row, column)
    return Finding(
        outcome=judgement.outcome,
        word=judgement.outcome.value,
        what=f"{_name(row)}, {column_name(column)}",
        why=tuple(filter(None, why)),
        anchor=anchor(index, number),
        find=f"{row.title} {row.model} {row.variant}",
    )


def _against(column: Column, row: ModelRow) -> str:
    if column.against == REFERENCE:
        return f"the published {row.judged_by.name}"
    return label(column.against)


def _measured(row: ModelRow, column: Column, cell: Cell) -> str:
    """Return ``44.5 is 0.5 above phase 3 (44.0); 0.2 is allowed``."""
    metric = row.judged_by
    if cell.difference is None or cell.reference is None:
        return cell.judgement.word.partition(": ")[2]
    value = cell.value.text.partition(" ")[0]
    side = f"{_against(column, row)} ({cell.reference:.{metric.decimals}f})"
    far = cell.difference_text.lstrip("+-")
    way = "above" if cell.difference > 0 else "below"
    how = f"is {far} {way} {side}" if cell.difference else f"is that of {side}"
    allowed = "" if cell.tolerance is None else f"; {cell.tolerance:g} is allowed"
    return f"{value} {how}{allowed}"


def _failed(cell: Cell, runs: Mapping[str, PlannedRun]) -> str:
    """Return which seeds failed of what."""
    failed = [
        f"{planned.run.name} {planned.reason}"
        for planned in _unfinished(cell.runs, runs)
        if planned.status is Status.FAILED or planned.again
    ]
    return "; ".join(failed[:_NAMED])


def _seeds(cell: Cell) -> str:
    """Return on how many seeds it stands, and their interval."""
    judgement = cell.judgement
    if cell.value.n < len(cell.runs):
        return f"{cell.value.n} of {counted(len(cell.runs), 'seed')} done"
    stands = counted(judgement.n, "seed")
    if judgement.excluded:
        stands += f", {judgement.excluded} excluded"
    if judgement.test is not None:
        return f"{stands}, 90 % interval {judgement.test.low:+.2f} to {judgement.test.high:+.2f}"
    return stands if judgement.n > 1 else "one seed: no interval"


def _theirs(report: Report, row: ModelRow, index: int) -> str:
    """Return what stands against the phase that it is compared with, and how far itself is from the
    published figure: of two codes that differ the other may be the one to look at."""
    column, cell = report.columns[index], row.cells[index]
    if column.against == REFERENCE or cell is None or cell.value.mean is None or row.reference is None:
        return ""
    for other, theirs in zip(report.columns, row.cells, strict=True):
        if other.phase == column.against and theirs is not None and theirs.judgement.outcome in _BEYOND:
            off = cell.value.mean - row.reference
            decimals = row.judged_by.decimals
            itself = f"{abs(off):.{decimals}f} {'above' if off > 0 else 'below'}" if off else "exactly"
            verdict = theirs.judgement.outcome.value
            return (
                f"look at {label(column.against)} first: it {_VERBS.get(verdict, verdict)} the published "
                f"{row.reference_text} by {theirs.difference_text.lstrip('+-')}, this result is {itself} it"
            )
    return ""


_VERBS = {"short": "falls short of", "differs": "differs from", "exceeds": "exceeds"}


def _checks(report: Report, row: ModelRow, column: Column) -> Iterator[str]:
    """Yield what alignment and loss curves say of the same model and phase."""
    aligned = [a for a in report.alignment if (a.phase, a.model) == (column.phase, row.model)]
    said = list(dict.fromkeys(a.judgement.word for a in aligned if a.judgement.outcome is not None))
    if said:
        good = all(a.judgement.good for a in aligned)
        yield f"alignment{' nevertheless' if good else ''}: {'; '.join(said)}"
    for line in report.curves:
        place = (line.phase, line.model, line.variant)
        if place == (column.phase, row.model, row.variant) and line.judgement.outcome is not None:
            yield f"loss curves: {line.judgement.word}{_apart(line)}"


def _apart(line: CurveRow) -> str:
    if line.distance is None or line.spread is None:
        return ""
    return f" ({100 * line.distance:.1f} % apart, seeds {100 * line.spread:.1f} %)"


def _curves(report: Report) -> Iterator[Finding]:
    """Yield the loss curves that are further apart than seeds, in one finding."""
    titles = {(row.model, row.variant): _name(row) for row in report.models}
    curves = [line for line in report.curves if line.judgement.outcome is Outcome.DIFFERS]
    if curves:
        count = f"{len(curves)} of {len(report.curves)}"
        why = [f"{titles.get((c.model, c.variant), c.model)}, {label(c.phase)}{_apart(c)}" for c in curves]
        yield Finding(
            outcome=Outcome.DIFFERS,
            word="differ",
            what=f"beside the verdicts, loss curves further apart than seeds: {count}",
            why=tuple(_first(why)),
            anchor="curves",
            find=" ".join(why),
        )


def _alignments(report: Report) -> Iterator[Finding]:
    """Yield alignments beyond their tolerance, and recomputed results that differ, in one finding each."""
    tables: list[tuple[str, list[tuple[str, Judgement]]]] = [
        ("alignment", [(row.run, row.judgement) for row in report.alignment]),
        ("recomputed results", [(row.run, row.judgement) for row in report.recomputed]),
        ("checks", [(row.run, row.judgement) for row in report.checks]),
    ]
    for what, rows in tables:
        beyond = [f"{run}: {judgement.word}" for run, judgement in rows if judgement.outcome in _BEYOND]
        if beyond:
            yield Finding(
                outcome=Outcome.DIFFERS,
                word="differ",
                what=f"{what}: {len(beyond)} of {len(rows)}",
                why=tuple(_first(beyond)),
                find=" ".join(beyond),
            )


def _unknown(report: Report, runs: Mapping[str, PlannedRun]) -> Iterator[Finding]:
    """Yield what has no verdict yet, in one finding."""
    why = [
        f"{_name(row)}, {column_name(report.columns[index])}: {_open(cell, runs)}"
        for row, _, index, cell in _cells(report)
        if cell.judgement.outcome is Outcome.UNKNOWN
    ]
    if why:
        yield Finding(
            outcome=Outcome.UNKNOWN,
            word="unknown",
            what=f"no verdict yet: {len(why)}",
            why=tuple(_first(why)),
            find=" ".join(why),
        )


def _open(cell: Cell, runs: Mapping[str, PlannedRun]) -> str:
    left = _unfinished(cell.runs, runs)
    kinds: dict[str, int] = {}
    for planned in left:
        word = (
            (planned.failure or FailureClass.CODE).value if planned.status is Status.FAILED else planned.word
        )
        word = (
            f"to be tried again after {planned.failure.value}" if planned.again and planned.failure else word
        )
        kinds[word] = kinds.get(word, 0) + 1
    if not kinds:
        return cell.judgement.word.removeprefix("unknown: ")
    return f"{len(cell.runs) - len(left)} of {counted(len(cell.runs), 'seed')} done, " + ", ".join(
        f"{count} {word}" for word, count in kinds.items()
    )


def _unfinished(names: Iterable[str], runs: Mapping[str, PlannedRun]) -> list[PlannedRun]:
    """Return of each run that is not done what holds it up: a run that failed below it, else itself."""
    left = []
    for name in names:
        planned = runs.get(name)
        if planned is not None and planned.status is not Status.DONE:
            upstream = [known for up in planned.run.upstream if (known := runs.get(up)) is not None]
            left.append(next((u for u in upstream if u.status is not Status.DONE), planned))
    return left


def _stale(picked: Iterable[PlannedRun]) -> Iterator[Finding]:
    """Yield the reasons for which results are stale, in one finding."""
    reasons: dict[str, list[str]] = {}
    for planned in picked:
        if planned.stale:
            reasons.setdefault(planned.stale.removeprefix("stale: "), []).append(planned.run.name)
    if reasons:
        ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
        why = [
            f"{reason}: {runs[0]}{f' and {len(runs) - 1} more' if runs[1:] else ''}"
            for reason, runs in ordered
        ]
        yield Finding(
            outcome=Outcome.UNKNOWN,
            word="stale",
            what=f"results of another configuration, environment or code: {sum(map(len, reasons.values()))}",
            why=tuple(_first(why)),
            find=" ".join(name for runs in reasons.values() for name in runs),
        )


def _first(why: Sequence[str]) -> list[str]:
    return [*why[:_NAMED], *([f"and {len(why) - _NAMED} more"] if why[_NAMED:] else [])]


def alike(report: Report, gallery: Gallery | None) -> str:
    """Return in what two codes that were compared do not differ at all; empty where they do, or none were."""
    compared = [c for _, _, i, c in _cells(report) if report.columns[i].against != REFERENCE]
    measured = [c for c in compared if c.difference is not None]
    if not measured or extremes(report, gallery):
        return ""
    said = [f"in {report.metrics[0]} ({len(measured)} of {len(compared)} comparisons made)"]
    said += ["on any class"] if report.classes else []
    said += ["on any image"] if gallery and gallery.walls else []
    return ", ".join(said)


def extremes(report: Report, gallery: Gallery | None) -> list[Extreme]:
    """Return where two codes differ most: in AP, on which class, and on which image."""
    largest = []
    cells = [
        (abs(cell.difference), row, number, index)
        for row, number, index, cell in _cells(report)
        if cell.difference and report.columns[index].against != REFERENCE
    ]
    if cells:
        _, row, number, index = max(cells, key=lambda item: item[0])
        column, cell = report.columns[index], row.cells[index]
        assert cell is not None
        where = f"{_name(row)}, {label(column.phase)} from {label(column.against)}"
        text = f"{cell.difference_text} ({where})"
        largest.append(Extreme(what=f"in {row.judged_by.name}", text=text, anchor=anchor(index, number)))
    titles = {row.model: row.title for row in report.models}
    if report.classes and abs(report.classes[0].difference) >= 0.05:
        known = report.classes[0]
        where = f"{titles.get(known.model, known.model)}, {label(known.phase)} from {label(known.against)}"
        text = f"{known.name} {known.difference:+.1f} ({where})"
        largest.append(Extreme(what="by class", text=text, anchor="detections"))
    shots = [
        (shot.apart, shot, wall) for wall in (gallery.walls if gallery else ()) for shot in wall.differing
    ]
    if shots:
        _, shot, wall = max(shots, key=lambda item: item[0])
        text = f"{shot.file} ({wall.title}, {wall.theirs} and {wall.ours})"
        largest.append(Extreme(what="by image", text=text, anchor="gallery"))
    return largest
