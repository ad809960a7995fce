"""``ddqjobs init``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import say


@reporting
def init(
    name: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the new project.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="EXPERIMENT", help="Start from a copy of this shipped experiment."),
    ] = "",
) -> None:
    """Make a project folder with an experiment of your own to start from.

    Examples: ddqjobs init ~/my-reproduction; ddqjobs init ~/my-dino --from dino-mini
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning import scaffold

    if not name:  # an empty variable; as a path it would be the folder that the shell is in
        raise InputError("the folder's name is empty; name one, or `.` for the one that you are in")
    folder = Path(name)
    made = scaffold.init(folder.expanduser(), source)
    for path in made:
        say(f"made {path}")
    what = "next" if made else "a project is there already"
    there = "" if folder.expanduser().resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    say(f"{what}: {there}ddqjobs plan")
