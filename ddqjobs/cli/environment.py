"""``ddqjobs env``: list, build, verify, lock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.cli.common import FOLDER, JSON, SITE, put, reporting, say, say_json, table

if TYPE_CHECKING:
    from ddqjobs.environments import Environment

app = typer.Typer(help="Environments: pinned, built once, verified.", no_args_is_help=True)
NAMES = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of environments.")]


def _open(folder: str | None, site: str | None) -> tuple[Path, dict[str, Environment]]:
    from ddqjobs import environments
    from ddqjobs.project import open_project
    from ddqjobs.stacks import Stacks

    project = open_project(folder)
    stacks = Stacks(project.catalog, project.catalog.site(site or "local"))
    names = environments.declared(project.catalog.files)
    return stacks.base, {name: environments.load(name, project.catalog.files) for name in names}


def _pick(declared: dict[str, Environment], names: list[str]) -> list[Environment]:
    from ddqjobs.errors import MissingError, nearest

    for name in names:
        if name not in declared:
            there = ", ".join(declared)
            raise MissingError(f"unknown environment '{name}'{nearest(name, declared)}; there are: {there}")
    return [declared[name] for name in names]


def _progress(line: str) -> None:
    typer.echo(line, err=not sys.stdout.isatty())


@app.command("list")
@reporting
def list_(site: SITE = None, folder: FOLDER = None, as_json: JSON = False) -> None:
    """Which environments there are, and which are ready.

    Example: ddqjobs env list
    """
    from ddqjobs import environments

    base, declared = _open(folder, site)
    states = {name: environments.state(base, environment) for name, environment in declared.items()}
    if as_json:
        rows = {
            n: {"ready": s.ready is not None, "reason": s.reason, "path": str(s.location)}
            for n, s in states.items()
        }
        say_json("environments", environments=rows)
        return
    lines = [
        (n, "ready" if s.ready else "not ready", s.reason, declared[n].declaration.title)
        for n, s in states.items()
    ]
    put(table(("ENVIRONMENT", "STATE", "WHY", "TITLE"), lines))


@app.command()
@reporting
def build(names: NAMES, site: SITE = None, folder: FOLDER = None) -> None:
    """Build environments from their locks, verify them, and mark them ready last.

    Example: ddqjobs env build mini-legacy mini-new
    """
    from ddqjobs import environment_build, environments

    base, declared = _open(folder, site)
    for environment in _pick(declared, names):
        if environments.ready(base, environment) is None:
            environment_build.build(environment, base, progress=_progress)
        say(f"{environment.name} is ready: {environments.location(base, environment)}")


@app.command()
@reporting
def verify(names: NAMES, site: SITE = None, folder: FOLDER = None) -> None:
    """Run the checks of built environments again.

    Example: ddqjobs env verify mini-new
    """
    from ddqjobs import environment_build, environments

    base, declared = _open(folder, site)
    for environment in _pick(declared, names):
        environment_build.verify(environment, base, progress=_progress)
        say(f"{environment.name} is ready: {environments.location(base, environment)}")


@app.command()
@reporting
def lock(names: NAMES, site: SITE = None, folder: FOLDER = None) -> None:
    """Resolve requirements to a lock with hashes, anew.

    Example: ddqjobs env lock mini-new
    """
    from ddqjobs import environment_build

    base, declared = _open(folder, site)
    for environment in _pick(declared, names):
        environment_build.lock(environment, base, progress=_progress)
        say(f"locked {environment.name}: {environment.lock_path}")
