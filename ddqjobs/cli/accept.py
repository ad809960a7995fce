"""``ddqjobs accept``."""

from __future__ import annotations

from typing import Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import put, say, say_json, table
from ddqjobs.cli.selection import JSON, Selection, filtered


@filtered
def accept(
    selection: Selection,
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="Why the stale results are still valid.")
    ],
    as_json: JSON = False,
) -> None:
    """Treat stale results as valid until something else changes. Reports show who decided it, when and why.

    Example: ddqjobs accept ddq --task p3-train --because 'only the log interval changed'
    """
    from ddqjobs.planning.filters import select

    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    after = project.accept(plan, select(plan, selection.filters), because, site=selection.site)
    if as_json:
        say_json("accept", accepted=[planned.run.name for planned in after.runs])
    elif not after.runs:
        say("none of these runs is stale")
    else:
        say(f"accepted {counted(len(after.runs), 'stale run')}:")
        why = "only what it was made from had changed"
        put(table((), [(f"  {planned.run.name}", planned.accepted or why) for planned in after.runs]))
