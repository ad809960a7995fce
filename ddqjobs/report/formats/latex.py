"""LaTeX for a paper: tables with booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ddqjobs.base.text import clean
from ddqjobs.report.document import Report
from ddqjobs.report.grids import Text, grids, lists

_CHARACTERS = {
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
    "§": r"\S{}",
    "–": r"--",
}


def of_report(report: Report) -> str:
    """Return the report, verdicts in short words."""
    title = report.title or report.experiment
    return of_text(Text(title=title, grids=tuple(grids(report, brief=True)), lists=tuple(lists(report))))


_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + "\n"


def of_text(text: Text) -> str:
    """Return tables, shrunk to the line where they are wider, and lists."""
    blocks = ["% \\usepackage{booktabs,graphicx,textcomp}\n% \\usepackage[T1]{fontenc}"]
    for grid in text.grids:
        body = "\n".join([*_tex_header(grid.header, grid.title), r"\midrule", *map(_tex_row, grid.rows)])
        blocks.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{_tex(text.title)}: {_tex(grid.title)}}}\n{_FITTED}"
            f"\\begin{{tabular}}{{{grid.align}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}"
        )
    for title, lines in text.lists:
        items = "\n".join(f"\\item {{}}{_tex(line)}" for line in lines)
        blocks.append(f"\\paragraph{{{title}}}\n\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    return "\n\n".join(blocks) + "\n"


def _tex_header(header: Sequence[str], metric: str) -> list[str]:
    """The columns' names; those of one phase, of which the metric is the first, below the phase's name."""
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
    below = [metric if i in starts else name for i, name in enumerate(header)]
    return [" & ".join(above) + r" \\", " ".join(rules), _tex_row(below)]


def _tex_row(texts: Iterable[str]) -> str:
    # {} keeps a cell that begins with [ or * from being read as an argument of the \\ before it.
    return "{}" + " & ".join(map(_tex, texts)) + r" \\"


def _tex(text: str) -> str:
    escaped = "".join(_CHARACTERS.get(character, character) for character in clean(text))
    return re.sub(r"^-(?=[\d.])", "$-$", escaped)
