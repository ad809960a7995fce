"""The command line: one file per command, a pipeline over :mod:`ddqjobs.project`."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from ddqjobs.cli import (
    acting,
    cleaning,
    common,
    data,
    doctor,
    environment,
    holding,
    looking,
    report,
    setting_up,
    shell,
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


app.command()(setting_up.init)
app.command()(looking.plan)
app.command()(submit.submit)
app.command()(looking.status)
app.command()(looking.logs)
app.command()(shell.shell)
app.command()(report.report)
app.command()(holding.hold)
app.command()(holding.release)
app.command()(acting.cancel)
app.command()(acting.retry)
app.command()(acting.advance)
app.command()(acting.adopt)
app.command()(cleaning.clean)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(environment.app, name="env")
app.command()(setting_up.schema)


def main() -> None:
    """Entry point of the ``ddqjobs`` script."""
    common.ensure_streams()
    # A plan of 10,000 runs makes a million objects that live until the end: looking through them again and
    # again for cycles took a quarter of the time.
    gc.set_threshold(5_000_000, 50, 50)
    try:
        app()
    except OSError as error:  # of --help and --version; commands answer for themselves
        common.refused(common.OutputError(error.errno, error.strerror))
        raise SystemExit(2) from None
