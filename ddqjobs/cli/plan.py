"""``ddqjobs plan``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ddqjobs.cli.describe import changed_failures, changed_since, facts, missing_here, own_templates, summary
from ddqjobs.cli.output import note, put, run_table, say, say_json, settle, terminal_width
from ddqjobs.cli.overview import HOW_TO_LIST, RUNS, lists_runs, overview, to_come
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.planning.catalog import Loaded
    from ddqjobs.spec.model import PlannedRun


@filtered
def plan(selection: Selection, runs: RUNS = False, as_json: JSON = False) -> None:
    """Show tasks by status, the selected runs with their reasons, what is missing, and what the rest will
    cost.

    Examples: ddqjobs plan mini; ddqjobs plan mini --runs; ddqjobs plan ddq --phase 3;
    ddqjobs plan ddq --state failed --json
    """
    import msgspec

    from ddqjobs.planning.estimate import estimates
    from ddqjobs.planning.filters import select
    from ddqjobs.spec.hints import cut_times

    project = selection.project
    full_plan = project.plan(selection.experiment, site=selection.site)
    chosen = select(full_plan, selection.filters)
    workspace = project.workspace(selection.experiment, selection.site)
    costs = estimates((planned.run for planned in full_plan.runs), workspace.store.history())
    changes = (
        project.changes(full_plan, site=selection.site) if any(planned.stale for planned in chosen) else ()
    )
    environments = dict.fromkeys(planned.run.environment for planned in chosen if planned.run.environment)
    loaded, site = workspace.loaded, workspace.site
    hints = [
        *loaded.hints,
        *project.catalog.hints_of_site(site, environments),
        *cut_times(loaded.experiment, [planned.run for planned in chosen], site, loaded.line_of),
    ]
    templates = project.catalog.files.own_templates()
    absent = project.missing(full_plan, chosen, site=selection.site)
    if as_json:
        say_json(
            "plan",
            experiment=full_plan.experiment,
            site=full_plan.site,
            runs=[{**facts(planned), "gpu_hours": costs[planned.run.name].gpu_hours} for planned in chosen],
            not_followed=loaded.unfollowed,
            hints=hints,
            changes=[msgspec.structs.asdict(change) for change in changes],
            templates=templates,
            missing=[msgspec.structs.asdict(part) for part in absent],
            warnings=workspace.warnings,
        )
        settle(workspace.warnings)
        return
    if chosen:
        put(overview(chosen, costs, lambda planned: planned.status.value, width=terminal_width()))
        if lists_runs(selection, runs):
            put("\n" + _list(chosen))
        else:
            note(HOW_TO_LIST)
    say(summary(full_plan, chosen))
    changed = [
        *changed_failures(full_plan, chosen),
        *changed_since(changes, full_plan.experiment, full_plan.site),
    ]
    for line in (*own_templates(templates), *changed, *_remarks(loaded, hints)):
        say(line)
    if any(planned.run.resources.gpus for planned in chosen):
        say(f"still to do: {to_come(chosen, costs).sentence}")
    for line in missing_here(absent):
        say(line)
    settle(workspace.warnings)


def _remarks(loaded: Loaded, hints: Iterable[str]) -> Iterator[str]:
    """Yield what a digest does not cover in an experiment, and what files say that is surely not meant."""
    yield from (f"not followed: {what}; a change there makes no result stale" for what in loaded.unfollowed)
    yield from (f"hint: {hint}" for hint in hints)


def _list(chosen: Sequence[PlannedRun]) -> str:
    rows = [
        (planned.run.name, planned.run.phase, planned.status.value, planned.stale or planned.reason)
        for planned in chosen
    ]
    columns = ("RUN", "PHASE", "STATUS", "REASON")
    return run_table(columns, rows, leave_out=("PHASE",), state="STATUS")
