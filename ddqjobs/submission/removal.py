"""Take away what a run left: its folder moves aside, and for the ledger it never ran.

Safe to interrupt and to run in two terminals. A run is reserved first, as for a submission, so that nobody
submits it meanwhile; its tickets lose the right to run, in case a node comes back; its folder is moved by one
rename; then the ledger hears of it. Killed in between it is *done, product missing* (or failed, as before),
its reservation is a dead process's, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import seconds
from ddqjobs.detect.files import flush
from ddqjobs.planning import plan as planning
from ddqjobs.spec.model import Plan, PlannedRun, Run, Status, TaskKind
from ddqjobs.store import evidence
from ddqjobs.store.history import RunHistory
from ddqjobs.store.ledger import Removed, ticket_of
from ddqjobs.submission.needed import Needs, needs_of
from ddqjobs.submission.rendering import new_token
from ddqjobs.submission.workspace import Workspace


class Removal(Frozen, frozen=True, kw_only=True):
    """One run that is to be removed: its folder, and how much lies in it."""

    run: str
    path: str  # empty: it left nothing on disk, only in the ledger
    size: int = 0  # bytes on disk; files that something else links to count, too
    read_by: tuple[str, ...] = ()  # done runs that were made from it; they stay
    ticket: str = ""  # that made its result, when it was looked at
    tickets: int = 0  # how many it had then


def with_former(workspace: Workspace, plan: Plan) -> Plan:
    """Return a plan with the runs that left something, and that its experiment no longer has."""
    known = {planned.run.name for planned in plan.runs}
    told = workspace.store.history().runs
    unknown = sorted(workspace.store.run_folders() - known - told.keys())
    there = (name for name in unknown if _is_run(workspace, name))
    names = (*(name for name in told if name not in known), *there)
    former = (_former(workspace, name) for name in names)
    return msgspec.structs.replace(
        plan, runs=(*plan.runs, *(planned for planned in former if planned is not None))
    )


def _is_run(workspace: Workspace, name: str) -> bool:
    """Return whether a folder beside the runs' is one, too: users and disks keep others there."""
    if name.startswith("."):
        return False
    folder = workspace.store.layout.run(name)
    numbers = evidence.numbers(folder.path)
    return any(folder.attempt(number).run.is_file() for number in numbers)


def _former(workspace: Workspace, name: str) -> PlannedRun | None:
    story = workspace.store.history().of(name)
    experiment = workspace.loaded.experiment.name
    if story.active is not None:
        return planning.stray(story.active, story, experiment)
    if not _left(workspace, name):
        return None
    run = Run(name=name, experiment=experiment, task=name.partition(".")[0], kind=TaskKind.SMOKE)
    status = Status.DONE if story.done is not None else Status.FAILED
    return PlannedRun(run=run, status=status, reason="no run of the experiment any more")


def _left(workspace: Workspace, name: str) -> bool:
    """Return whether a run left anything: a folder, or what the ledger says where a removal was killed."""
    history = workspace.store.history()
    story = history.of(name)
    asked = name in history.wanted and bool(story.tickets)
    there = workspace.store.run_dir(name).is_dir()
    return there or story.done is not None or bool(story.failures) or asked


def look(workspace: Workspace, plan: Plan, runs: Sequence[PlannedRun]) -> tuple[Removal, ...]:
    """Return what would be removed of these runs; those that left nothing are not among them. Raise
    StateError of a run that is active, or that something needs."""
    named = {planned.run.name for planned in runs}
    _require_free(workspace, plan, named)
    readers: dict[str, list[str]] = {}
    for planned in plan.runs:
        if planned.status is Status.DONE and not planned.gone and planned.run.name not in named:
            for name in planned.run.upstream:
                readers.setdefault(name, []).append(planned.run.name)
    return tuple(
        _removal(workspace, name, readers.get(name, ())) for name in _names(runs) if _left(workspace, name)
    )


def _names(runs: Iterable[PlannedRun]) -> list[str]:
    """Return the names of runs, in their order, each once."""
    return list(dict.fromkeys(planned.run.name for planned in runs))


def _removal(workspace: Workspace, name: str, readers: Iterable[str]) -> Removal:
    folder, story = workspace.store.run_dir(name), workspace.store.history().of(name)
    return Removal(
        run=name,
        path=str(folder) if folder.is_dir() else "",
        size=_size(folder),
        read_by=tuple(readers),
        ticket=_ticket(story),
        tickets=len(story.tickets),
    )


