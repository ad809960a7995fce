"""``ddqjobs report``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from ddqjobs.base.units import LOGIN_MEMORY, counted
from ddqjobs.cli.output import note, put, put_utf8, say, settle, style, terminal_width
from ddqjobs.cli.selection import Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.report.document import Report


class _Terminal(TypedDict):
    width: int | None
    style: Callable[[str, str], str] | None


def _style(name: str, text: str) -> str:
    from ddqjobs.report import verdict_colours

    return style(text, bold=True) if name == "head" else style(text, fg=verdict_colours.terminal(name))


FORM = Annotated[
    Literal["table", "markdown", "csv", "json", "latex", "html"] | None,
    typer.Option("--format", "-f", help="Output format; default: from the suffix of --out, else a table."),
]
AS_JSON = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
OUT = Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file.")]
METRIC = Annotated[
    list[str] | None,
    typer.Option("--metric", help="Further metrics: AP50, AP75, APs, APm, APl, or a model's own."),
]
RECOMPUTE = Annotated[
    bool,
    typer.Option("--recompute", help="Recompute AP from the predictions of tests (minutes each)."),
]
MEMORY = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory limit of one recomputation; default: 2GiB."),
]
COMPARE = Annotated[
    tuple[str, str] | None,
    typer.Option("--compare", metavar="A B", help="Two experiments, or this one at two dates, side by side."),
]
EXPORT = Annotated[
    Literal["mlflow", "wandb-offline", "tensorboard"] | None,
    typer.Option("--export", help="Write curves and metrics for another tool into the new folder --out."),
]
PRICE = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="PRICE",
        help="Price of a GPU hour, for the cost on the HTML page: 2.5, or '2.5 EUR'.",
    ),
]
SHARE = Annotated[
    bool,
    typer.Option("--share", help="Leave out absolute paths and names of nodes; in HTML also the scripts."),
]
GALLERY = Annotated[
    int | None,
    typer.Option(
        "--gallery", metavar="N", min=1, max=50,
        help="N images with boxes where two codes differ most, and N where both fail, on the HTML page.",
    ),
]  # fmt: skip
CHECK = Annotated[bool, typer.Option("--check", help="Exit 1 unless every required verdict holds.")]
_BY_ENDING = {
    "": "table",
    ".txt": "table",
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".csv": "csv",
    ".json": "json",
    ".tex": "latex",
}


@filtered
def report(
    selection: Selection,
    form: FORM = None,
    as_json: AS_JSON = False,
    out: OUT = None,
    metric: METRIC = None,
    recompute: RECOMPUTE = False,
    memory: MEMORY = None,
    compare: COMPARE = None,
    export: EXPORT = None,
    price: PRICE = None,
    share: SHARE = False,
    gallery: GALLERY = None,
    check: CHECK = False,
) -> None:
    """Show the AP table: reproduced or not, with the evidence.

    Examples: ddqjobs report mini; ddqjobs report mini -o mini.html --share; ddqjobs report ddq --check;
    ddqjobs report mini --compare 2026-11-01 2026-11-24; ddqjobs report mini --export tensorboard -o board
    """
    from ddqjobs.base.errors import RunsFailedError

    said = _said(form, as_json)
    chosen = said or _by_ending(out if not export else None)
    _refuse_idle(
        said,
        chosen,
        compare=compare is not None,
        export=export is not None,
        check=check,
        recompute=recompute,
        memory=memory is not None,
        price=price is not None,
        share=share,
        gallery=gallery is not None,
    )
    if compare is not None:
        _compare(selection, compare, chosen, out, metric or [])
        return
    document = _made(selection, None if chosen == "html" else metric or [], recompute, share, memory)
    if export is not None:
        _export(selection, document, export, out)
    elif chosen == "html":
        page = _page(selection, document, price, share, gallery or 0)
        _write(page, out or (_beside(selection, document) if sys.stdout.isatty() else None), put_utf8)
    else:
        _write(_text(document, chosen, out), out)
    settle(selection.project.workspace(selection.experiment, selection.site).warnings)
    if check and not document.ok:
        raise RunsFailedError(f"not every required verdict holds: {document.overall}")


def _page(selection: Selection, document: Report, price: str | None, share: bool, gallery: int) -> str:
    amount, currency = _price(price)
    return selection.project.report_page(
        document, site=selection.site, price=amount, currency=currency, share=share, gallery=gallery, say=note
    )


def _price(text: str | None) -> tuple[float | None, str]:
    """Return ``2.5 EUR`` as amount and currency. Raises InputError where it does not begin with a number."""
    from ddqjobs.base.errors import InputError

    if text is None:
        return None, ""
    amount, _, currency = text.strip().partition(" ")
    if not amount.isascii() or not amount.replace(".", "", 1).isdigit():
        raise InputError(f"--price: {text} is not a number, like 2.5, or one with a currency, like '2.5 EUR'")
    return float(amount), currency.strip()


def _said(form: str | None, as_json: bool) -> str | None:
    from ddqjobs.base.errors import InputError

    if as_json and form not in (None, "json"):
        raise InputError(f"--json and --format {form} exclude each other")
    return "json" if as_json else form


def _by_ending(out: Path | None) -> str:
    """Return the format that the ending of ``--out`` names. Raises InputError for one that is not written."""
    from ddqjobs.base.errors import InputError

    suffix = out.suffix.lower() if out is not None else ""
    if suffix not in _BY_ENDING:
        endings = ", ".join(filter(None, _BY_ENDING))
        raise InputError(f"{out}: '{suffix}' is not a format of reports; use {endings}, or give --format")
    return _BY_ENDING[suffix]


def _refuse_idle(
    said: str | None, chosen: str, *, compare: bool, export: bool, check: bool, recompute: bool, memory: bool,
    price: bool, share: bool, gallery: bool,
) -> None:  # fmt: skip
    """Raises InputError for what would have no effect: nobody shall take it for heard."""
    from ddqjobs.base.errors import InputError

    if compare and (export or check or recompute or chosen == "html"):
        others = "html, --export, --check or --recompute"
        raise InputError(f"--compare prints text formats only, not {others}")
    if memory and not recompute:
        raise InputError("--memory goes with --recompute, whose memory it limits")
    if export and said is not None:
        raise InputError("--export writes files of its own: leave out --format and --json")
    if share and (export or compare):
        raise InputError("--share goes with the formats of one report, not with --export or --compare")
    if gallery and share:
        raise InputError("--gallery and --share exclude each other: images may not be yours to share")
    if gallery and (export or chosen != "html"):
        raise InputError("--gallery goes with --format html: that page shows images")
    if price and (export or chosen != "html"):
        raise InputError("--price goes with --format html: that page says what the runs cost")


def _made(
    selection: Selection,
    metrics: list[str] | None,
    recompute: bool = False,
    share: bool = False,
    memory: str | None = None,
    *,
    experiment: str | None = None,
    at: float | None = None,
) -> Report:
    from ddqjobs.base.errors import InputError, nearest
    from ddqjobs.report.document import metrics_known

    name = experiment or selection.experiment
    known = metrics_known(selection.project.workspace(name, selection.site).loaded.experiment)
    for word in metrics or ():
        if word not in known:
            raise InputError(f"unknown metric '{word}'{nearest(word, known)}; there are: {', '.join(known)}")
    return selection.project.report(
        name,
        selection.filters,
        site=selection.site,
        metrics=metrics,
        recompute=recompute,
        at=at,
        share=share,
        memory=memory or LOGIN_MEMORY,
        say=note,
    )


def _compare(
    selection: Selection, pair: tuple[str, str], form: str, out: Path | None, metrics: list[str]
) -> None:
    from ddqjobs.report import compare as report_compare
    from ddqjobs.report import formats

    times = report_compare.sides(*pair)
    names = (None, None) if times[0] is not None else pair
    a, b = (_made(selection, metrics, experiment=name, at=at) for name, at in zip(names, times, strict=True))
    comparison = report_compare.compare(a, b, *pair)
    title = a.experiment if times[0] is not None else f"{a.experiment} and {b.experiment}"
    _write(formats.render_comparison(comparison, title, form, **_terminal(out)), out)


def _text(document: Report, form: str, out: Path | None) -> str:
    from ddqjobs.report import formats

    return formats.render(document, form, **_terminal(out))


def _terminal(out: Path | None) -> _Terminal:
    """Return what a table must fit: nothing where it goes to a file or a pipe."""
    width = None if out is not None else terminal_width()
    return {"width": width, "style": None if width is None else _style}


def _export(selection: Selection, document: Report, kind: str, out: Path | None) -> None:
    from ddqjobs.base.errors import InputError

    if out is None:
        raise InputError(f"--export {kind} needs a new folder: --out DIR")
    count = selection.project.export(document, kind, out, site=selection.site)
    say(f"wrote {counted(count, 'run')} for {kind} to {out}")


def _beside(selection: Selection, document: Report) -> Path:
    """Return the path of a page that nobody gave a place: nobody wants to read HTML in a terminal."""
    folder = selection.project.workspace(selection.experiment, selection.site).store.layout.report
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{document.experiment}.html"


def _write(text: str, out: Path | None, print_it: Callable[[str], None] = put) -> None:
    """To a file, which is replaced as a whole, or to stdout. Raises StateError."""
    from ddqjobs.base import files
    from ddqjobs.base.errors import StateError, refusal

    if out is None:
        print_it(text.rstrip("\n"))
        return
    try:
        if out.exists() and not out.is_file():  # a device or a pipe
            out.write_text(text, encoding="utf-8")
        else:
            files.replace(out.resolve(), text.encode())
    except OSError as error:
        raise StateError(f"{out}: {refusal(error, out.parent)}") from error
    say(f"wrote {out}")
