"""``ddqjobs shell``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.cli.output import put, say, say_json
from ddqjobs.cli.selection import JSON, Selection, filtered, one_selected

if TYPE_CHECKING:
    from ddqjobs.spec.model import Run


@filtered
def shell(
    selection: Selection,
    command: Annotated[
        str,
        typer.Option("--command", "-c", help="Run this shell command there instead, and exit with its code."),
    ] = "",
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="DURATION", help="How long the allocation lasts; default: 1h."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=0, help="GPUs of the allocation; default: the run's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the script; start nothing.")] = False,
    as_json: JSON = False,
) -> None:
    """Open a shell in a run's environment, with its modules, variables, code and inputs; on a cluster in an
    allocation.

    The shell is not an attempt. `eval "$DDQJOBS_COMMAND"` executes the run's command.
    Examples: ddqjobs shell mini p3-train.ddq-detr-r18; ddqjobs shell ddq p2-unittest -c 'nvidia-smi'
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import seconds

    if as_json and not dry_run:
        raise InputError("--json goes with --dry-run: a shell answers on the terminal")
    if not command and not dry_run and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("a shell needs a terminal; --command 'COMMAND' runs one command without it")
    try:
        time_s = seconds(time) if time is not None else None
    except ValueError as error:
        raise InputError(f"--time: {error}") from error
    plan, planned = one_selected(selection, "shell enters")
    entered = selection.project.shell(
        plan, planned.run.name, site=selection.site, typed=command, time_s=time_s, gpus=gpus
    )
    if as_json:
        say_json("shell", run=planned.run.name, argv=entered.entry.argv, script=entered.text)
        return
    if dry_run:
        put(entered.text)
        return
    if not command:
        _tell(planned.run, entered.entry.where)
    raise typer.Exit(entered.enter())


def _tell(run: Run, where: str) -> None:
    inputs = ", ".join(name for name, _ in run.inputs) or "none"
    say(f"{run.name}, {where}")
    say(f"  environment {run.environment or 'none'}, seed {run.seed}, inputs {inputs}: env | grep DDQJOBS_")
    say('  eval "$DDQJOBS_COMMAND" executes the run\'s command; $DDQJOBS_WORK_DIR is a folder for this shell')
    say("  this shell is not an attempt; exit leaves it")
