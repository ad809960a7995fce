"""Runs in words, and as rows of JSON documents, as several commands show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddqjobs.base.units import counted
from ddqjobs.base.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from ddqjobs.detect.job.training_progress import Progress
    from ddqjobs.doctor.missing import Missing
    from ddqjobs.planning.changes import Change
    from ddqjobs.spec.model import Plan, PlannedRun, Run


def short_names(files: Sequence[Path], parts: int = 1) -> dict[str, str]:
    """Return each file's name in comments: the last ``parts`` of its path, where no other file has the
    same."""
    from ddqjobs.spec import reader

    last = ["/".join(file.parts[-parts:]) for file in files]
    names = (name if last.count(name) == 1 else str(file) for file, name in zip(files, last, strict=True))
    return dict(zip(map(reader.display, files), names, strict=True))


def place_in_matrix(run: Run) -> dict[str, object]:
    """Return what tells a run from the others of its task, as documents of several commands have it."""
    return {
        "model": run.model,
        "implementation": run.implementation,
        "variant": run.variant,
        "grid": dict(run.grid),
        "seed": run.seed,
        "deterministic": run.deterministic,
        "optional": run.optional,
    }


def facts(planned: PlannedRun) -> dict[str, object]:
    """Return a run as `plan --json` and `status --json` show it."""
    run = planned.run
    return {
        "run": run.name,
        "phase": run.phase,
        "task": run.task,
        "kind": run.kind.value,
        **place_in_matrix(run),
        "status": planned.status.value,
        "reason": planned.reason,
        "failure": planned.failure.value if planned.failure else None,
        "stale": planned.stale or None,
        "accepted": planned.accepted or None,
        "job": planned.job or None,
        "state": planned.state.value if planned.state else None,
        "node": planned.node or None,
        "owner": planned.owner or None,
        "attempts": planned.attempts,
        "notes": list(planned.notes),
        "needs": list(run.upstream),
        "digest": run.digest,
    }


_AGAIN = "to be tried again"


def summary(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """``mini on local: 14 runs: 12 done, 2 active``. Optional runs that nobody submitted are counted apart:
    no `submit` starts them without their name."""
    from ddqjobs.report.missing import command

    counts: dict[str, int] = {}
    for planned in runs:
        word = _AGAIN if planned.again else planned.word
        if planned.run.optional and planned.status.value in ("eligible", "waiting"):
            word = "optional"
        counts[word] = counts.get(word, 0) + 1
    stale = sum(bool(planned.stale) for planned in runs)
    parts = [
        f"{n} {word}"
        for word in ("done", "active", "eligible", _AGAIN, "waiting", "failed", "cancelled", "optional")
        if (n := counts.get(word))
    ]
    if stale:
        again = command(("submit", "--stale"), plan.experiment, site=plan.site)
        parts.append(f"{stale} stale (`{again}` runs them again)")
    said = (f"{plan.experiment} on {plan.site}", counted(len(runs), "run"), ", ".join(parts))
    return ": ".join(filter(None, said))


def changed_failures(plan: Plan, runs: Sequence[PlannedRun]) -> list[str]:
    """Return the line that says which failed runs are others today, and what runs them again; no line where
    there are none. ``plan`` has all runs."""
    from ddqjobs.planning.plan import on_stale
    from ddqjobs.report.missing import command

    changed = [planned for planned in runs if planned.changed and not planned.cancelled]
    if not changed:
        return []
    names = [planned.run.name for planned in changed]
    parts = dict.fromkeys(part for planned in changed for part in planned.changed)
    own = [part for part in parts if part != "upstream"] or parts
    failed = {planned.run.name for planned in plan.runs if planned.status.value == "failed"}
    retry = command(("retry",), plan.experiment, names if failed - {*names} else (), plan.site)
    stale = ("--stale",) if on_stale(plan, names) else ()
    if any(planned.run.optional for planned in changed):  # which are submitted only where they are named
        upstream = ("--upstream",) if stale else ()
        submit = command(("submit", *stale, *upstream, "--wait"), plan.experiment, names, plan.site)
    else:
        submit = command(("submit", *stale, "--wait"), plan.experiment, site=plan.site)
    return [
        f"{counted(len(names), 'failed run')} changed since ({', '.join(own)}); "
        f"`{retry} && {submit}` runs {'it' if len(names) == 1 else 'them'} again"
    ]


def progress_text(progress: Progress | None) -> str:
    """``epoch 3/12, 40/100, eta 1h02m, loss 12.3, AP 31.4``, as far as the log tells; of a training by
    iterations ``iteration 40/90000, ...``."""
    if progress is None:
        return ""
    from ddqjobs.base.units import clock

    parts = []
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}" + (f"/{progress.epochs}" if progress.epochs else ""))
    if progress.iteration is not None:
        within = f"{progress.iteration}" + (f"/{progress.iterations}" if progress.iterations else "")
        parts.append(within if progress.epoch is not None else f"iteration {within}")
    if progress.eta_s is not None:
        parts.append(f"eta {clock(progress.eta_s)}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4g}")
    if progress.ap is not None:
        parts.append(f"AP {progress.ap:.1f}")
    if progress.gpu_busy is not None:
        parts.append(f"GPU {progress.gpu_busy:.0%} busy")
    if progress.gpu_hours is not None and progress.gpu_hours_to_come is not None:
        parts.append(f"{progress.gpu_hours:.3g} GPU h, {progress.gpu_hours_to_come:.3g} to come")
    return ", ".join(parts)


def changed_since(changes: Sequence[Change], experiment: str, site: str) -> list[str]:
    """Return the block that says what changed since stale runs ran; no line where none is stale."""
    from ddqjobs.report.missing import command

    if not changes:
        return []
    runs = dict.fromkeys(run for change in changes for run in change.runs)
    versions = dict.fromkeys(version for change in changes for version in change.versions)
    version_note = (
        f" with ddqjobs {', '.join(versions)}; this is {VERSION}"
        if [*versions] not in ([], [VERSION])
        else ""
    )
    lines = [f"changed since {counted(len(runs), 'done run')} ran{version_note}:"]
    for change in changes:
        lines.append(f"  {change.part}: {_first(change.what, 4)} ({_first(change.runs, 3)})")
    again = command(("submit", "--stale"), experiment, site=site)
    stand = f"{command(('accept',), experiment, site=site)} --because TEXT"
    return [*lines, f"  these runs stay done; `{again}` runs them again, `{stand}` lets them stand"]


def _first(names: Sequence[str], count: int) -> str:
    """Return the first names, and how many more there are; one more is said, not counted."""
    if len(names) <= count + 1:
        return ", ".join(names)
    return f"{', '.join(names[:count])} and {len(names) - count} more"


def own_templates(names: Sequence[str]) -> list[str]:
    """Return the line that names a project's own templates; no line without any."""
    return [f"this project's own templates write its job scripts: {', '.join(names)}"] if names else []


def missing_here(absent: Sequence[Missing]) -> list[str]:
    """Return the block that says what the runs to come lack here, counted, each with what brings it."""
    lines = []
    for part in absent:
        lines.append(f"  {part.kind}: {len(part.names)} of {part.needed}: {_first(part.names, 3)}")
        lines.append(f"    -> {part.remedy}")
    return ["missing here:", *lines] if lines else []
