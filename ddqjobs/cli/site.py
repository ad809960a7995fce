"""``ddqjobs site``: a site file from what the cluster says of itself, and sites as their files say them."""

from __future__ import annotations

from typing import Annotated

import typer

from ddqjobs.cli import completion, describe
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


@app.command()
@reporting
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A site of the project or one that ships.", autocompletion=completion.sites
        ),
    ],
    as_json: JSON = False,
    folder: FOLDER = None,
) -> None:
    """Show a site as ddqjobs understands it: with everything that it inherits and all defaults.

    Each value has the file and line that set it as a comment. The output is a valid site file without `base`.
    Examples: ddqjobs site show mycluster; ddqjobs site show slurm --json
    """
    from ddqjobs.planning import sections
    from ddqjobs.project import open_project
    from ddqjobs.spec import flat, reader

    document = open_project(folder).catalog.expand_site(name)
    site = sections.with_defaults(document.value)
    entries = tuple(entry for entry in flat.entries(document.root, site) if entry.key != "base")
    if as_json:
        say_json(
            "site",
            name=site.name,
            files=list(map(str, document.files)),
            content={entry.key: entry.plain for entry in entries},
            origins={key: {"file": file, "line": line} for key, file, line in flat.origins(entries)},
        )
        return
    names = describe.short_names(document.files, parts=2)
    say(f"# site {site.name}, with bases and defaults; a key that is not shown is empty")
    for path in document.files:
        say(f"# {names[reader.display(path)]}: {path}")
    for line in flat.lines(entries, names):
        say(line)
