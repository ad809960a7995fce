"""The report as tables and lists of plain text: what every text format shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import msgspec

from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.columns import Parameters, Row, parameters
from ddqjobs.report.document import MIXED, Report, rules
from ddqjobs.report.hours import HoursRow, hours_order
from ddqjobs.report.lookup import label
from ddqjobs.report.loss_curves import CurveRow
from ddqjobs.report.recomputed import RecomputedRow
from ddqjobs.report.run_rows import AlignRow, CheckRow
from ddqjobs.report.variants import VariantRow
from ddqjobs.report.verdict import Judgement, Outcome, format_difference
from ddqjobs.spec.grid import shown

CLASSES = 20  # rows of classes that differ most
LISTED = 6  # names of missing runs that the text spells out
HOURS = "GPU hours: used + to come"
RULES = 24  # verdicts whose rules the text spells out


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """One table as text. ``outcomes``, for colour: (row, column) -> the verdict shown there."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    outcomes: dict[tuple[int, int], str] = {}


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """The content that any format of text shows: tables, then titled lists."""

    title: str
    grids: tuple[Grid, ...]
    lists: tuple[tuple[str, list[str]], ...] = ()


def grids(report: Report, *, tall: bool = False, brief: bool = False) -> list[Grid]:
    """Return the tables that are not empty. ``tall``: a line per model and phase, for narrow terminals;
    ``brief``: short verdict words."""
    tables = [_tall(report) if tall else _wide(report, brief)] if report.models else []
    if report.variants:
        tables.append(_variants(report))
    if report.alignment:
        tables.append(_alignment(report.alignment))
    if report.curves:
        tables.append(_curves(report.curves))
    if report.recomputed:
        tables.append(_recomputed(report.recomputed))
        tables += _errors(report.recomputed)
        tables += _classes(report)
    if trained := [row for row in report.runs if row.seconds_per_iteration or row.gpu_hours_used]:
        tables.append(_costs(trained))
    if any(row.used or row.to_come or row.unknown for row in report.hours):
        tables.append(_hours(report))
    if report.checks:
        tables.append(_checks(report.checks))
    return tables


def _parameters(grid: Parameters | msgspec.UnsetType, keys: Sequence[str]) -> list[str]:
    """Return what a variant has of these parameters, as text."""
    known: Parameters = {} if grid is msgspec.UNSET else grid
    return [shown(known[key]) if key in known else "" for key in keys]


def _marked(text: str, thing: Cell | AlignRow | CheckRow) -> str:
    marks = ((thing.adopted, " †"), (thing.stale, " ‡"), (thing.accepted, " §"))
    return text + "".join(mark for given, mark in marks if given)


def _wide(report: Report, brief: bool) -> Grid:
    """A row per model, for each column AP (and other metrics), difference and verdict."""
    variants = any(row.variant != "default" for row in report.models)
    mixed = report.metrics[0] == MIXED
    keys = parameters(row.grid for row in report.models)
    header = ["model", *(["variant"] if variants else []), *keys, *(["metric"] if mixed else []), "reference"]
    align = "l" * (len(header) - 1) + "r"
    for column in report.columns:
        head = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
        header += [head, *report.metrics[1:], "diff", "verdict"]
        align += "r" * len(report.metrics) + "rl"
    rows, outcomes = [], {}
    for number, row in enumerate(report.models):
        names = [*([row.variant] if variants else []), *_parameters(row.grid, keys)]
        names += [row.judged_by.name] if mixed else []
        line = [row.title, *names, row.reference_text]
        for cell in row.cells:
            line += _cell_texts(cell, report.metrics, brief)
            if cell is not None and cell.judgement.outcome:
                outcomes[number, len(line) - 1] = cell.judgement.outcome.value
        rows.append(tuple(line))
    return Grid(
        title=report.metrics[0], header=tuple(header), rows=tuple(rows), align=align, outcomes=outcomes
    )


