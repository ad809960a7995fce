"""``ddqjobs archive``: create, verify."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddqjobs.base.text import clean
from ddqjobs.base.units import LOGIN_MEMORY, counted
from ddqjobs.cli import completion
from ddqjobs.cli.exits import reporting
from ddqjobs.cli.help import App, Group
from ddqjobs.cli.output import COLOURS, note, put, say, say_json, settle, style
from ddqjobs.cli.selection import FOLDER, JSON, SITE

if TYPE_CHECKING:
    from ddqjobs.environments.on_site import Environments

_CREATE = "create"


class _Archives(Group):
    """Takes `archive EXPERIMENT` for `archive create EXPERIMENT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return the words of the command, with its name."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [_CREATE, *args]
        return super().parse_args(ctx, args)


app = App(
    cls=_Archives,
    add_completion=False,
    help="Pack all evidence for an experiment's numbers into one file, or verify one. `ddqjobs archive "
    "EXPERIMENT` means `archive create EXPERIMENT`.",
)
_writing = functools.partial(reporting, interrupted="no archive was written")
_reading = functools.partial(reporting, interrupted="the archive is as it was")


@app.command(_CREATE)
@_writing
def create(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="Default: the only experiment of the project.",
            autocompletion=completion.experiments,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; default: EXPERIMENT.crate.zip here.")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Include checkpoints and other inputs that runs made.")
    ] = False,
    site: SITE = None,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Write one self-contained file (an RO-Crate): specification, locks, scripts, logs, report.

    Examples: ddqjobs archive mini; ddqjobs archive ddq -o ddq-2026.crate.zip --weights
    """
    from ddqjobs.project import open_project
    from ddqjobs.report.archive import writing

    project = open_project(folder)
    workspace = project.workspace(experiment, site)
    target = out or Path(f"{workspace.loaded.experiment.name}.crate.zip")
    environments = project.environments(workspace.site)
    written = writing.write(workspace, environments, target, weights=weights, say=note)
    if as_json:
        say_json("archive", archive=written)
    else:
        left_out = f"; left out: {counted(len(written.left_out), 'file')}" if written.left_out else ""
        say(f"wrote {written.path}: {counted(written.files, 'file')}, {written.size / 1e6:.1f} MB{left_out}")
        say(f"sha256 {written.sha256}")
    settle(workspace.warnings)


@app.command()
@_reading
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive, from this machine or another.")],
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="Memory limit of one recomputation.")
    ] = LOGIN_MEMORY,
    folder: FOLDER = None,
    as_json: JSON = False,
) -> None:
    """Verify an archive: digests, records, AP from the predictions, verdicts. Needs no project.

    AP is computed by ddqjobs' own evaluator (`pip install 'ddqjobs[coco]'`), or by pycocotools in the test's
    environment, if built here; without either, AP is reported as *not recomputed*. Exit 1 if something does
    not hold.
    Example: ddqjobs archive verify mini.crate.zip
    """
    from ddqjobs.report.archive import verifying

    verified = verifying.verify(file, _environments(folder), note, memory)
    if as_json:
        say_json("archive verify", archive=verified)
    else:
        labels = {
            True: ("ok", "holds"),
            False: ("error", "does not hold"),
            None: ("warning", "not recomputed"),
        }
        for check in verified.checks:
            level, word = labels[check.holds]
            shown = style(f"{word:13}", fg=COLOURS[level]) if sys.stdout.isatty() else f"{word:13}"
            put(f"{shown}  {check.what}: {clean(check.found)}")
        say(f"sha256 {verified.sha256}")
    if not verified.ok:
        raise typer.Exit(1)


def _environments(folder: str | None) -> Environments:
    """Return the environments of the project here, if there is one; of a folder without, none is built."""
    from ddqjobs.project import open_project

    project = open_project(folder)
    return project.environments(project.site(None))
