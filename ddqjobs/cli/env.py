"""``ddqjobs env``: list, build, verify, lock, fetch, export, remove."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.cli import completion
from ddqjobs.cli.exits import SAME_AGAIN, reporting
from ddqjobs.cli.help import App
from ddqjobs.cli.output import note, put, say, say_json, table
from ddqjobs.cli.selection import FOLDER, JSON, SITE

if TYPE_CHECKING:
    from ddqjobs.environments.environment import State
    from ddqjobs.environments.on_site import Environments
    from ddqjobs.environments.tools import Progress
    from ddqjobs.project import Project
    from ddqjobs.spec.site import Site

app = App(add_completion=False, help="Build, verify and lock environments.", no_args_is_help=True)
_reporting = functools.partial(reporting, interrupted=SAME_AGAIN, terminable=True)
NAMES = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Names of environments.", autocompletion=completion.environments),
]
NAME = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of an environment.", autocompletion=completion.environments),
]
ON_NODE = Annotated[
    bool, typer.Option("--on-node", help="As a job of the site's scheduler; Ctrl-C cancels it.")
]
GPUS = Annotated[int, typer.Option("--gpus", min=0, help="With --on-node: GPUs of the job.")]
CPUS = Annotated[int, typer.Option("--cpus", min=0, help="With --on-node: CPUs of the job.")]
TIME = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="DURATION",
        help="With --on-node: time limit of the job (default: 4h to build, 1h to verify).",
    ),
]


def _opened(folder: str | None, site: str | None) -> tuple[Project, Site, Environments]:
    """A project, a site of it, and its environments there."""
    from ddqjobs.project import open_project

    project = open_project(folder)
    declared = project.site(site)
    return project, declared, project.environments(declared)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Plain lines; on a terminal the last one has a spinner and the time since it began."""
    if not sys.stdout.isatty():
        yield lambda line: typer.echo(line, err=True)
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False))
    with Bar(*columns, TimeElapsedColumn(), console=Console()) as bar:

        def show(line: str) -> None:
            going = [task for task in bar.tasks if not task.finished]
            again = going and line.startswith(f"{going[-1].description} (")  # a sign of life
            if not again:
                for task in going:
                    bar.update(task.id, total=1, completed=1)
                bar.add_task(line, total=None)

        yield show
        for task in bar.tasks:
            bar.update(task.id, total=1, completed=1)


@app.command("list")
@_reporting
def list_(site: SITE = None, folder: FOLDER = None, as_json: JSON = False) -> None:
    """List the environments: ready, unverified, stale (built for another lock), missing; and why.

    Example: ddqjobs env list
    """
    _, declared, environments = _opened(folder, site)
    states = {name: environments.state(name) for name in environments.declared}
    if as_json:
        rows = {
            n: {**_shown(n, s, declared), "ready": s.ready is not None, "path": str(s.location)}
            for n, s in states.items()
        }
        say_json("environments", environments=rows)
        return
    lines = [
        (n, *_shown(n, s, declared).values(), environments.load(n).declaration.title)
        for n, s in states.items()
    ]
    put(table(("ENVIRONMENT", "STATE", "WHY", "TITLE"), lines, status=1))


def _shown(name: str, state: State, site: Site) -> dict[str, str]:
    entered = site.activate.get(name)
    if entered:
        return {"state": "entered", "reason": f"the site names {entered}"}
    return {"state": state.word, "reason": state.reason}


