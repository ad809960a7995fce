"""``ddqjobs report``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ddqjobs.cli.common import Selection, filtered, note, put, say, settle

_COLOURS = {"reproduced": "green", "equal": "green", "short": "red", "unknown": "yellow"}


def _style(name: str, text: str) -> str:
    return typer.style(text, bold=True) if name == "head" else typer.style(text, fg=_COLOURS.get(name))


@filtered
def report(
    selection: Selection,
    form: Annotated[
        Literal["table", "markdown", "csv", "json", "latex", "html"],
        typer.Option("--format", "-f", help="How to print it."),
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Further metrics: AP50, AP75, APs, APm, APl.")
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Compute AP once more from the predictions of tests (minutes each)."
        ),
    ] = False,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Of a GPU hour, for the cost on the HTML page.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 unless every required verdict holds.")
    ] = False,
) -> None:
    """The AP table: reproduced or not, with the evidence.

    Examples: ddqjobs report mini; ddqjobs report ddq -f latex --out table.tex; ddqjobs report ddq --check
    """
    from ddqjobs import report_formats, results
    from ddqjobs.errors import InputError, RunsFailedError, StateError, nearest

    for name in metric or ():
        if name not in results.METRICS:
            raise InputError(
                f"unknown metric '{name}'{nearest(name, results.METRICS)}; "
                f"there are: {', '.join(results.METRICS)}"
            )
    made = selection.project.report(
        selection.experiment,
        selection.filters,
        site=selection.site,
        metrics=("AP", *(metric or ())),
        recompute=recompute,
        say=note,
    )
    chosen = "json" if as_json else form
    terminal = sys.stdout.isatty() and out is None
    width = shutil.get_terminal_size().columns if terminal else None
    if chosen == "html":
        text = selection.project.report_page(made, site=selection.site, price=price, say=note)
    else:
        text = report_formats.render(made, chosen, width=width, style=_style if terminal else None)
    if out is None:
        put(text.rstrip("\n"))
    else:
        try:
            out.write_text(text)
        except OSError as error:
            raise StateError(f"{out}: {error.strerror}") from error
        say(f"wrote {out}")
    settle(selection.project.workspace(selection.experiment, selection.site).warnings)
    if check and not made.ok:
        raise RunsFailedError(f"not every required verdict holds: {made.overall}")
