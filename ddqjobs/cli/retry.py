"""``ddqjobs retry``."""

from __future__ import annotations

from ddqjobs.cli.output import say, say_json
from ddqjobs.cli.selection import JSON, Selection, filtered


@filtered
def retry(selection: Selection, as_json: JSON = False) -> None:
    """Make failed or cancelled runs eligible again; `ddqjobs submit` then submits them.

    Examples: ddqjobs retry mini; ddqjobs retry ddq p3-train.ddq-detr-4scale
    """
    from ddqjobs.planning.filters import select

    project = selection.project
    plan = project.plan(selection.experiment, site=selection.site)
    names = project.retry(plan, select(plan, selection.filters), site=selection.site)
    if as_json:
        say_json("retry", retried=names)
    else:
        say(f"eligible again: {', '.join(names)}" if names else "none of these runs failed or was cancelled")
