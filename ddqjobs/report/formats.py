"""A report as terminal text, Markdown, CSV, JSON or LaTeX.

Every format starts from the same grids of plain text (:func:`grids`) and escapes them as data in its own
way; control characters are spelled out in all of them, so that none reaches a terminal or a typesetter.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import msgspec

from ddqjobs.base.text import cells, clean, format_table
from ddqjobs.report.cells import Cell, ModelRow
from ddqjobs.report.checks import AlignRow, CheckRow
from ddqjobs.report.document import Report, rules
from ddqjobs.report.findings import CurveRow, RecomputedRow, points_text
from ddqjobs.report.lookup import label
from ddqjobs.report.results import COLUMNS, Row
from ddqjobs.report.verdict import Judgement, Outcome, format_difference

FORMATS = ("table", "markdown", "csv", "json", "latex")
Style = Callable[[str, str], str]  # (outcome or "head", text) -> coloured text
LISTED = 6  # names of missing runs that the text spells out
RULES = 24  # verdicts whose rules the text spells out


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """One table as text. ``outcomes``, for colour: (row, column) -> the verdict shown there."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    outcomes: dict[tuple[int, int], str] = {}


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """What any format of text shows: tables, then titled lists."""

    title: str
    grids: tuple[Grid, ...]
    lists: tuple[tuple[str, list[str]], ...] = ()


def render(report: Report, form: str, *, width: int | None = None, style: Style | None = None) -> str:
    """The report in one of :data:`FORMATS`, ending in a newline. ``width`` and ``style`` are a terminal's."""
    if form == "table":
        return table(report, width=width, style=style)
    return {"markdown": markdown, "csv": to_csv, "json": to_json, "latex": latex}[form](report)


# ---------------------------------------------------------------------------------------------- grids


def grids(report: Report, *, tall: bool = False, brief: bool = False) -> list[Grid]:
    """The tables that are not empty. ``tall``: a line per model and phase, for narrow terminals; ``brief``:
    short verdict words."""
    made = [_tall(report) if tall else _wide(report, brief)] if report.models else []
    if report.alignment:
        made.append(_alignment(report.alignment))
    if report.curves:
        made.append(_curves(report.curves))
    if report.recomputed:
        made.append(_recomputed(report.recomputed))
    if trained := [row for row in report.runs if row.seconds_per_iteration or row.gpu_hours_used]:
        made.append(_costs(trained))
    if report.checks:
        made.append(_checks(report.checks))
    return made


def _marked(text: str, thing: Cell | AlignRow | CheckRow) -> str:
    return text + (" †" if thing.adopted else "") + (" ‡" if thing.stale else "")


def _wide(report: Report, brief: bool) -> Grid:
    """A row per model, for each column AP (and other metrics), difference and verdict."""
    variants = any(row.variant != "default" for row in report.models)
    header = ["model", *(["variant"] if variants else []), "reference"]
    align = "l" * (len(header) - 1) + "r"
    for column in report.columns:
        head = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
        header += [head, *report.metrics[1:], "diff", "verdict"]
        align += "r" * len(report.metrics) + "rl"
    rows, outcomes = [], {}
    for number, row in enumerate(report.models):
        line = [row.title, *([row.variant] if variants else []), row.reference_text]
        for cell in row.cells:
            line += _cell_texts(cell, report.metrics, brief)
            if cell is not None and cell.judgement.outcome:
                outcomes[number, len(line) - 1] = cell.judgement.outcome.value
        rows.append(tuple(line))
    return Grid(title="AP", header=tuple(header), rows=tuple(rows), align=align, outcomes=outcomes)


def _cell_texts(cell: Cell | None, metrics: Sequence[str], brief: bool) -> list[str]:
    if cell is None:
        return [""] * (len(metrics) + 2)
    texts = [cell.values[metric].text for metric in metrics]
    texts[0] = _marked(texts[0], cell)
    judgement = cell.judgement
    word = judgement.brief if brief else judgement.word
    if judgement.outcome is Outcome.UNKNOWN and word == f"unknown: {cell.values['AP'].text}":
        word = "unknown"  # the AP's own cell has said why
    return [*texts, cell.difference_text, word]


