"""``ddqjobs cancel``, ``retry``, ``advance`` and ``adopt``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.common import FOLDER, JSON, SITE, Selection, filtered, reporting, say, say_json, settle


@filtered
def cancel(
    selection: Selection,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Cancel active runs, also such as the experiment no longer has. They are marked failed (cancelled) and
    come back with `ddqjobs retry`.

    Examples: ddqjobs cancel mini --phase 3; ddqjobs cancel ddq --model 'ddq-detr-*' --yes
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning.filters import select

    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    plan = project.with_strays(plan, site=selection.site)
    runs = [p for p in select(plan, selection.filters) if p.status.value == "active"]
    if runs and not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError(f"this would cancel {counted(len(runs), 'run')}; say --yes")
        for p in runs[:20]:
            say(f"  {p.run.name}: {p.reason}")
        if not typer.confirm(f"cancel {counted(len(runs), 'run')}?"):
            raise typer.Exit(0)
    names = project.cancel(plan, runs, site=selection.site)
    if as_json:
        say_json("cancel", cancelled=names)
    else:
        say(f"asked for the end of {counted(len(names), 'run')}" if names else "none of these runs is active")


@filtered
def retry(selection: Selection, as_json: JSON = False) -> None:
    """Make failed runs eligible again; `ddqjobs submit` then submits them.

    Examples: ddqjobs retry mini; ddqjobs retry ddq p3-train.ddq-detr-4scale
    """
    from ddqjobs.planning.filters import select

    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    names = project.retry(plan, select(plan, selection.filters), site=selection.site)
    if as_json:
        say_json("retry", retried=names)
    else:
        say(f"eligible again: {', '.join(names)}" if names else "none of these runs has failed")


@filtered
def advance(selection: Selection, as_json: JSON = False) -> None:
    """Collect what has ended, submit again what may be retried, submit what became eligible: for cron.

    Only what was submitted before is touched, as far as filters leave it. Example, every ten minutes:
    */10 * * * * ddqjobs advance ddq -C ~/reproduction
    """
    outcome = selection.project.advance(selection.experiment, selection.filters, site=selection.site)
    if as_json:
        say_json("advance", submitted=outcome.submitted, left=outcome.left, unconfirmed=outcome.unconfirmed)
    else:
        say(
            f"submitted {counted(len(outcome.submitted), 'run')}"
            if outcome.submitted
            else "nothing to submit"
        )
    asked = selection.project.workspace(selection.experiment, selection.site)
    settle([*asked.warnings, *(f"{run}: not confirmed: {why}" for run, why in outcome.unconfirmed.items())])
    if outcome.refused:
        raise typer.Exit(1)


@reporting
def adopt(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A detector's work_dir, or a checkpoint.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="The run's experiment.")
    ] = None,
    site: SITE = None,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Take in a result that exists already; every report marks it as adopted.

    Example: ddqjobs adopt -e ddq p3-train.ddq-detr-4scale ~/old/work_dirs/ddq_detr
    """
    from ddqjobs.project import open_project

    project = open_project(folder)
    plan = project.plan(experiment, site=site)
    product = project.adopt(plan, run, path, site=site)
    if as_json:
        say_json("adopt", run=run, product=product)
    else:
        found = ", ".join(f"{k} {v}" for k, v in product.metrics.items() if v is not None) or ", ".join(
            product.artifacts
        )
        say(f"adopted {run} from {path}: {found}")
