"""``ddqjobs site``: a site file from what the cluster says of itself."""

from __future__ import annotations

from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.help import App
from ddqjobs.cli.output import put, say, say_json
from ddqjobs.cli.selection import FOLDER, JSON

app = App(add_completion=False, help="Sites describe where jobs run.", no_args_is_help=True)


@app.callback()
def site() -> None:
    """Describe where jobs run."""


@app.command()
@reporting
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the site, and of its folder.")],
    partition: Annotated[
        str,
        typer.Option(
            "--partition",
            metavar="PARTITION",
            help="Partition to use; default: the one with the most GPUs.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the file; write nothing.")] = False,
    as_json: JSON = False,
    folder: FOLDER = None,
) -> None:
    """Ask this machine's Slurm about itself and write templates/NAME/site.yaml, each line with its source.

    An existing file is not changed. Nothing is submitted.
    Examples: ddqjobs site new mycluster --dry-run; ddqjobs site new mycluster --partition gpu
    """
    from ddqjobs.planning import new_site
    from ddqjobs.project import open_project

    project = open_project(folder)
    path = new_site.place(project.root, name)
    draft = new_site.draft(path, name, partition)
    if not dry_run:
        new_site.write(path, draft.text)
    if as_json:
        say_json("site", name=name, file=str(path), written=not dry_run, text=draft.text, facts=draft.facts)
    elif dry_run:
        put(draft.text.rstrip())
    else:
        say(f"made {path}")
        say(f"next: read it, then `ddqjobs doctor nano --site {name}`")
