"""Words for the shell's completion: experiments, runs, values of filters, sites, environments.

Names of runs and what filters may say come from a cache, ``results/.names.json``: reading an experiment takes
longer than anybody waits after Tab. An entry counts while the files and folders that it was read from have
the times, sizes and inodes that they had. Looking leaves nothing in a project where nothing was submitted:
its names are kept in the user's own cache, ``~/.cache/ddqjobs/names.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from ddqjobs.base.version import VERSION
from ddqjobs.spec.shipped import Files
from ddqjobs.store.layout import has_results, project_folder

CACHE = ".names.json"
_MOST_KEPT = 40  # experiments in the user's own cache
Names = dict[str, list[str]]  # "run", or a filter -> what there is
_Stamp = list[str | int]  # path, time of change in ns, size, inode


def words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return experiments for the first word, and runs of the experiment that is named or the only one."""
    return _safely(lambda: _words(ctx), incomplete)


def experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the experiments."""
    return _safely(lambda: _files(ctx).names("experiments/*.yaml"), incomplete)


def sites(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the sites."""
    return _safely(lambda: _files(ctx).names("templates/*/site.yaml"), incomplete)


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the environments."""
    return _safely(lambda: _files(ctx).names("envs/*/env.yaml"), incomplete)


def of_filter(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """Return what completes a filter."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _safely(lambda: _values(ctx, kind), incomplete)

    return complete


def _safely(find: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    try:
        return [w for w in find() if w.startswith(incomplete) and w.isprintable() and " " not in w]
    except Exception:  # whatever is wrong: who presses Tab gets no words, and no traceback between theirs
        return []


def _files(ctx: typer.Context) -> Files:
    start = Path(ctx.params.get("folder") or os.environ.get("DDQJOBS_PROJECT") or ".")
    return Files(project_folder(start.expanduser().resolve()))  # a shell hands over `~` as it was typed


def _words(ctx: typer.Context) -> list[str]:
    files, given = _files(ctx), list(ctx.params.get("words") or ())
    known = files.names("experiments/*.yaml")
    if given and given[0] in known:
        return _names(files, given[0], known)["run"]
    own = _own(files, known)
    only = _names(files, own[0], known)["run"] if len(own) == 1 else []
    return only if given else [*known, *only]


def _values(ctx: typer.Context, kind: str) -> list[str]:
    """Return what the named experiment has, else what the project's own or the shipped ones have."""
    files = _files(ctx)
    known = files.names("experiments/*.yaml")
    given = list(ctx.params.get("words") or ())[:1]
    chosen = [name for name in given if name in known] or _own(files, known) or list(known)
    return list(dict.fromkeys(value for name in chosen for value in _names(files, name, known)[kind]))


def _own(files: Files, known: dict[str, Path]) -> list[str]:
    return [name for name, path in known.items() if path.is_relative_to(files.project)]


def _names(files: Files, experiment: str, known: dict[str, Path]) -> Names:
    submitted = has_results(files.project)
    place = files.project / "results" / CACHE if submitted else _user_cache()
    key = experiment if submitted else f"{files.project}: {experiment}"
    kept = _kept(place)
    try:
        entry = kept[key]
        if entry["path"] == str(known[experiment]) and _same(entry["read"]):
            names: Names = entry["names"]
            return names
    except (ValueError, KeyError, TypeError):
        pass
    names, read = _fresh(files.project, experiment)
    others = {name: entry for name, entry in kept.items() if name != key}
    others = others if submitted else dict(list(others.items())[1 - _MOST_KEPT :])
    entry = {"path": str(known[experiment]), "read": read, "names": names}
    _keep(place, {"version": VERSION, "experiments": {**others, key: entry}})
    return names


def _user_cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "ddqjobs" / "names.json"


def _kept(place: Path) -> dict[str, Any]:
    """Return experiment -> entry; empty where the cache is another version's, or none that can be read."""
    try:
        found = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = found.get("experiments") if isinstance(found, dict) and found.get("version") == VERSION else {}
    return entries if isinstance(entries, dict) else {}


def _same(stamps: list[_Stamp]) -> bool:
    return all(_stamp(str(path)) == [path, *rest] for path, *rest in stamps)


def _stamp(path: str) -> _Stamp:
    try:
        at = Path(path).stat()
    except OSError:
        return [path, 0, 0, 0]
    return [path, at.st_mtime_ns, at.st_size, at.st_ino]


def _fresh(project: Path, experiment: str) -> tuple[Names, list[_Stamp]]:
    from ddqjobs.planning.filters import values
    from ddqjobs.planning.lookup import Lookup

    lookup = Lookup(project)
    folders = [str(root / "experiments") for root in lookup.files.roots]
    before = list(map(_stamp, folders))
    runs, paths = lookup.runs(experiment)
    return values(runs), before + [_stamp(str(path)) for path in paths]


def _keep(place: Path, content: object) -> None:
    from ddqjobs.base.files import replace

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace(place, json.dumps(content).encode())
    except OSError:
        pass  # it only saves time