def _tall(report: Report) -> Grid:
    """A line per model and column: what fits where the wide table does not."""
    variants = any(row.variant != "default" for row in report.models)
    names = ("model", "variant") if variants else ("model",)
    header = (*names, "phase", *report.metrics, "reference", "diff", "verdict")
    rows: list[tuple[str, ...]] = []
    outcomes = {}
    for row in report.models:
        first = True
        for column, cell in zip(report.columns, row.cells, strict=True):
            if cell is None:
                continue
            name = [row.title, *([row.variant] if variants else [])] if first else [""] * (1 + variants)
            where = " ".join(filter(None, (label(column.phase), column.implementation, column.task)))
            *texts, difference, word = _cell_texts(cell, report.metrics, False)
            if cell.judgement.outcome:
                outcomes[len(rows), len(header) - 1] = cell.judgement.outcome.value
            rows.append((*name, where, *texts, _reference(row, cell), difference, word))
            first = False
    align = "l" * (2 + variants) + "r" * (len(report.metrics) + 2) + "l"
    return Grid(title="AP", header=header, rows=tuple(rows), align=align, outcomes=outcomes)


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


def _alignment(found: Sequence[AlignRow]) -> Grid:
    predictions = ("box (px)", "score", "unmatched")
    # Columns that only some comparisons fill stand there only if one does.
    ap = any(row.found.ap_quanta is not None for row in found)
    weights = any(row.found.weights for row in found)
    outputs = any(row.found.outputs for row in found)
    more = (
        *(("AP",) if ap else ()),
        *(("weights",) if weights else ()),
        *(("modules", "first module that differs") if outputs else ()),
    )
    header = ("run", "phase", *more, *predictions, "first loss difference", "loss (relative)", "verdict")
    rows, outcomes = [], {}
    for number, row in enumerate(found):
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


def _curves(found: Sequence[CurveRow]) -> Grid:
    header = ("model", "variant", "phase", "apart", "seeds apart", "verdict")
    rows = tuple(
        (r.model, r.variant, r.phase, _number(r.distance), _number(r.spread), r.judgement.word) for r in found
    )
    outcomes = {(i, 5): r.judgement.outcome.value for i, r in enumerate(found) if r.judgement.outcome}
    return Grid(title="Loss curves", header=header, rows=rows, align="lllrrl", outcomes=outcomes)


def _recomputed(found: Sequence[RecomputedRow]) -> Grid:
    header = ("run", "phase", "AP in the log", "recomputed", "verdict")
    rows = tuple(
        (
            r.run,
            r.phase,
            "" if r.printed is None else f"{r.printed:.1f}",
            points_text(r.recomputed),
            r.judgement.word,
        )
        for r in found
    )
    outcomes = {(i, 4): r.judgement.outcome.value for i, r in enumerate(found) if r.judgement.outcome}
    return Grid(
        title="AP recomputed from the predictions", header=header, rows=rows, align="llrrl", outcomes=outcomes
    )


def _checks(found: Sequence[CheckRow]) -> Grid:
    header = ("run", "kind", "phase", "found", "verdict")
    rows = tuple((_marked(r.run, r), r.kind, r.phase, r.headline, _word(r.judgement, r.says)) for r in found)
    outcomes = {(i, 4): r.judgement.outcome.value for i, r in enumerate(found) if r.judgement.outcome}
    return Grid(title="Checks", header=header, rows=rows, align="lllll", outcomes=outcomes)


def _costs(found: Sequence[Row]) -> Grid:
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
        for row in found
    )
    return Grid(title="What trainings take", header=header, rows=rows, align="lrrrrr", outcomes={})


def _word(judgement: Judgement, says: str) -> str:
    return says if judgement.outcome is None and says != "done" else judgement.word


