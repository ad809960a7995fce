"""``ddqjobs plan``."""

from __future__ import annotations

from ddqjobs.base.units import counted
from ddqjobs.cli.describe import changed_since, facts, missing_here, own_templates, summary
from ddqjobs.cli.output import put, say, say_json, settle, table
from ddqjobs.cli.selection import JSON, Selection, filtered


@filtered
def plan(selection: Selection, as_json: JSON = False) -> None:
    """Every run with its status and the reason, what the rest will cost, and what is missing here for it.

    Examples: ddqjobs plan mini; ddqjobs plan ddq --phase 3; ddqjobs plan ddq --state failed --json
    """
    import msgspec

    from ddqjobs.planning.estimate import estimates
    from ddqjobs.planning.filters import select

    project = selection.project
    made = project.plan(selection.experiment, site=selection.site)
    runs = select(made, selection.filters)
    workspace = project.workspace(selection.experiment, selection.site)
    costs = estimates((p.run for p in made.runs), workspace.store.history())
    changes = project.changes(made, site=selection.site) if any(p.stale for p in runs) else ()
    templates = project.catalog.files.own_templates()
    absent = project.missing(made, runs, site=selection.site)
    if as_json:
        say_json(
            "plan",
            experiment=made.experiment,
            site=made.site,
            runs=[{**facts(p), "gpu_hours": costs[p.run.name].gpu_hours} for p in runs],
            not_followed=workspace.loaded.unfollowed,
            changes=[msgspec.structs.asdict(change) for change in changes],
            templates=templates,
            missing=[msgspec.structs.asdict(part) for part in absent],
            warnings=workspace.warnings,
        )
        settle(workspace.warnings)
        return
    rows = [(p.run.name, p.run.phase, p.status.value, p.stale or p.reason) for p in runs]
    put(table(("RUN", "PHASE", "STATUS", "REASON"), rows, status=2))
    say(summary(made, runs))
    for line in own_templates(templates):
        say(line)
    for line in changed_since(changes, made.experiment):
        say(line)
    for line in workspace.loaded.unfollowed:
        say(f"not followed: {line}; a change there makes no result stale")
    todo = [
        costs[p.run.name] for p in runs if p.status.value not in ("done", "active") and not p.run.optional
    ]
    known = [e.gpu_hours for e in todo if e.gpu_hours is not None]
    unknown = len(todo) - len(known)
    if any(p.run.resources.gpus for p in runs):
        words = f", and {counted(unknown, 'run')} of unknown duration" if unknown else ""
        say(f"still to do: {sum(known):.4g} GPU hours{words}")
    for line in missing_here(absent):
        say(line)
    settle(workspace.warnings)
