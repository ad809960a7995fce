"""``ddqjobs advance``."""

from __future__ import annotations

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.live_page import EVERY_S, PAGE, LivePage
from ddqjobs.cli.output import say, say_json, settle
from ddqjobs.cli.selection import JSON, Selection, filtered


@filtered
def advance(selection: Selection, page: PAGE = None, as_json: JSON = False) -> None:
    """For cron: record finished jobs, resubmit retryable failures, and submit newly eligible runs.

    Only selected runs that an earlier `submit` asked for are submitted. Example for every ten minutes:
    */10 * * * * ddqjobs advance ddq -C ~/reproduction
    """
    live = LivePage(selection, page)
    outcome = selection.project.advance(selection.experiment, selection.filters, site=selection.site)
    if as_json:
        say_json("advance", submitted=outcome.submitted, left=outcome.left, unconfirmed=outcome.unconfirmed)
    else:
        say(
            f"submitted {counted(len(outcome.submitted), 'run')}"
            if outcome.submitted
            else "nothing to submit"
        )
    asked = selection.project.workspace(selection.experiment, selection.site)
    try:
        settle(
            [*asked.warnings, *(f"{run}: not confirmed: {why}" for run, why in outcome.unconfirmed.items())]
        )
        if outcome.refused:
            raise typer.Exit(1)
    finally:
        live.finish(EVERY_S)
