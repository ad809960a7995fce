"""``ddqjobs check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import fail, say, say_json, warn
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.submission.checked import Checked

AGAIN = Annotated[bool, typer.Option("--again", help="Check again what passed before.")]
PATIENCE = Annotated[
    str, typer.Option("--patience", metavar="DURATION", help="Timeout for the answers, for example 15m.")
]


@filtered
def check(
    selection: Selection,
    again: AGAIN = False,
    patience: PATIENCE = "15m",
    as_json: JSON = False,
) -> None:
    """Check the configurations of runs, with their options, in their environments; train nothing.

    Errors are: a configuration that does not load; an option that does not exist (+path adds one) or has a
    wrong type; a type that is not registered; data outside the run's data sets, or with other classes; a
    product that would not be written. On a cluster the check is one small job. `submit` runs it
    automatically. Exit 2 if something is wrong, or could not be checked.
    Examples: ddqjobs check mini; ddqjobs check ddq --phase 4 --site mycluster; ddqjobs check mini --json
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import seconds
    from ddqjobs.planning.filters import select
    from ddqjobs.submission.checking import Checking

    try:
        patience_s = seconds(patience)
    except ValueError as error:
        raise InputError(f"--patience: {error}") from error
    plan = selection.project.plan(selection.experiment, site=selection.site, refresh=False)
    workspace = selection.project.workspace(selection.experiment, selection.site)
    checked = Checking(workspace, selection.project.environments(workspace.site)).check(
        [planned.run for planned in select(plan, selection.filters)],
        (lambda _: None) if as_json else say,
        again=again,
        patience_s=patience_s,
    )
    if as_json:
        say_json("check", experiment=plan.experiment, site=plan.site, **_content(checked))
    else:
        _show(checked)
    if checked.errors or checked.unchecked:
        raise typer.Exit(2)


def _content(checked: Checked) -> dict[str, object]:
    return {name: getattr(checked, name) for name in checked.__struct_fields__}


def _show(checked: Checked) -> None:
    for note in checked.notes:
        say(note)
    for finding in checked.findings:
        (fail if finding.level == "error" else warn)(str(finding.problem()))
    for reason in checked.reasons:
        fail(reason)
    of, runs = counted(checked.total, "configuration"), counted(checked.runs, "run")
    looked_at, left = checked.configurations, checked.not_checked
    counts = [f"{looked_at} checked now"] * bool(looked_at or not left) + [f"{left} not checked"] * bool(left)
    why_none = "" if checked.total else "; no command of the selected runs loads one"
    say(f"{checked.passed} of {of} passed ({runs}), {', '.join(counts)}{why_none}")