def _lines_after(report: Report) -> Iterator[tuple[str, list[str]]]:
    """Titled lists below the tables: summary, what is missing, stale reasons, footnotes."""
    yield "Summary", [*(s.text for s in report.summary), report.overall]
    if report.missing:
        yield "Missing", [f"{m.what} ({_names(m.runs)}): {m.command}" for m in report.missing]
    stale = [f"{row.run}: {row.stale}" for row in report.runs if row.stale]
    if stale:
        yield "Stale", stale[:LISTED] + ([f"and {len(stale) - LISTED} more"] if len(stale) > LISTED else [])
    repeats: dict[str, list[str]] = {}
    for row in report.runs:
        if row.repeats:
            repeats.setdefault(row.repeats, []).append(row.run)
    if repeats:
        yield "Deterministic flag", [f"{_names(runs)}: {says}" for says, runs in repeats.items()]
    said = [f"{_names(whats)}: {rule}" for rule, whats in rules(report).items()]
    if said:
        more = f"and {len(said) - RULES} more: --format json has all of them"
        yield "Rules", said[:RULES] + ([more] if len(said) > RULES else [])
    if report.footnotes:
        yield "Notes", list(report.footnotes)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


# ------------------------------------------------------------------------------------------- terminal


def table(report: Report, *, width: int | None = None, style: Style | None = None) -> str:
    """Terminal text. The AP table takes the fullest of three layouts that fits ``width``: whole verdict
    words, short ones, or a line per model and phase."""
    title = f"{report.experiment}: {report.title}" if report.title else report.experiment
    made = Text(title=title, grids=tuple(_fitting(report, width)), lists=tuple(_lines_after(report)))
    return text_table(made, width=width, style=style)


def text_table(text_: Text, *, width: int | None = None, style: Style | None = None) -> str:
    """Terminal text."""
    blocks = [clean(text_.title)]
    for grid in text_.grids:
        text = format_table(
            grid.header, grid.rows, align=grid.align, width=width, paint=_painter(grid, style), rule=True
        )
        blocks.append(f"{_styled(style, 'head', grid.title)}\n{text}")
    for title, lines in text_.lists:
        body = "\n".join(f"  {clean(line)}" for line in lines)
        blocks.append(f"{_styled(style, 'head', title)}\n{body}")
    return "\n\n".join(blocks) + "\n"


def _fitting(report: Report, width: int | None) -> list[Grid]:
    for brief in (False, True):
        made = grids(report, brief=brief)
        if width is None or not report.models or _natural(made[0]) <= width:
            return made
    return grids(report, tall=True)


def _natural(grid: Grid) -> int:
    longest = [max(map(cells, column)) for column in zip(grid.header, *grid.rows, strict=True)]
    return sum(longest) + 2 * (len(longest) - 1)


def _styled(style: Style | None, name: str, text: str) -> str:
    return text if style is None else style(name, text)


def _painter(grid: Grid, style: Style | None) -> Callable[[int, int, str], str] | None:
    if style is None:
        return None

    def paint(row: int, column: int, text: str) -> str:
        name = "head" if row < 0 else grid.outcomes.get((row, column), "")
        return style(name, text) if name else text

    return paint


# ------------------------------------------------------------------------------------------- markdown


def markdown(report: Report) -> str:
    """GitHub Markdown."""
    title = report.title or report.experiment
    return text_markdown(Text(title=title, grids=tuple(grids(report)), lists=tuple(_lines_after(report))))


