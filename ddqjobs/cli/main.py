"""The command line: one file per command, a pipeline over :mod:`ddqjobs.project`."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from ddqjobs.cli import (
    accept,
    adopt,
    advance,
    cancel,
    clean,
    data,
    doctor,
    env,
    exits,
    hold,
    init,
    logs,
    output,
    plan,
    report,
    retry,
    schema,
    shell,
    status,
    submit,
)

EPILOG = (
    "Exit codes: 0 all well; 1 a run failed or a verdict is short (--wait, --check); 2 bad input; "
    "3 the scheduler could not be asked; 130 Ctrl-C."
)
app = typer.Typer(
    name="ddqjobs",
    help="Reproduce a detection paper on a GPU cluster: from one experiment file to an AP table.",
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


app.command()(init.init)
app.command()(plan.plan)
app.command()(submit.submit)
app.command()(status.status)
app.command()(logs.logs)
app.command()(shell.shell)
app.command()(report.report)
app.command()(hold.hold)
app.command()(hold.release)
app.command()(cancel.cancel)
app.command()(retry.retry)
app.command()(accept.accept)
app.command()(advance.advance)
app.command()(adopt.adopt)
app.command()(clean.clean)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(env.app, name="env")
app.command()(schema.schema)


def main() -> None:
    """Entry point of the ``ddqjobs`` script."""
    output.ensure_streams()
    # A plan of 10,000 runs makes a million objects that live until the end: looking through them again and
    # again for cycles took a quarter of the time.
    gc.set_threshold(5_000_000, 50, 50)
    try:
        app()
    except OSError as error:  # of --help and --version; commands answer for themselves
        exits.refused(output.OutputError(error.errno, error.strerror))
        raise SystemExit(2) from None