def _cell_texts(cell: Cell | None, metrics: Sequence[str], brief: bool) -> list[str]:
    if cell is None:
        return [""] * (len(metrics) + 2)
    texts = [_marked(cell.value.text, cell), *(cell.values[metric].text for metric in metrics[1:])]
    judgement = cell.judgement
    word = judgement.brief if brief else judgement.word
    if judgement.outcome is Outcome.UNKNOWN and word == f"unknown: {cell.value.text}":
        word = "unknown"  # the result's own cell has said why
    return [*texts, cell.difference_text, word]


def _tall(report: Report) -> Grid:
    """A line per model and column: what fits where the wide table does not."""
    variants = any(row.variant != "default" for row in report.models)
    mixed = report.metrics[0] == MIXED
    keys = parameters(row.grid for row in report.models)
    names = ("model", *(("variant",) if variants else ()), *keys, *(("metric",) if mixed else ()))
    header = (*names, "phase", *report.metrics, "reference", "diff", "verdict")
    rows: list[tuple[str, ...]] = []
    outcomes = {}
    for row in report.models:
        first = True
        for column, cell in zip(report.columns, row.cells, strict=True):
            if cell is None:
                continue
            name = [row.title, *([row.variant] if variants else []), *_parameters(row.grid, keys)]
            name = name if first else [""] * len(name)
            name += [row.judged_by.name] if mixed else []
            where = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
            *texts, difference, word = _cell_texts(cell, report.metrics, False)
            if cell.judgement.outcome:
                outcomes[len(rows), len(header) - 1] = cell.judgement.outcome.value
            rows.append((*name, where, *texts, _reference(row, cell), difference, word))
            first = False
    align = "l" * (1 + len(names)) + "r" * (len(report.metrics) + 2) + "l"
    return Grid(title=report.metrics[0], header=header, rows=tuple(rows), align=align, outcomes=outcomes)


def _reference(row: ModelRow, cell: Cell) -> str:
    if cell.reference is None:
        return "none" if row.reference is None else ""
    text = f"{cell.reference:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _number(value: float | None) -> str:
    """A measured difference: three significant digits are plenty; NaN was read as infinity."""
    if value is None:
        return ""
    return "nan" if math.isinf(value) or math.isnan(value) else "0" if value == 0 else f"{value:.3g}"


def _alignment(aligned: Sequence[AlignRow]) -> Grid:
    predictions = ("box (px)", "score", "unmatched")
    # Columns that only some comparisons fill stand there only if one does.
    ap = any(row.found.ap_quanta is not None for row in aligned)
    weights = any(row.found.weights for row in aligned)
    outputs = any(row.found.outputs for row in aligned)
    more = (
        *(("AP diff",) if ap else ()),
        *(("weights",) if weights else ()),
        *(("modules", "first module that differs") if outputs else ()),
    )
    header = ("run", "phase", *more, *predictions, "first loss difference", "loss (relative)", "verdict")
    rows, outcomes = [], {}
    for number, row in enumerate(aligned):
        f = row.found
        first = ""
        if f.losses:
            first = f"iteration {f.first_difference}" if f.first_difference is not None else "none"
            first += f" of {f.iterations}" if f.iterations is not None else ""
        unmatched = "" if f.unmatched is None else str(f.unmatched)
        numbers = (_number(f.box), _number(f.score), unmatched, first, _number(f.loss))
        points = "" if f.ap_quanta is None else format_difference(Fraction(f.ap_quanta))
        module = f.first_module or ("none" if f.outputs else "")
        if f.outputs and f.modules is not None:
            module += f" of {f.modules}"
        first_columns = (
            *((points,) if ap else ()),
            *((_number(f.weight),) if weights else ()),
            *((_number(f.module), module) if outputs else ()),
        )
        rows.append((_marked(row.run, row), row.phase, *first_columns, *numbers, row.judgement.word))
        if row.judgement.outcome:
            outcomes[number, len(header) - 1] = row.judgement.outcome.value
    return Grid(
        title="Alignment",
        header=header,
        rows=tuple(rows),
        align=f"ll{'r' * len(more)}rrrlrl",
        outcomes=outcomes,
    )


