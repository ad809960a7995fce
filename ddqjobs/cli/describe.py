"""Runs in words, and as rows of JSON documents, as several commands show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddqjobs.base.units import counted
from ddqjobs.base.version import VERSION

if TYPE_CHECKING:
    from ddqjobs.detect.job.training_progress import Progress
    from ddqjobs.doctor.missing import Missing
    from ddqjobs.planning.changes import Change
    from ddqjobs.spec.model import Plan, PlannedRun


def facts(p: PlannedRun) -> dict[str, object]:
    """Return a run as `plan --json` and `status --json` show it."""
    run = p.run
    return {
        "run": run.name,
        "phase": run.phase,
        "task": run.task,
        "kind": run.kind.value,
        "model": run.model,
        "implementation": run.implementation,
        "variant": run.variant,
        "grid": dict(run.grid),
        "seed": run.seed,
        "deterministic": run.deterministic,
        "optional": run.optional,
        "status": p.status.value,
        "reason": p.reason,
        "failure": p.failure.value if p.failure else None,
        "stale": p.stale or None,
        "accepted": p.accepted or None,
        "job": p.job or None,
        "state": p.state.value if p.state else None,
        "node": p.node or None,
        "owner": p.owner or None,
        "attempts": p.attempts,
        "notes": list(p.notes),
        "needs": list(run.upstream),
        "digest": run.digest,
    }


def summary(made: Plan, runs: Sequence[PlannedRun]) -> str:
    """``mini on local: 14 runs: 12 done, 2 active``. Optional runs that nobody submitted are counted apart:
    no `submit` starts them without their name."""
    from ddqjobs.report.missing import command

    counts: dict[str, int] = {}
    for p in runs:
        word = "optional" if p.run.optional and p.status.value in ("eligible", "waiting") else p.word
        counts[word] = counts.get(word, 0) + 1
    stale = sum(bool(p.stale) for p in runs)
    parts = [
        f"{n} {word}"
        for word in ("done", "active", "eligible", "waiting", "failed", "cancelled", "optional")
        if (n := counts.get(word))
    ]
    if stale:
        again = command(("submit", "--stale"), made.experiment, site=made.site)
        parts.append(f"{stale} stale (`{again}` runs them again)")
    said = (f"{made.experiment} on {made.site}", counted(len(runs), "run"), ", ".join(parts))
    return ": ".join(filter(None, said))


def progress_text(p: Progress | None) -> str:
    """``epoch 3/12, 40/100, eta 1h02m, loss 12.3, AP 31.4``, as far as the log tells; of a training by
    iterations ``iteration 40/90000, ...``."""
    if p is None:
        return ""
    from ddqjobs.base.units import clock

    parts = []
    if p.epoch is not None:
        parts.append(f"epoch {p.epoch}" + (f"/{p.epochs}" if p.epochs else ""))
    if p.iteration is not None:
        within = f"{p.iteration}" + (f"/{p.iterations}" if p.iterations else "")
        parts.append(within if p.epoch is not None else f"iteration {within}")
    if p.eta_s is not None:
        parts.append(f"eta {clock(p.eta_s)}")
    if p.loss is not None:
        parts.append(f"loss {p.loss:.4g}")
    if p.ap is not None:
        parts.append(f"AP {p.ap:.1f}")
    if p.gpu_busy is not None:
        parts.append(f"GPU {p.gpu_busy:.0%} busy")
    if p.gpu_hours is not None and p.gpu_hours_to_come is not None:
        parts.append(f"{p.gpu_hours:.3g} GPU h, {p.gpu_hours_to_come:.3g} to come")
    return ", ".join(parts)


def changed_since(changes: Sequence[Change], experiment: str, site: str) -> list[str]:
    """Return the block that says what changed since stale runs ran; no line where none is stale."""
    from ddqjobs.report.missing import command

    if not changes:
        return []
    runs = dict.fromkeys(run for change in changes for run in change.runs)
    versions = dict.fromkeys(version for change in changes for version in change.versions)
    made = (
        f" with ddqjobs {', '.join(versions)}; this is {VERSION}"
        if [*versions] not in ([], [VERSION])
        else ""
    )
    lines = [f"changed since {counted(len(runs), 'done run')} ran{made}:"]
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
