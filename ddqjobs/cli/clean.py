"""``ddqjobs clean``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.base.units import counted
from ddqjobs.cli.output import put, say, say_json, settle, table
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.spec.model import PlannedRun
    from ddqjobs.store.cleaning import Cleaning
    from ddqjobs.store.retention import Checkpoint

_SHOWN = 40


@filtered
def clean(
    selection: Selection,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove checkpoints that nothing needs any more, as `checkpoints:` of the experiment declares.

    Products, inputs and checkpoints that a run will resume from always stay. Other files are never removed.
    Examples: ddqjobs clean ddq --dry-run; ddqjobs clean ddq --phase 3 --state done --yes
    """
    from ddqjobs.base.errors import InputError
    from ddqjobs.base.units import size

    cleaning = _look(selection)
    going, label = (
        cleaning.removed,
        f"{counted(len(cleaning.removed), 'checkpoint')} ({size(cleaning.freed)})",
    )
    if dry_run or not going:
        _show(cleaning, [], 0, as_json, dry_run=dry_run)
    else:
        if not yes:
            if as_json or not sys.stdin.isatty():
                raise InputError(f"this would remove {label}; --dry-run shows them, --yes removes them")
            _list(cleaning)
            if not typer.confirm(f"remove {label}?"):
                raise typer.Exit(0)
            cleaning = _again(selection, going)  # who was asked may have taken his time
        from ddqjobs.store.cleaning import remove

        gone, freed = remove(cleaning.removed)
        _show(cleaning, gone, freed, as_json, dry_run=False)
    settle(selection.project.workspace(selection.experiment, selection.site).warnings)


def _look(selection: Selection) -> Cleaning:
    from ddqjobs.planning.filters import select

    plan = selection.project.plan(selection.experiment, site=selection.site)
    runs: tuple[PlannedRun, ...] = select(plan, selection.filters)
    return selection.project.cleaning(plan, runs, site=selection.site)


def _again(selection: Selection, shown: list[Checkpoint]) -> Cleaning:
    """A second look, of which only what was shown before goes."""
    import msgspec

    known = {(c.path, c.inode) for c in shown}
    fresh = _look(selection)
    kept = (d for d in fresh.decisions if d.stays or (d.checkpoint.path, d.checkpoint.inode) in known)
    return msgspec.structs.replace(fresh, decisions=tuple(kept))


def _list(cleaning: Cleaning) -> None:
    from ddqjobs.base.units import size
    from ddqjobs.store.retention import freed

    going = [d for d in cleaning.decisions if not d.stays]
    frees = freed(d.checkpoint for d in going)
    rows = [
        (c.run, str(c.attempt), c.name, size(frees[c.path]), d.reason)
        for d in going[:_SHOWN]
        if (c := d.checkpoint)
    ]
    if rows:
        put(table(("RUN", "ATTEMPT", "CHECKPOINT", "FREES", "WHY"), rows, align="lllrl"))
    if len(going) > _SHOWN:
        say(f"and {len(going) - _SHOWN} more: --dry-run --json lists them")


def _show(cleaning: Cleaning, gone: list[Checkpoint], freed: int, as_json: bool, *, dry_run: bool) -> None:
    from ddqjobs.base.units import size

    if as_json:
        _show_json(cleaning, gone, freed, dry_run)
    elif not cleaning.removed:
        say(f"nothing to remove: {counted(len(cleaning.decisions), 'checkpoint')} there, all kept")
    elif dry_run:
        _list(cleaning)
        stay = len(cleaning.decisions) - len(cleaning.removed)
        count = counted(len(cleaning.removed), "checkpoint")
        say(f"{count} would go, freeing {size(cleaning.freed)}; {stay} stay")
    else:
        say(f"removed {counted(len(gone), 'checkpoint')}, freed {size(freed)}")


def _show_json(cleaning: Cleaning, gone: list[Checkpoint], freed: int, dry_run: bool) -> None:
    from ddqjobs.store import retention

    frees = retention.freed(cleaning.removed)
    rows = [
        {
            "run": d.checkpoint.run,
            "attempt": d.checkpoint.attempt,
            "path": d.checkpoint.path,
            "stays": d.stays,
            "frees": frees.get(d.checkpoint.path, 0),
            "reason": d.reason,
        }
        for d in cleaning.decisions
    ]
    if dry_run:
        say_json("clean", dry_run=True, checkpoints=rows, freed=cleaning.freed)
    else:
        say_json("clean", dry_run=False, checkpoints=rows, removed=[c.path for c in gone], freed=freed)
