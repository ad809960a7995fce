"""``ddqjobs cancel``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import JSON, Selection, filtered


@filtered
def cancel(
    selection: Selection,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Cancel active runs, including runs removed from the experiment. `ddqjobs retry` makes them eligible
    again.

    Examples: ddqjobs cancel mini --phase 3; ddqjobs cancel ddq --model 'ddq-detr-*' --yes
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning.filters import select

    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    plan = project.with_strays(plan, site=selection.site)
    runs = [planned for planned in select(plan, selection.filters) if planned.status.value == "active"]
    theirs = [planned for planned in runs if planned.owner]
    if len(theirs) < len(runs):
        runs = [planned for planned in runs if not planned.owner]
    if runs and not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError(f"this would cancel {counted(len(runs), 'run')}; add --yes to do it")
        for planned in runs[:20]:
            say(f"  {planned.run.name}: {planned.reason}")
        if not typer.confirm(f"cancel {counted(len(runs), 'run')}?"):
            raise typer.Exit(0)
    names = project.cancel(plan, runs, site=selection.site)
    if as_json:
        say_json("cancel", cancelled=names)
    else:
        say(f"cancelling {counted(len(names), 'run')}" if names else "none of these runs is active")
        for planned in theirs:
            say(f"left alone: {planned.run.name}, submitted by {planned.owner}")