def _ticket(story: RunHistory) -> str:
    return story.done.ticket if story.done is not None else ""


def _require_free(workspace: Workspace, plan: Plan, names: Collection[str]) -> None:
    """Raise StateError of the first of these runs that is active, or that something needs."""
    needs = needs_of(workspace, plan)
    for planned in plan.runs:
        if planned.run.name in names:
            if planned.status is Status.ACTIVE:
                name = planned.run.name
                raise StateError(
                    f"{name} is active ({planned.reason}); cancel it first: `ddqjobs cancel {name}`"
                )
            _require_unneeded(planned.run.name, needs, names)


def _require_unneeded(name: str, needs: Needs, removed: Collection[str]) -> None:
    if active := needs.readers.get(name):
        raise StateError(f"{name} is read by {active[0]}, which is active; wait for it, or cancel it first")
    adopter = next((text for text in needs.adopters.get(name, ()) if text not in removed), None)
    if adopter is not None:
        raise StateError(
            f"{name} was adopted by {adopter}, whose files are links to it; remove that run first"
        )
    if named := needs.named.get(name):
        raise StateError(f"{name} has files that {named[0]} names by `path:`; change that first")
    if needs.unread:
        raise StateError(f"{name} was not removed: {needs.unread[0]}")


def remove(workspace: Workspace, removals: Iterable[Removal]) -> dict[str, str]:
    """Remove runs; return run -> where its folder lies now (empty: it had none). Raise StateError of what
    has changed since it was looked at or cannot be removed; what was removed before it stays so."""
    seen = {removal.run: removal for removal in removals}
    if not seen:
        return {}
    token, mine, run = new_token(), list[str](), ""
    store, places = workspace.store, dict[str, str]()
    try:
        for _ in _reserved(workspace, token, [*seen]):
            mine.append(ticket_of(token, len(mine)))
        _require_as_seen(workspace, seen)
        for run in seen:
            _require_movable(store.run_dir(run), store.layout.removed)
        for run in seen:
            story = store.history().of(run)
            adopted = {_ticket(story)} - {""}
            store.revoke(frozenset(t.name for t in story.tickets) | adopted)
            places[run] = _move(store.run_dir(run), store.layout.removed / f"{run}.{token}")
            store.ledger.append(Removed(runs=[run]))
    except OSError as error:
        where = error.filename or store.layout.removed
        raise StateError(
            f"{run or next(iter(seen))} was not removed: {where}: {error.strerror}; {mend(error)}"
        ) from error
    finally:
        for ticket in mine:  # removed or not, the next submission takes the reservation after this one
            with contextlib.suppress(OSError):
                store.claims.void(ticket)
    return places


def _reserved(workspace: Workspace, token: str, runs: list[str]) -> Iterator[str]:
    """Reserve runs, and yield each that is. Raise StateError of one that is not, OSError."""
    store, patience_s = workspace.store, seconds(workspace.site.submit_timeout)
    with store.claims.sheet(token, runs) as sheet:
        for run in runs:
            past = frozenset(t.name for t in store.history().of(run).tickets if t.ended)
            if why := store.claims.reserve(run, sheet, past, store.tickets_of, patience_s):
                raise StateError(f"{run} was not removed: {why}")
            yield run


def _require_as_seen(workspace: Workspace, seen: Mapping[str, Removal]) -> None:
    """Raise StateError if a run was submitted, adopted or removed since it was looked at, or is needed now.
    As it is reserved, this stays so."""
    plan = with_former(workspace, workspace.plan(refresh=False))
    history = workspace.store.history()
    for name, removal in seen.items():
        story = history.of(name)
        if (_ticket(story), len(story.tickets)) != (removal.ticket, removal.tickets):
            raise StateError(
                f"{name} was not removed: it was submitted, adopted or removed since you looked; look again"
            )
    _require_free(workspace, plan, seen.keys())


def _require_movable(folder: Path, removed: Path) -> None:
    """Raise OSError if a folder cannot be moved, before anything is changed for it."""
    if not folder.is_dir():
        return
    removed.mkdir(parents=True, exist_ok=True)
    for place in (folder.parent, folder, removed):
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    if os.lstat(folder).st_dev != removed.stat().st_dev:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(folder))


def _move(folder: Path, target: Path) -> str:
    """Move a folder; return where it lies now, empty if there was none. Raise OSError."""
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
