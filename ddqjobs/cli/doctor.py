"""``ddqjobs doctor``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import COLOURS, put, say_json, style
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.base.findings import Line


@filtered
def doctor(
    selection: Selection,
    job: Annotated[
        bool, typer.Option("--job/--no-job", help="Submit a small job that examines a node.")
    ] = True,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs of that job.")] = 0,
    patience: Annotated[
        str,
        typer.Option("--patience", metavar="DURATION", help="Timeout for that job, for example 2m."),
    ] = "2m",
    as_json: JSON = False,
) -> None:
    """Report what would keep runs from starting or finishing on a site; each line is ok, warning or error.

    Exit 1 if there is an error. On Slurm, `sbatch --test-only` uses up a few job ids in addition to the small
    job's. On Donau nothing is submitted; the output of Donau's commands is recorded in site-facts/, with
    names masked.
    Examples: ddqjobs doctor mini; ddqjobs doctor ddq --site mycluster --phase 1; ddqjobs doctor ddq --no-job
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import seconds
    from ddqjobs.doctor.examine import Options
    from ddqjobs.planning.filters import select

    try:
        patience_s = seconds(patience)
    except ValueError as error:
        raise InputError(f"--patience: {error}") from error
    if gpus and not job:
        raise InputError("--gpus is for the job that --no-job omits")
    plan = selection.project.plan(selection.experiment, site=selection.site, refresh=False)
    lines = selection.project.examine(
        plan,
        select(plan, selection.filters),
        Options(job=job, gpus=gpus, patience_s=patience_s),
        site=selection.site,
        say=(lambda _: None) if as_json else _show,
    )
    errors = sum(line.level.value == "error" for line in lines)
    if as_json:
        say_json("doctor", site=plan.site, experiment=plan.experiment, errors=errors, lines=lines)
    else:
        warnings = sum(line.level.value == "warning" for line in lines)
        counts = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        put(f"{plan.experiment} on {plan.site}: {counts}")
    if errors:
        raise typer.Exit(1)


def _show(line: Line) -> None:
    from ddqjobs.base.text import clean

    word = f"{line.level.value:7}"
    if sys.stdout.isatty():
        word = style(word, fg=COLOURS[line.level.value])
    put(f"{word}  {clean(line.what)}: {clean(line.found)}")
    if line.remedy:
        put(f"         -> {clean(line.remedy)}")
