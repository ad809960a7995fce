"""Rename an experiment: its file and the folder of its results, which are all that bears its name.

Safe to interrupt: the new file first, then the folder by one rename, then the old file goes; the same command
goes on from each of these. Digests do not hold the name, so done runs stay done.
"""

from __future__ import annotations

import re
from pathlib import Path

from ddqjobs.base import files
from ddqjobs.base.errors import InputError, MissingError, StateError, mend, nearest
from ddqjobs.detect.files import flush
from ddqjobs.planning.catalog import Catalog
from ddqjobs.store.store import Store
from ddqjobs.submission.needed import adopters_of
from ddqjobs.submission.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def rename(workspace: Workspace, new: str) -> tuple[Path, Path]:
    """Give an experiment another name; return its file and the folder of its results. Raise InputError,
    MissingError of names, StateError where runs are active or other experiments have adopted its results."""
    old = workspace.loaded.experiment.name
    source, target = _files(workspace.catalog, workspace, new)
    results, renamed = workspace.results, workspace.results.with_name(new)
    if renamed.exists() and (results.exists() or not target.exists()):
        raise StateError(f"{renamed} already exists; choose another name, or move that folder away")
    _require_still(workspace)
    text = _renamed(source.read_text(encoding="utf-8"), new)
    try:
        if not files.create(target, text.encode()) and target.read_text(encoding="utf-8") != text:
            raise InputError(f"{target} already exists; choose another name")
        if results.exists():
            results.rename(renamed)
            flush(renamed.parent)
            _undo_if_submitted(renamed, results, target)
        source.unlink()
    except OSError as error:
        raise StateError(f"{old} was only partly renamed: {error.strerror}; {mend(error)}, and repeat the "
                         "command") from error  # fmt: skip
    return target, renamed


def _renamed(text: str, new: str) -> str:
    """Return an experiment's text with another name."""
    changed, count = re.subn(r"(?m)^name:.*$", f"name: {new}", text, count=1)
    return changed if count else f"name: {new}\n{text}"


def _files(catalog: Catalog, workspace: Workspace, new: str) -> tuple[Path, Path]:
    own, old = catalog.own_experiments(), workspace.loaded.experiment.name
    if not _NAME.fullmatch(new):
        raise InputError(f"'{new}' is not a valid name; use letters, digits, '.', '_' and '-'")
    if old not in own:
        raise MissingError(
            f"{old} is not an experiment of this project{nearest(old, own)}; "
            "experiments that ship cannot be renamed"
        )
    if new in catalog.experiments() and new not in own:
        raise InputError(f"an experiment {new} ships with ddqjobs; choose another name")
    return own[old], own[old].with_name(f"{new}.yaml")


def _require_still(workspace: Workspace) -> None:
    """Raise StateError unless nothing is active and no link of another experiment leads here."""
    name = workspace.loaded.experiment.name
    workspace.plan()
    active = workspace.store.history().active()
    if active:
        raise StateError(f"{active[0].run} is active; wait for it, or cancel it: `ddqjobs cancel {name}`")
    elsewhere = (who for adopters in adopters_of(workspace).values() for who in adopters if " of " in who)
    adopter = next(elsewhere, None)
    if adopter is not None:
        raise StateError(f"cannot rename {name}: files of {adopter} are links into it")


def _undo_if_submitted(renamed: Path, results: Path, target: Path) -> None:
    """Raise StateError, with all as it was, if another terminal submitted a run just before the rename."""
    active = Store(renamed).history().active()
    if active:
        renamed.rename(results)
        target.unlink()
        raise StateError(f"{active[0].run} was submitted a moment ago; wait for it, then repeat the command")
