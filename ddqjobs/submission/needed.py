"""Find what needs the files of a run: active jobs, adopted results, experiments that name them by path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from ddqjobs.base.errors import DdqjobsError
from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.model import Input, Plan, Product, Status
from ddqjobs.store.cleaning import input_paths
from ddqjobs.store.history import Ticket
from ddqjobs.store.layout import ledgers
from ddqjobs.store.store import Store
from ddqjobs.submission.workspace import Workspace

Inputs = tuple[tuple[str, Input], ...]


class Needs(Frozen, frozen=True, kw_only=True):
    """Each has run -> who needs it; ``unread`` says of what the inputs are not known."""

    readers: Mapping[str, list[str]]  # active runs
    adopters: Mapping[str, list[str]]  # a run's name here, `RUN of EXPERIMENT` there
    named: Mapping[str, list[str]]  # experiments
    unread: tuple[str, ...] = ()


class _Line(Frozen, frozen=True, kw_only=True):
    """A line of a submission's manifest."""

    name: str
    inputs: Inputs = ()


def needs_of(workspace: Workspace, plan: Plan) -> Needs:
    """Return what needs the runs of an experiment, by a plan and by the files of active submissions."""
    project, unread = workspace.catalog.project, list[str]()
    readers: dict[str, list[str]] = {}
    for planned in plan.runs:
        if planned.status is Status.ACTIVE:
            _add(readers, planned.run.upstream, planned.run.name)
    paths = [
        (f"experiment {plan.experiment}", path)
        for planned in plan.runs
        for path in input_paths(project, planned.run.inputs)
    ]
    paths += _of_other_experiments(workspace, unread)
    for store, ticket, inputs in _active(workspace):
        here = store.layout.root == workspace.results
        if here and inputs is None:
            unread.append(
                f"what {ticket.run}, which is active, reads is not known, for the manifest of its submission "
                "cannot be read; wait for it, or cancel it first"
            )
        elif here and inputs:
            _add(readers, (value.run for _, value in inputs if value.run), ticket.run)
        paths += [(ticket.run, path) for path in input_paths(project, inputs or ())]
    places, named = _places(workspace.store), dict[str, list[str]]()
    for who, path in paths:
        _add(named, _at(places, path), who)
    return Needs(readers=readers, adopters=adopters_of(workspace), named=named, unread=tuple(unread))


def _add(needs: dict[str, list[str]], names: Iterable[str], who: str) -> None:
    for name in names:
        needs.setdefault(name, []).append(who)


def _of_other_experiments(workspace: Workspace, unread: list[str]) -> list[tuple[str, str]]:
    """Return the files that the project's other experiments name. One that cannot be loaded cannot run; if it
    names results, ``unread`` says so."""
    inputs: list[tuple[str, str]] = []
    for name, file in workspace.catalog.own_experiments().items():
        if name == workspace.loaded.experiment.name:
            continue
        try:
            runs = workspace.catalog.load(name).runs
        except DdqjobsError:
            if workspace.results.parent.name in file.read_text(errors="replace"):
                unread.append(f"{file} names results, and cannot be loaded; fix it first")
            continue
        paths = (path for run in runs for path in input_paths(workspace.catalog.project, run.inputs))
        inputs += [(f"experiment {name}", path) for path in paths]
    return inputs


def _active(workspace: Workspace) -> Iterator[tuple[Store, Ticket, Inputs | None]]:
    """Yield the active tickets of all experiments with what they were submitted to read; None: not known.
    The experiment may have changed since, or may not have the run any more."""
    for ledger in ledgers(workspace.results.parent):
        store = workspace.store if ledger.parent == workspace.results else Store(ledger.parent)
        read: dict[str, dict[str, Inputs]] = {}
        for ticket in store.history().active():
            if ticket.token not in read:
                read[ticket.token] = _manifest(store, ticket.token)
            yield store, ticket, read[ticket.token].get(ticket.run)


def _manifest(store: Store, token: str) -> dict[str, Inputs]:
    try:
        lines = store.layout.submission(token).manifest.read_bytes().splitlines()
        decoded = [msgspec.json.decode(line, type=_Line) for line in lines]
    except (OSError, msgspec.MsgspecError):
        return {}
    return {line.name: line.inputs for line in decoded}


def adopters_of(workspace: Workspace) -> dict[str, list[str]]:
    """Return run -> the adopted results whose files are links to its own: a run's name here, `RUN of
    EXPERIMENT` there."""
    places = _places(workspace.store)
    adopters: dict[str, list[str]] = {}
    for ledger in ledgers(workspace.results.parent):
        store = Store(ledger.parent)
        adopted = (product for product in store.products(store.history()).values() if product.adopted_from)
        here = ledger.parent == workspace.results
        for product in adopted:
            who = product.run if here else f"{product.run} of {ledger.parent.name}"
            sources = {name for path in _sources(store, product) for name in _at(places, path)}
            _add(adopters, sources - ({product.run} if here else set()), who)
    return adopters


def _sources(store: Store, product: Product) -> Iterator[str]:
    """Yield the places of an adopted result's files, and where it was adopted from."""
    folder = store.run_dir(product.run)
    yield from (os.path.realpath(folder / relative) for relative in product.artifacts.values())
    if Path(product.adopted_from).is_absolute():
        yield os.path.realpath(product.adopted_from)


def _places(store: Store) -> dict[Path, str]:
    """Return the real folder of every run -> the run."""
    root = Path(os.path.realpath(store.layout.runs))
    return {
        Path(os.path.realpath(root / name)) if (root / name).is_symlink() else root / name: name
        for name in store.run_folders()
    }


def _at(places: Mapping[Path, str], path: str) -> Iterator[str]:
    """Yield the run in whose folder a path lies, or whose folder it is."""
    place = Path(path)
    yield from (places[folder] for folder in (place, *place.parents) if folder in places)