@app.command()
@_reporting
def build(
    names: NAMES,
    again: Annotated[
        bool, typer.Option("--again", help="Rebuild ready environments too, beside the present build.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Without network, from --from DIR.")] = False,
    source: Annotated[Path | None, typer.Option("--from", help="A folder that `env fetch` filled.")] = None,
    on_node: ON_NODE = False,
    gpus: GPUS = 0,
    cpus: CPUS = 0,
    time: TIME = None,
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Build environments from their lock files and verify them.

    A build that was killed is resumed. Examples: ddqjobs env build mini-legacy mini-new;
    ddqjobs env build modern --on-node --gpus 1 --site mycluster;
    ddqjobs env build modern --offline --from DIR
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.environments.on_site import require_fetched

    if offline and source is None:
        raise InputError("--offline needs --from DIR, which `ddqjobs env fetch NAME --to DIR` fills")
    if source is not None and not offline:
        raise InputError("--from goes with --offline: a build takes all from the folder, or nothing")
    _only_on_node(on_node, gpus, cpus, time)
    project, declared, environments = _opened(folder, site)
    environments.pick(names)
    if on_node:
        options = ["--again"] * again + (["--offline", "--from", str(source.absolute())] if source else [])
        _on_node(project, declared, ["build", *names, *options], gpus, cpus, time or "4h")
        return
    fetched = require_fetched(source) if source else None
    for name in names:
        if again or environments.state(name).ready is None:
            with _progress() as progress:
                environments.build(name, progress, again=again, source=fetched)
        say(f"{name} is ready: {environments.location(name)}")


@app.command()
@_reporting
def verify(
    names: NAMES,
    on_node: ON_NODE = False,
    gpus: GPUS = 0,
    cpus: CPUS = 0,
    time: TIME = None,
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Compare the files of built environments with what was built, and run their checks again.

    Example: ddqjobs env verify mini-new; ddqjobs env verify modern --on-node --gpus 1 --site mycluster
    """
    _only_on_node(on_node, gpus, cpus, time)
    project, declared, environments = _opened(folder, site)
    environments.pick(names)
    if on_node:
        _on_node(project, declared, ["verify", *names], gpus, cpus, time or "1h")
        return
    for name in names:
        with _progress() as progress:
            environments.verify(name, progress)
        say(f"{name} is ready: {environments.location(name)}")


@app.command()
@_reporting
def lock(
    names: NAMES,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest versions instead of those pinned.")
    ] = False,
    without: Annotated[
        list[str],
        typer.Option(
            "--without",
            metavar="PACKAGE",
            help="Omit a package that no index has; the lock is then unverified.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Resolve requirements to a lock file with hashes; pins that still fit stay.

    Example: ddqjobs env lock mini-new
    """
    _, _, environments = _opened(folder, site)
    for environment in environments.pick(names, locking=True):
        with _progress() as progress:
            path = environments.lock(environment.name, progress, upgrade=upgrade, without=without)
        say(f"locked {environment.name}: {path}")


@app.command()
@_reporting
def fetch(
    names: NAMES,
    to: Annotated[Path, typer.Option("--to", help="The folder to fill; several environments may share it.")],
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Collect what a build needs where there is no network: wheels, sdists, code trees as bundles.

    Examples: ddqjobs env fetch modern --to wheels;
    ddqjobs env build modern --offline --from wheels  # where there is no network
    """
    _, _, environments = _opened(folder, site)
    for environment in environments.pick(names):
        with _progress() as progress:
            environments.fetch(environment.name, to, progress)
        say(f"fetched {environment.name}: {to}")


@app.command()
@_reporting
def export(
    name: NAME,
    as_script: Annotated[bool, typer.Option("--script", help="Write one bash script.")] = False,
    as_apptainer: Annotated[
        bool,
        typer.Option(
            "--apptainer",
            help="Write an Apptainer definition, its script, and the files that enter the image.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.")] = Path(),
    base: Annotated[str, typer.Option("--base", help="With --apptainer: the image to start from.")] = "",
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Write the build as NAME.sh, to run elsewhere with bash, uv and git; or as NAME.def for Apptainer.

    Example: ddqjobs env export modern --apptainer --base nvidia/cuda:13.0.1-devel-ubuntu24.04
    """
    from ddqjobs.base.errors import InputError

    if as_script == as_apptainer:
        raise InputError("choose either --script or --apptainer")
    if base and not as_apptainer:
        raise InputError("--base goes with --apptainer: a script starts from no image")
    _, _, environments = _opened(folder, site)
    environments.pick([name])
    texts = environments.as_script(name) if as_script else environments.as_image(name, base)
    for relative, text in texts.items():
        path = out / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.name == "python":
            path.chmod(0o755)
        say(f"wrote {path}")
    if as_apptainer:
        say(f"next: apptainer build {name}.sif {name}.def; in the site file: {_entered(name, out)}")


def _entered(name: str, out: Path) -> str:
    return f"activate: {{{name}: {(out / name / 'bin' / 'activate').absolute()}}}"


@app.command()
@_reporting
def remove(
    names: NAMES,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """Remove all builds of environments. Refused while runs of the project are queued or running in them.

    Example: ddqjobs env remove mini-new
    """
    from ddqjobs.base.errors import InputError, StateError

    project, declared, environments = _opened(folder, site)
    environments.pick(names)
    using = project.using(names, declared.name)
    if using:
        name, runs = next(iter(using.items()))
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        raise StateError(f"environment {name} is in use by {runs[0]}{more}: wait for them, or cancel them")
    if not yes:
        action = f"remove all builds of {', '.join(names)} below {environments.base}"
        if not sys.stdin.isatty():
            raise InputError(f"this would {action}; add --yes to do it")
        if not typer.confirm(f"{action}?"):
            raise typer.Exit(0)
    for name in names:
        count = environments.remove(name, note)
        say(f"removed {count} builds of {name}")


def _only_on_node(on_node: bool, gpus: int, cpus: int, time: str | None) -> None:
    from ddqjobs.base.errors import InputError

    given = [name for name, value in (("--gpus", gpus), ("--cpus", cpus), ("--time", time)) if value]
    if given and not on_node:
        raise InputError(f"{', '.join(given)} needs --on-node: without it there is no job")


def _on_node(project: Project, site: Site, arguments: list[str], gpus: int, cpus: int, time: str) -> None:
    """The same command as a job, its output handed on; ends with its exit code."""
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import seconds
    from ddqjobs.spec.model import Resources

    try:
        limit = seconds(time)
    except ValueError as error:
        raise InputError(f"--time: {error}") from None
    argv = [sys.executable, "-m", "ddqjobs", "env", *arguments, "--site", site.name]
    resources = Resources(gpus=gpus, cpus=cpus, time_s=limit)
    code = project.on_node(site, argv, resources, say)
    if code:
        raise typer.Exit(code)
