"""``ddqjobs remove``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import put, say, say_json, table
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddqjobs.submission.removal import Removal

_SHOWN = 40


@filtered
def remove(
    selection: Selection,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove results of runs, including runs removed from the experiment. The runs can then be submitted
    again.

    Their folders move to results/EXPERIMENT/removed, which you may delete. Active runs, and runs that
    active runs read, are never removed.
    Examples: ddqjobs remove mini p4-train.ddq-detr-r18; ddqjobs remove ddq --state failed --dry-run
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import size

    removals = _look(selection)
    if dry_run or not removals:
        _show(removals, {}, as_json, dry_run=dry_run)
        return
    label = f"{counted(len(removals), 'run')} ({size(sum(r.size for r in removals))})"
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError(f"this would remove {label}; --dry-run shows them, --yes removes them")
        _list(removals)
        if not typer.confirm(f"remove {label}?"):
            raise typer.Exit(0)
        shown = {removal.run for removal in removals}  # who was asked may have taken his time
        removals = tuple(removal for removal in _look(selection) if removal.run in shown)
    places = selection.project.remove(selection.experiment, removals, site=selection.site)
    _show(removals, places, as_json, dry_run=False)


def _look(selection: Selection) -> Sequence[Removal]:
    return selection.project.removals(selection.experiment, selection.filters, site=selection.site)


def _list(removals: Sequence[Removal]) -> None:
    from ddqjobs.base.units import size

    rows = [(r.run, size(r.size), ", ".join(r.read_by[:3])) for r in removals[:_SHOWN]]
    put(table(("RUN", "SIZE", "READ BY (STAYS)"), rows, align="lrl"))
    if len(removals) > _SHOWN:
        say(f"and {len(removals) - _SHOWN} more: --dry-run --json lists them")


def _show(removals: Sequence[Removal], places: dict[str, str], as_json: bool, *, dry_run: bool) -> None:
    from ddqjobs.base.units import size

    total = sum(removal.size for removal in removals)
    if as_json:
        rows = [
            {"run": r.run, "path": r.path or None, "size": r.size, "read_by": list(r.read_by),
             "moved_to": places.get(r.run) or None}
            for r in removals
        ]  # fmt: skip
        say_json("remove", dry_run=dry_run, runs=rows, size=total)
    elif not removals:
        say("nothing to remove: none of these runs left anything")
    elif dry_run:
        _list(removals)
        say(f"{counted(len(removals), 'run')} would go ({size(total)})")
    else:
        folders = sorted({place.rpartition("/")[0] for place in places.values() if place})
        where = f"; delete {folders[0]} to free the disk" if folders else ""
        say(f"removed {counted(len(removals), 'run')} ({size(total)}){where}")
