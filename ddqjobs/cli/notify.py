"""``ddqjobs notify``."""

from __future__ import annotations

from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import fail, put, say, say_json, table
from ddqjobs.cli.selection import FOLDER, JSON, SITE


@reporting
def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a message through each channel now.")] = False,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="Only the channel of this name.")
    ] = None,
    as_json: JSON = False,
    site: SITE = None,
    folder: FOLDER = None,
) -> None:
    """List who is notified when all submitted runs have ended, a run failed, diverged or hung, or a verdict
    changed, as the site and your own file declare.

    --test sends a message through each channel; exit 1 if one was not delivered. Of a command only its exit
    code is known. `submit --wait` and `advance` send the real ones.
    Examples: ddqjobs notify --site mycluster; ddqjobs notify --test
    """
    from ddqjobs.notify import channels
    from ddqjobs.project import open_project

    project = open_project(folder)
    named = channels.of(project.site(site))
    if channel is not None:
        named = channels.one(named, channel)
    rows = [(scope, name, one) for scope, several in named.items() for name, one in several.items()]
    if not test:
        listed = [
            {"scope": scope, "channel": name, "by": one.by, "events": list(one.events)}
            for scope, name, one in rows
        ]
        if as_json:
            say_json("notify", channels=listed, user_file=str(channels.user_file()))
        elif rows:
            cells = [(scope, name, one.by, ", ".join(one.events) or "all") for scope, name, one in rows]
            put(table(("scope", "channel", "by", "events"), cells))
        else:
            say(f"no channels; add them as `notify:` to the site file or to {channels.user_file()}")
        return
    from ddqjobs.notify.notifier import try_out

    outcome = {(scope, name): try_out(one, name, project.root) for scope, name, one in rows}
    commands = {(scope, name) for scope, name, one in rows if one.by == "command"}
    if as_json:
        results = [{"scope": scope, "channel": name, "why": why} for (scope, name), why in outcome.items()]
        say_json("notify", tried=results)
    else:
        _show(outcome, commands)
    if any(outcome.values()):
        raise typer.Exit(1)


def _show(outcome: dict[tuple[str, str], str], commands: set[tuple[str, str]]) -> None:
    for channel, why in outcome.items():
        name = channel[1]
        if why:
            fail(f"{name}: not delivered: {why}")
        elif channel in commands:
            say(f"{name}: the command ended with exit code 0; whether it sent a message is not known")
        else:
            say(f"{name}: delivered")
    if not outcome:
        say("no channels, so nothing was sent")
