"""Take away what a run left: its folder moves aside, and for the ledger it never ran.

Safe to interrupt and to run in two terminals. A run is reserved first, as for a submission, so that nobody
submits it meanwhile; its tickets lose the right to run, in case a node comes back; its folder is moved by one
rename; then the ledger hears of it. Killed in between it is *done, product missing* (or failed, as before),
its reservation is a dead process's, and the same command goes on.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import seconds
from ddqjobs.detect.files import flush
from ddqjobs.planning import plan as planning
from ddqjobs.spec.model import Plan, PlannedRun, Product, Run, Status, TaskKind
from ddqjobs.store.layout import ledgers
from ddqjobs.store.ledger import Removed, ticket_of
from ddqjobs.store.store import Store
from ddqjobs.submission.rendering import new_token
from ddqjobs.submission.workspace import Workspace


class Removal(Frozen, frozen=True, kw_only=True):
    """One run that is to be removed: its folder, and how much lies in it."""

    run: str
    path: str  # empty: it left nothing on disk, only in the ledger
    size: int = 0  # bytes on disk; files that something else links to count, too
    read_by: tuple[str, ...] = ()  # done runs that were made from it; they stay


def with_former(workspace: Workspace, plan: Plan) -> Plan:
    """Return a plan with the runs that left something, and that its experiment no longer has."""
    known = {planned.run.name for planned in plan.runs}
    history, there = workspace.store.history(), workspace.store.run_folders()
    names = [name for name in {**history.runs, **dict.fromkeys(sorted(there))} if name not in known]
    former = (_former(workspace, name) for name in names)
    return msgspec.structs.replace(plan, runs=(*plan.runs, *(p for p in former if p is not None)))


def _former(workspace: Workspace, name: str) -> PlannedRun | None:
    story = workspace.store.history().of(name)
    experiment = workspace.loaded.experiment.name
    if story.active is not None:
        return planning.stray(story.active, story, experiment)
    if story.done is None and not workspace.store.run_dir(name).is_dir():
        return None
    run = Run(name=name, experiment=experiment, task=name.partition(".")[0], kind=TaskKind.SMOKE)
    status = Status.DONE if story.done is not None else Status.FAILED
    return PlannedRun(run=run, status=status, reason="no run of the experiment any more")


def look(workspace: Workspace, plan: Plan, runs: Sequence[PlannedRun]) -> tuple[Removal, ...]:
    """Return what would be removed of these runs; those that left nothing are not among them. Raise
    StateError of a run that is active, or that something needs."""
    named = {p.run.name: p for p in runs}
    readers: dict[str, list[PlannedRun]] = {}
    for planned in plan.runs:
        for name in planned.run.upstream:
            readers.setdefault(name, []).append(planned)
    removals = []
    adopters = adopters_of(workspace)
    for name, planned in named.items():
        _require_free(planned, readers.get(name, ()), adopters.get(name, ()), named)
        folder = workspace.store.run_dir(name)
        if folder.is_dir() or workspace.store.history().of(name).done is not None:
            done = (p.run.name for p in readers.get(name, ()) if p.status is Status.DONE and not p.gone)
            removals.append(
                Removal(
                    run=name,
                    path=str(folder) if folder.is_dir() else "",
                    size=_size(folder),
                    read_by=tuple(reader for reader in done if reader not in named),
                )
            )
    return tuple(removals)


def _require_free(
    planned: PlannedRun, readers: Iterable[PlannedRun], adopters: Iterable[str], removed: Collection[str]
) -> None:
    name = planned.run.name
    if planned.status is Status.ACTIVE:
        raise StateError(f"{name} is active ({planned.reason}); cancel it first: `ddqjobs cancel {name}`")
    active = next((p.run.name for p in readers if p.status is Status.ACTIVE), None)
    if active is not None:
        raise StateError(f"{name} is read by {active}, which is active; wait for it, or cancel it first")
    adopter = next((text for text in adopters if text not in removed), None)
    if adopter is not None:
        raise StateError(
            f"{name} was adopted by {adopter}, whose files are links to it; remove that run first"
        )


def adopters_of(workspace: Workspace) -> dict[str, list[str]]:
    """Return run -> the adopted results whose files are links to its own: a run's name here, `RUN of
    EXPERIMENT` there."""
    runs = Path(os.path.realpath(workspace.store.layout.runs))
    adopters: dict[str, list[str]] = {}
    for ledger in ledgers(workspace.results.parent):
        store = Store(ledger.parent)
        adopted = (p for p in store.products(store.history()).values() if p.adopted_from)
        here = ledger.parent == workspace.results
        for product in adopted:
            who = product.run if here else f"{product.run} of {ledger.parent.name}"
            for name in _read(store.run_dir(product.run), product, runs) - ({product.run} if here else set()):
                adopters.setdefault(name, []).append(who)
    return adopters


def _read(folder: Path, product: Product, runs: Path) -> set[str]:
    """Return those of the runs, by their folder, in whose folders the files of a product lie."""
    places = (Path(os.path.realpath(folder / relative)) for relative in product.artifacts.values())
    return {place.relative_to(runs).parts[0] for place in places if place.is_relative_to(runs)}


def remove(workspace: Workspace, removals: Iterable[Removal]) -> dict[str, str]:
    """Remove runs; return run -> where its folder lies now (empty: it had none). Raise StateError of what
    cannot be removed; what was removed before it stays so."""
    return {removal.run: _remove(workspace, removal.run) for removal in removals}


def _remove(workspace: Workspace, run: str) -> str:
    store, token = workspace.store, new_token()
    story = store.history().of(run)
    past = frozenset(t.name for t in story.tickets if t.ended)
    patience_s = seconds(workspace.site.submit_timeout)
    try:
        with store.claims.sheet(token, [run]) as sheet:
            if why := store.claims.reserve(run, sheet, past, store.tickets_of, patience_s):
                raise StateError(f"{run} was not removed: {why}")
        adopted = {story.done.ticket} if story.done is not None else set()
        store.revoke(past | adopted)
        place = _move(store.run_dir(run), store.layout.removed / f"{run}.{token}")
    except OSError as error:
        raise StateError(f"{run} was not removed: {error.strerror}; {mend(error)}") from error
    store.ledger.append(Removed(runs=[run]))
    store.claims.void(ticket_of(token, 0))  # the next submission takes the reservation after this one
    return place


def _move(folder: Path, target: Path) -> str:
    """Move a folder; return where it lies now, empty if there was none. Raise OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except FileNotFoundError:
        return ""
    flush(target.parent)
    flush(folder.parent)
    return str(target)


def _size(folder: Path) -> int:
    """Return the bytes on disk below a folder; no link is followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