def _variants(report: Report) -> Grid:
    """A row per variant, with its difference from the baseline."""
    variants: Sequence[VariantRow] = report.variants
    keys = parameters(row.grid for row in variants)
    header = ("model", "phase", "variant", *keys, report.metrics[0], "diff", "verdict")
    rows, outcomes = [], {}
    for number, row in enumerate(variants):
        where = " ".join(filter(None, (label(row.phase), row.implementation, row.task)))
        measured = (row.value.text, row.difference_text, row.judgement.word)
        rows.append((row.title, where, row.variant, *_parameters(row.grid, keys), *measured))
        if row.judgement.outcome:
            outcomes[number, len(header) - 1] = row.judgement.outcome.value
    align = f"lll{'r' * len(keys)}rrl"
    return Grid(title="Variants", header=header, rows=tuple(rows), align=align, outcomes=outcomes)


def _curves(curves: Sequence[CurveRow]) -> Grid:
    header = ("model", "variant", "phase", "apart", "seeds apart", "verdict")
    rows = tuple(
        (r.model, r.variant, r.phase, _number(r.distance), _number(r.spread), r.judgement.word)
        for r in curves
    )
    outcomes = {(i, 5): r.judgement.outcome.value for i, r in enumerate(curves) if r.judgement.outcome}
    return Grid(title="Loss curves", header=header, rows=rows, align="lllrrl", outcomes=outcomes)


def _recomputed(recomputed: Sequence[RecomputedRow]) -> Grid:
    header = ("run", "phase", "AP in the log", "recomputed", "verdict")
    rows = tuple(
        (
            r.run,
            r.phase,
            "" if r.printed is None else f"{r.printed:.1f}",
            "" if r.recomputed is None else f"{r.recomputed:.4f}",
            r.judgement.word,
        )
        for r in recomputed
    )
    outcomes = {(i, 4): r.judgement.outcome.value for i, r in enumerate(recomputed) if r.judgement.outcome}
    return Grid(
        title="AP recomputed from the predictions", header=header, rows=rows, align="llrrl", outcomes=outcomes
    )


def _errors(recomputed: Sequence[RecomputedRow]) -> Iterator[Grid]:
    """Yield the errors of each test's detections by kind, then those by size, where they were counted."""
    counted = [row for row in recomputed if row.errors]
    if not counted:
        return
    kinds = tuple(counted[0].errors)
    align = "r" * len(kinds)
    rows = [(r.run, r.phase, *(str(r.errors.get(kind, "")) for kind in kinds)) for r in counted]
    title = "Detection errors (score at least 0.3)"
    yield Grid(title=title, header=("run", "phase", *kinds), rows=tuple(rows), align="ll" + align)
    sized = [
        (r.run, r.phase, size, *(str(counts.get(kind, "")) for kind in kinds))
        for size in counted[0].sizes
        for r in counted
        if any((counts := r.sizes.get(size, {})).values())
    ]
    if sized:
        header = ("run", "phase", "size", *kinds)
        yield Grid(title="Detection errors by size", header=header, rows=tuple(sized), align="lll" + align)


def _classes(report: Report) -> Iterator[Grid]:
    """Yield the classes whose AP differs most between two codes, where any does."""
    differing = [row for row in report.classes if round(row.difference, 1)]
    if differing:
        titles = {row.model: row.title for row in report.models}
        places = {(r.phase, r.implementation, r.task) for r in report.classes}
        several = {phase for phase, *_ in places if sum(phase == other for other, *_ in places) > 1}
        rows = tuple(
            (titles.get(r.model, r.model) + ("" if r.variant == "default" else f", {r.variant}"), r.name,
             " ".join(filter(None, (r.phase, r.implementation, r.task))) if r.phase in several else r.phase,
             f"{r.ap:.1f}", r.against, f"{r.other:.1f}", f"{r.difference:+.1f}")
            for r in differing[:CLASSES]
        )  # fmt: skip
        title = f"Classes that differ most ({len(rows)} of {len(report.classes)})"
        header = ("model", "class", "phase", "AP", "against phase", "its AP", "diff")
        yield Grid(title=title, header=header, rows=rows, align="lllrlrr")


