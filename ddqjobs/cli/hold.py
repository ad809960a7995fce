"""``ddqjobs hold`` and ``release``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddqjobs.cli.output import put, say, say_json, settle, table
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.spec.model import Plan, PlannedRun


@filtered
def hold(selection: Selection, as_json: JSON = False) -> None:
    """Keep queued runs from starting until `ddqjobs release`. Runs that have started keep running.

    Examples: ddqjobs hold mini; ddqjobs hold ddq --phase 3 --model 'ddq-rcnn-*'
    """
    plan, runs = _active(selection)
    after = selection.project.hold(plan, runs, site=selection.site)
    held = [planned.run.name for planned in after.runs if _is_held(planned)]
    left = {planned.run.name: planned.reason for planned in after.runs if not _is_held(planned)}
    _answer(selection, "hold", "held", held, left, as_json)


@filtered
def release(selection: Selection, as_json: JSON = False) -> None:
    """Let held runs start.

    Examples: ddqjobs release mini; ddqjobs release ddq --state held --phase 3
    """
    plan, runs = _active(selection)
    before = [planned for planned in runs if _is_held(planned)]
    after = selection.project.release(plan, before, site=selection.site)
    released = [planned.run.name for planned in after.runs if not _is_held(planned)]
    left = {planned.run.name: planned.reason for planned in after.runs if _is_held(planned)}
    _answer(selection, "release", "released", released, left, as_json)


def _active(selection: Selection) -> tuple[Plan, Sequence[PlannedRun]]:
    from ddqjobs.planning.filters import select

    plan = selection.project.plan(selection.experiment, site=selection.site)
    return plan, [planned for planned in select(plan, selection.filters) if planned.status.value == "active"]


def _is_held(planned: PlannedRun) -> bool:
    return planned.state is not None and planned.state.value == "held"


def _answer(
    selection: Selection, kind: str, word: str, names: Sequence[str], left: dict[str, str], as_json: bool
) -> None:
    if as_json:
        say_json(kind, **{word: names, "left": left})
    else:
        say(f"{word} {len(names)} {'run' if len(names) == 1 else 'runs'}" if names else f"{word} no run")
        if left:
            say(f"not {word} ({len(left)}):")
            put(table((), [(f"  {run}", why) for run, why in left.items()]))
    settle(selection.project.workspace(selection.experiment, selection.site).warnings)