def text_markdown(text: Text) -> str:
    """GitHub Markdown."""
    blocks = [f"# {_md(text.title)}"]
    for grid in text.grids:
        marks = ["---:" if side == "r" else "---" for side in grid.align]
        lines = [_md_row(map(_md, grid.header)), _md_row(marks)]
        lines += [_md_row(map(_md, row)) for row in grid.rows]
        blocks.append(f"## {_md(grid.title)}\n\n" + "\n".join(lines))
    for title, lines in text.lists:
        blocks.append(f"## {title}\n\n" + "\n".join(f"- {_md(line)}" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _md_row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _md(text: str) -> str:
    """Text as Markdown data: no character starts markup, a link, HTML, a mention or another column."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&@$])", _md_character, clean(text))


def _md_character(match: re.Match[str]) -> str:
    # A backslash does not stop HTML, entities or mentions everywhere GitHub renders; character references do.
    character = match[1]
    return f"&#{ord(character)};" if character in "<>&@|" else f"\\{character}"


# ------------------------------------------------------------------------------------------ csv, json


def to_csv(report: Report) -> str:
    """The flat rows (:data:`ddqjobs.report.results.COLUMNS`), one per run. Text that a spreadsheet would
    take for a formula is led by an apostrophe, as spreadsheets do themselves."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in report.runs:
        writer.writerow([_csv(value) for value in msgspec.structs.astuple(row)])
    return out.getvalue()


def text_csv(grid: Grid) -> str:
    """One table of texts."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(grid.header)
    writer.writerows([[_csv(text) for text in row] for row in grid.rows])
    return out.getvalue()


def _csv(value: object) -> object:
    if isinstance(value, str):
        return f"'{clean(value)}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") and value else clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan"
    return "" if value is None else value


def to_json(document: msgspec.Struct) -> str:
    """One versioned document; NaN and infinity are null."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    # Legal in JSON, and yet what a terminal acts upon: DEL, C1 controls, bidirectional overrides.
    return re.sub("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", _json_escape, text) + "\n"


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


# ---------------------------------------------------------------------------------------------- latex

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "–": r"--",
}


def latex(report: Report) -> str:
    """Tables for booktabs, verdicts in short words; summary and notes as comments and text below."""
    title = report.title or report.experiment
    made = tuple(grids(report, brief=True))
    return text_latex(Text(title=title, grids=made, lists=tuple(_lines_after(report))))


_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + "\n"


def text_latex(text: Text) -> str:
    """Tables for booktabs, shrunk to the line where they are wider."""
    blocks = ["% \\usepackage{booktabs,graphicx,textcomp}\n% \\usepackage[T1]{fontenc}"]
    for grid in text.grids:
        body = "\n".join([*_tex_header(grid.header), r"\midrule", *map(_tex_row, grid.rows)])
        blocks.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{_tex(text.title)}: {_tex(grid.title)}}}\n{_FITTED}"
            f"\\begin{{tabular}}{{{grid.align}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}"
        )
    for title, lines in text.lists:
        items = "\n".join(f"\\item {{}}{_tex(line)}" for line in lines)
        blocks.append(f"\\paragraph{{{title}}}\n\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    return "\n\n".join(blocks) + "\n"


def _tex_header(header: Sequence[str]) -> list[str]:
    """The columns' names; those of one phase below the phase's name."""
    starts = [i for i, name in enumerate(header) if name.startswith("phase ")]
    if not starts or "diff" not in header:
        return [_tex_row(header)]
    ends = [*starts[1:], len(header)]
    above = [*[""] * starts[0]]
    above += [
        rf"\multicolumn{{{end - at}}}{{c}}{{{_tex(header[at])}}}"
        for at, end in zip(starts, ends, strict=True)
    ]
    rules = [rf"\cmidrule(lr){{{at + 1}-{end}}}" for at, end in zip(starts, ends, strict=True)]
    below = ["AP" if i in starts else name for i, name in enumerate(header)]
    return [" & ".join(above) + r" \\", " ".join(rules), _tex_row(below)]


def _tex_row(texts: Iterable[str]) -> str:
    # {} keeps a cell that begins with [ or * from being read as an argument of the \\ before it.
    return "{}" + " & ".join(map(_tex, texts)) + r" \\"


def _tex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in clean(text))
    return re.sub(r"^-(?=[\d.])", "$-$", escaped)
