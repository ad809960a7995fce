"""``ddqjobs init``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli import completion
from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import say


@reporting
def init(
    name: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the new project.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="EXPERIMENT", help="Start from a copy of this shipped experiment."),
    ] = "",
    site: Annotated[
        str,
        typer.Option(
            "--site",
            metavar="SITE",
            help="Where jobs will run: local, or slurm, donau, ... (writes a site file to fill in). "
            "Default: prompt on a terminal, else local.",
            autocompletion=completion.sites,
        ),
    ] = "",
) -> None:
    """Create a project folder with an experiment of your own to start from.

    Examples: ddqjobs init ~/my-reproduction; ddqjobs init ~/my-dino --from dino-mini --site slurm
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.planning import scaffold
    from ddqjobs.project import open_project
    from ddqjobs.spec.site import DEFAULT_SITE

    if not name:  # an empty variable; as a path it would be the folder that the shell is in
        raise InputError("the folder's name is empty; name one, or `.` for the one that you are in")
    folder = Path(name)
    if not site and sys.stdin.isatty() and sys.stdout.isatty():
        site = typer.prompt(f"where will jobs run: {', '.join(scaffold.sites())}", default=DEFAULT_SITE)
    files = scaffold.init(folder.expanduser(), source, site)
    for path in files:
        say(f"made {path}")
    what = "next" if files else "a project already exists there"
    own = open_project(folder.expanduser()).catalog.own_experiments()
    mine = scaffold.name_of_experiment(source)
    named = f" {mine}" if mine in own and len(own) > 1 else ""
    there = "" if folder.expanduser().resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    on_site = scaffold.option(site)
    say(f"{what}: {there}ddqjobs plan{named}{on_site}")
    if files:
        _explain(folder.expanduser(), mine, scaffold.name_of_site(site), on_site)


def _explain(folder: Path, experiment: str, site: str, on_site: str) -> None:
    """Say what the first runs need: a description of the site, and environments."""
    from ddqjobs.project import open_project

    if on_site:
        say(f"then: fill in templates/{site}/site.yaml; `ddqjobs doctor{on_site}` checks it")
        say("      (`ddqjobs site new NAME` asks Slurm, and writes such a file)")
    project = open_project(folder)
    codes = project.load(experiment).experiment.codes.values()
    names = dict.fromkeys(code.environment for code in codes if code.environment)
    if names:
        environments = project.environments(project.catalog.site(site))
        unlocked = [name for name in names if "run: ddqjobs env lock" in environments.problem(name)]
        if unlocked:
            say(f"then: ddqjobs env lock {' '.join(unlocked)}")
            say("      where all package indexes can be reached: their locks still lack packages")
        say(f"then: ddqjobs env build {' '.join(names)}{on_site}")
        say("      installs the pinned Python packages that the runs need, once, from a package registry;")
        say("      `ddqjobs env list` shows what is ready")
