"""``ddqjobs init`` and ``ddqjobs schema``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from ddqjobs.cli.common import put, reporting, say


@reporting
def init(name: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the new project.")]) -> None:
    """Make a project folder with an experiment of your own to start from.

    Example: ddqjobs init ~/my-reproduction
    """
    from ddqjobs import project
    from ddqjobs.base.errors import InputError

    if not name:  # an empty variable; as a path it would be the folder that the shell is in
        raise InputError("the folder's name is empty; name one, or `.` for the one that you are in")
    folder = Path(name)
    made = project.init(folder.expanduser())
    for path in made:
        say(f"made {path}")
    what = "next" if made else "a project is there already"
    say(f"{what}: cd {shlex.quote(str(folder))} && ddqjobs plan")


@reporting
def schema(
    kind: Annotated[
        Literal["experiment", "site", "environment", "report"],
        typer.Argument(metavar="KIND", help="Of file: experiment, site, environment or report."),
    ],
) -> None:
    """Print the JSON Schema of a kind of file, so that editors complete and check it; of `report`, what
    `ddqjobs report --format json` prints.

    Example: ddqjobs schema experiment > experiment.schema.json, and as the first line of the YAML file:
    # yaml-language-server: $schema=experiment.schema.json
    """
    import json

    import msgspec

    from ddqjobs.report import document as report
    from ddqjobs.spec import environment, experiment, reader, site

    kinds: dict[str, type[msgspec.Struct]] = {
        "experiment": experiment.Experiment,
        "site": site.Site,
        "environment": environment.Declaration,
        "report": report.Report,
    }
    put(json.dumps(reader.schema(kinds[kind], f"ddqjobs {kind}"), indent=2))
