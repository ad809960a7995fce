"""``ddqjobs rename``."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from ddqjobs.cli import completion
from ddqjobs.cli.exits import SAME_AGAIN, reporting
from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import FOLDER, JSON, SITE

_reporting = functools.partial(reporting, interrupted=SAME_AGAIN)


@_reporting
def rename(
    old: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="An experiment of this project.",
            autocompletion=completion.experiments,
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    site: SITE = None,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Rename an experiment: its file and its results. Done runs stay done.

    To rename a task, edit the file; `ddqjobs adopt EXPERIMENT --from EXPERIMENT` then keeps its results.
    Examples: ddqjobs rename my-mini sweep; ddqjobs rename my-ddq ddq-2026 --json
    """
    from ddqjobs.project import open_project

    project = open_project(folder)
    inheriting = project.rename(old, new, site=site)
    if as_json:
        say_json("rename", renamed=old, name=new, inherits=inheriting)
        return
    say(f"{old} is {new} now: experiments/{new}.yaml, results/{new}")
    for name in inheriting:
        say(f"experiments/{name}.yaml inherits from it: write `base: {new}` there")
