"""Name what changed since stale runs ran: the files, keys, environments or inputs behind each digest part.

A digest says *that* a part changed; this says *what*, by comparing the frozen run and the code snapshot of
the attempt that made the product with the run and the files of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.base.secrets import MASK, is_secret, masked
from ddqjobs.planning import digest
from ddqjobs.planning.digest import Digester
from ddqjobs.planning.syntax import Source
from ddqjobs.spec.model import Plan, PlannedRun, Run, Status
from ddqjobs.store.history import Ticket
from ddqjobs.store.store import Store

_NOT_RECORDED = "not recorded when it ran"
# Fields of a run that its definition consists of (planning.digest), under the words of an experiment file.
_DEFINITION = {
    "kind": "kind",
    "model": "model",
    "seed": "seed",
    "deterministic": "deterministic",
    "command": "command",
    "options": "options",
    "config": "config",
    "workdir": "workdir",
    "launcher": "launcher",
    "variables": "variables",
    "products": "products",
}


class Then(Frozen, frozen=True, kw_only=True):
    """A run as it ran: what its attempt recorded, and the ddqjobs that submitted it."""

    run: Run
    version: str = ""  # empty where it was not recorded
    snapshot: bool = True  # its code snapshot is still there


class Change(Frozen, frozen=True, kw_only=True):
    """A part of the digest that changed in the same way for several runs."""

    part: str
    what: tuple[str, ...]  # files, keys, an environment, upstream runs
    runs: tuple[str, ...]
    versions: tuple[str, ...] = ()  # of ddqjobs, that submitted them


def of_run(then: Then, now: Run, before: Digester, after: Digester) -> dict[str, tuple[str, ...]]:
    """Return, for each part that changed, what did."""
    parts = digest.changed(then.run.digest, now.digest)
    return {part: _what(part, then, now, before, after) or (_NOT_RECORDED,) for part in parts}


def _what(part: str, then: Then, now: Run, before: Digester, after: Digester) -> tuple[str, ...]:
    if part == "definition":
        return _definition(then.run, now)
    if part == "environment":
        return tuple(dict.fromkeys(name for name in (then.run.environment, now.environment) if name))
    if part == "upstream":
        return now.upstream
    if part == "data":
        return ("data version", *(value.path for _, value in now.inputs if value.path))
    if not then.snapshot:
        return ()
    if part == "config":
        return _differing(before.configs(then.run), after.configs(now))
    return _differing(before.modules(then.run), after.modules(now)) or (f"the code tree of {now.code}",)


def _definition(then: Run, now: Run) -> tuple[str, ...]:
    then, now = without_secrets(then), without_secrets(now)
    keys = [word for name, word in _DEFINITION.items() if getattr(then, name) != getattr(now, name)]
    if _inputs(then) != _inputs(now):
        keys.append("inputs")
    if _parallel(then) != _parallel(now):
        keys.append("resources")
    return tuple(keys)


def without_secrets(run: Run) -> Run:
    """Return a run as it is kept on disk and compared later: without the secrets of its variables, of its
    command and of its options."""
    variables = tuple((k, MASK if is_secret(k, v) else v) for k, v in run.variables)
    command, options = (_masked(arguments) for arguments in (run.command, run.options))
    return msgspec.structs.replace(run, variables=variables, command=command, options=options)


def _masked(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return arguments without secrets, also where one names what the next one holds (``--token VALUE``)."""
    together = tuple(masked("\n".join(arguments)).split("\n"))
    return together if len(together) == len(arguments) else tuple(map(masked, arguments))


def _inputs(run: Run) -> list[tuple[str, str, str]]:
    return [(role, value.artifact, value.path) for role, value in run.inputs]


def _parallel(run: Run) -> tuple[int, int, int]:
    return run.resources.nodes, run.resources.gpus, run.resources.cpus


def _differing(before: Mapping[str, Source], after: Mapping[str, Source]) -> tuple[str, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(name for name in names if _form(before.get(name)) != _form(after.get(name)))


def _form(source: Source | None) -> str | None:
    return source.form if source is not None else None


def grouped(changes: Iterable[tuple[str, str, Mapping[str, tuple[str, ...]]]]) -> tuple[Change, ...]:
    """Return the changes of (run, version, part -> what), with runs that changed alike together.

    An upstream change follows from another run's: it is left out where any other part changed, too.
    """
    runs: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    versions: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for run, version, parts in changes:
        own = {part: what for part, what in parts.items() if part != "upstream"} or parts
        for part, what in own.items():
            runs.setdefault((part, what), []).append(run)
            versions.setdefault((part, what), {})[version] = None
    order = {part: number for number, part in enumerate(digest.PARTS)}
    return tuple(
        Change(
            part=part,
            what=what,
            runs=tuple(runs[part, what]),
            versions=tuple(filter(None, versions[part, what])),
        )
        for part, what in sorted(runs, key=lambda key: order[key[0]])
    )


def of_plan(plan: Plan, store: Store, today: Digester) -> tuple[Change, ...]:
    """Return what changed since the stale runs of a plan ran. ``today`` reads the files of today."""
    tickets = store.history().tickets
    snapshots: dict[str, Digester] = {}
    changes = []
    for planned in plan.runs:
        if planned.status is not Status.DONE or not planned.stale or planned.gone:
            continue
        ticket = tickets.get(planned.ticket)
        code = ticket.code if ticket is not None else ""
        if code not in snapshots:
            snapshots[code] = _reading(store.layout.code / code if code else None)
        then = _then(store, planned, ticket)
        if then is not None:
            parts = of_run(then, planned.run, snapshots[code], today)
            changes.append((planned.run.name, then.version, parts))
    return grouped(changes)


def _then(store: Store, planned: PlannedRun, ticket: Ticket | None) -> Then | None:
    """Return the run as its product's attempt recorded it; None where nothing did (an adopted result)."""
    folder = store.layout.run(planned.run.name)
    try:
        number = msgspec.json.decode(folder.product.read_bytes())["attempt"]
        run = msgspec.json.decode(folder.attempt(number).run.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError, KeyError, TypeError):
        return None
    if ticket is None:
        return Then(run=run, snapshot=False)
    there = bool(ticket.code) and (store.layout.code / ticket.code).is_dir()
    return Then(run=run, version=ticket.version, snapshot=there)


def _reading(snapshot: Path | None) -> Digester:
    def find(relative: str) -> Path | None:
        path = snapshot / relative if snapshot is not None else None
        return path if path is not None and path.is_file() else None

    return Digester(find, find, {})
