"""Entry point of the command line; `commands.py` has the commands."""

from __future__ import annotations

from ddqjobs.cli import interrupts


def main() -> None:
    """Entry point of the ``ddqjobs`` script."""
    interrupts.leave_at_once()
    import gc

    from ddqjobs.cli import completion_scripts, output
    from ddqjobs.cli.commands import app

    output.ensure_streams()
    if completion_scripts.wanted():
        completion_scripts.quieten()
    # A plan of 10,000 runs makes a million objects that live until the end: looking through them again and
    # again for cycles took a quarter of the time.
    gc.set_threshold(5_000_000, 50, 50)
    try:
        app(prog_name="ddqjobs")  # the script is called _ddqjobs
    except OSError as error:  # of --help and --version; commands answer for themselves
        from ddqjobs.cli import exits

        exits.refused(output.OutputError(error.errno, error.strerror))
        raise SystemExit(2) from None
