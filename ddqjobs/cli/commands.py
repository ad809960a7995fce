"""The commands: one file per command, imported when it is called; a pipeline over :mod:`ddqjobs.project`."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer

from ddqjobs.cli.help import App, Command, Group

EPILOG = (
    "Exit codes: 0 success; 1 a run failed or a verdict does not hold (--wait, --check); 2 invalid input; "
    "3 the scheduler could not be asked; 130 Ctrl-C."
)
TITLE = "Reproduce a detection paper on a GPU cluster: from one experiment file to an AP table."


class Entry(NamedTuple):
    """A command as the first help lists it."""

    panel: str
    summary: str
    module: str = ""  # of ddqjobs.cli; the command's name if empty


_RUN, _LOOK, _REPAIR, _SET_UP = "Run", "Look", "Repair", "Set up"
COMMANDS = {
    "submit": Entry(_RUN, "Submit eligible runs, and the runs that wait for them."),
    "advance": Entry(_RUN, "Record finished jobs, submit newly eligible runs; for cron."),
    "hold": Entry(_RUN, "Keep queued runs from starting."),
    "release": Entry(_RUN, "Let held runs start.", "hold"),
    "cancel": Entry(_RUN, "Cancel active runs."),
    "plan": Entry(_LOOK, "Show tasks by status, what is missing, and what the rest costs."),
    "show": Entry(_LOOK, "Show an experiment with its bases and defaults, or one run in full."),
    "check": Entry(_LOOK, "Find errors in configurations and options before anything runs."),
    "status": Entry(_LOOK, "Show runs with their state, progress, job, node and reason."),
    "logs": Entry(_LOOK, "Show the log of a run."),
    "report": Entry(_LOOK, "Show the AP table: reproduced or not, with the evidence."),
    "archive": Entry(_LOOK, "Pack all evidence for the numbers into a file, or verify one."),
    "retry": Entry(_REPAIR, "Make failed or cancelled runs eligible again."),
    "accept": Entry(_REPAIR, "Treat stale results as valid; reports say who decided it and why."),
    "adopt": Entry(_REPAIR, "Adopt results that exist already."),
    "clean": Entry(_REPAIR, "Remove checkpoints that nothing needs any more."),
    "remove": Entry(_REPAIR, "Remove results of runs, which can then be submitted again."),
    "rename": Entry(_REPAIR, "Rename an experiment with its results."),
    "shell": Entry(_REPAIR, "Open a shell in a run's environment, where its job would run."),
    "init": Entry(_SET_UP, "Create a project folder with an experiment of your own."),
    "site": Entry(_SET_UP, "Write a site file from what the cluster reports, or show a site in full."),
    "doctor": Entry(_SET_UP, "Find what would keep runs from starting or finishing on a site."),
    "data": Entry(_SET_UP, "Link, download and verify data sets and weights."),
    "env": Entry(_SET_UP, "Build, verify and lock environments."),
    "notify": Entry(_SET_UP, "List who is notified of what; send a test message."),
    "schema": Entry(_SET_UP, "Print the JSON Schema of a kind of file, or explain a key."),
    "docs": Entry(_SET_UP, "List the documentation pages, or print one."),
}


class Commands(Group):
    """All commands. Help and completion know their names; the module of one is imported when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.commands[name] = Command(name, help=entry.summary, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command itself and the words after it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest


def load(name: str) -> Any:
    """Return a command with its options. Imports its module."""
    module = importlib.import_module(f"ddqjobs.cli.{COMMANDS[name].module or name}")
    own = getattr(module, "app", None)
    if own is None:
        own = App(add_completion=False)
        own.command(name)(getattr(module, name))
    command = typer.main.get_command(own)
    command.name = name
    return command


app = App(
    name="ddqjobs",
    cls=Commands,
    help=TITLE,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        from ddqjobs.base.version import VERSION

        typer.echo(f"ddqjobs {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reproduce a detection paper on a GPU cluster: from one experiment file to an AP table."""