def _checks(checked: Sequence[CheckRow]) -> Grid:
    header = ("run", "kind", "phase", "found", "verdict")
    rows = tuple(
        (_marked(r.run, r), r.kind, r.phase, r.headline, _word(r.judgement, r.says)) for r in checked
    )
    outcomes = {(i, 4): r.judgement.outcome.value for i, r in enumerate(checked) if r.judgement.outcome}
    return Grid(title="Checks", header=header, rows=rows, align="lllll", outcomes=outcomes)


def _costs(trained: Sequence[Row]) -> Grid:
    """``none``: the training had no GPU, or its code does not say."""
    header = ("training", "s/iteration", "GPU busy", "peak MB", "GPU hours", "to come")
    rows = tuple(
        (
            row.run,
            _number(row.seconds_per_iteration),
            "none" if row.gpu_busy is None else f"{row.gpu_busy:.0%}",
            f"{row.peak_memory_mb:.0f}" if row.peak_memory_mb else "none",
            "none" if row.gpu_hours_used is None else f"{row.gpu_hours_used:.3g}",
            _number(row.gpu_hours_to_come),
        )
        for row in trained
    )
    return Grid(title="Training cost", header=header, rows=rows, align="lrrrrr", outcomes={})


def _hours(report: Report) -> Grid:
    """A row per model and for all of them, a column per phase and for all of them: used and to come."""
    cells = {(row.model, row.phase): row for row in report.hours}
    models, phases = hours_order(report.hours)
    titles = {row.model: row.title for row in report.models}
    rows = [
        (titles.get(model, model) or "all", *(_used(cells.get((model, phase))) for phase in phases))
        for model in models
    ]
    header = ("model", *(label(phase) if phase else "all" for phase in phases))
    return Grid(title=HOURS, header=header, rows=tuple(rows), align="l" + "r" * len(phases))


def _used(row: HoursRow | None) -> str:
    """Return ``312.0``, ``312.0 + 64.0``, or ``312.0 + 64.0?`` where more is to come than is known."""
    if row is None:
        return ""
    more = f" + {row.to_come:,.1f}{'?' if row.unknown else ''}" if row.to_come or row.unknown else ""
    return f"{row.used:,.1f}{more}"


def _word(judgement: Judgement, state: str) -> str:
    return state if judgement.outcome is None and state != "done" else judgement.word


def lists(report: Report) -> Iterator[tuple[str, list[str]]]:
    """Yield the titled lists below the tables: summary, what is missing, stale reasons, footnotes."""
    yield "Summary", [*(s.text for s in report.summary), report.overall]
    if report.missing:
        yield "Missing", [f"{m.what} ({_names(m.runs)}): {m.command}" for m in report.missing]
    stale = [f"{row.run}: {row.stale}" for row in report.runs if row.stale]
    if stale:
        yield "Stale", stale[:LISTED] + ([f"and {len(stale) - LISTED} more"] if len(stale) > LISTED else [])
    accepted = [f"{row.run}: {row.accepted}" for row in report.runs if row.accepted]
    if accepted:
        yield "Accepted", accepted
    repeats: dict[str, list[str]] = {}
    for row in report.runs:
        if row.repeats:
            repeats.setdefault(row.repeats, []).append(row.run)
    if repeats:
        yield "Deterministic flag", [f"{_names(runs)}: {sentence}" for sentence, runs in repeats.items()]
    said = [f"{_names(whats)}: {rule}" for rule, whats in rules(report).items()]
    if said:
        more = f"and {len(said) - RULES} more: --format json has all of them"
        yield "Rules", said[:RULES] + ([more] if len(said) > RULES else [])
    if report.footnotes:
        yield "Notes", list(report.footnotes)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
