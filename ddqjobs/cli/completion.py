"""Words for the shell's completion: experiments, runs, values of filters, sites, environments.

Names of runs and what filters may say come from a cache, ``results/.names.json``: reading an experiment takes
longer than anybody waits after Tab. An entry counts while the files and folders that it was read from have
the times, sizes and inodes that they had. Looking leaves nothing in a project where nothing was submitted:
its names are kept in the user's own cache, ``~/.cache/ddqjobs/names.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from ddqjobs.base.version import VERSION
from ddqjobs.spec.shipped import ENVIRONMENTS, EXPERIMENTS, SITES, Files
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
    return _safely(lambda: _files(ctx).names(EXPERIMENTS), incomplete)


def sites(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the sites."""
    return _safely(lambda: _files(ctx).names(SITES), incomplete)


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the environments."""
    return _safely(lambda: _files(ctx).names(ENVIRONMENTS), incomplete)


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
    files, given = _files(ctx), list(ctx.params.get("names") or ())
    known = files.names(EXPERIMENTS)
    if given and given[0] in known:
        return _names(files, given[:1], known)[0]["run"]
    own = _own(files, known)
    only = _names(files, own, known)[0]["run"] if len(own) == 1 else []
    return only if given else [*known, *only]


def _values(ctx: typer.Context, kind: str) -> list[str]:
    """Return what the named experiment has, else what the project's own or the shipped ones have."""
    files = _files(ctx)
    known = files.names(EXPERIMENTS)
    given = list(ctx.params.get("names") or ())[:1]
    chosen = [name for name in given if name in known] or _own(files, known) or list(known)
    return list(dict.fromkeys(value for names in _names(files, chosen, known) for value in names[kind]))


def _own(files: Files, known: dict[str, Path]) -> list[str]:
    return [name for name, path in known.items() if path.is_relative_to(files.project)]


def _names(files: Files, experiments: Sequence[str], known: dict[str, Path]) -> list[Names]:
    """Return the names of each experiment: as they are kept, or read and kept from now on."""
    submitted = has_results(files.project)
    place = files.project / "results" / CACHE if submitted else _user_cache()
    keys = {name: name if submitted else f"{files.project}: {name}" for name in experiments}
    kept = _kept(place)
    missing = [name for name in experiments if not _is_current(kept.get(keys[name]), known[name])]
    fresh = _fresh(files.project, missing)
    for name, (names, read) in fresh.items():
        kept.pop(keys[name], None)  # the newest is the last
        kept[keys[name]] = {"path": str(known[name]), "read": read, "names": names}
    if fresh:
        entries = kept if submitted else dict(list(kept.items())[-_MOST_KEPT:])
        _keep(place, {"version": VERSION, "experiments": entries})
    return [kept[keys[name]]["names"] for name in experiments if name not in missing or name in fresh]


def _is_current(entry: Any, path: Path) -> bool:
    """Return whether an entry of the cache is of this file, and nothing that it was read from has changed."""
    try:
        return bool(entry["path"] == str(path) and entry["names"] and _same(entry["read"]))
    except (ValueError, KeyError, TypeError):
        return False


def _user_cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "ddqjobs" / "names.json"


def _kept(place: Path) -> dict[str, Any]:
    """Return experiment -> entry; empty where the cache is another version's, or none that can be read."""
    try:
        cache = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = cache.get("experiments") if isinstance(cache, dict) and cache.get("version") == VERSION else {}
    return entries if isinstance(entries, dict) else {}


def _same(stamps: list[_Stamp]) -> bool:
    return all(_stamp(str(path)) == [path, *rest] for path, *rest in stamps)


def _stamp(path: str) -> _Stamp:
    try:
        at = Path(path).stat()
    except OSError:
        return [path, 0, 0, 0]
    return [path, at.st_mtime_ns, at.st_size, at.st_ino]


def _fresh(project: Path, experiments: Sequence[str]) -> dict[str, tuple[Names, list[_Stamp]]]:
    """Read experiments; return what each has that can be read, and the files and folders that say so."""
    if not experiments:
        return {}
    from ddqjobs.base.errors import DdqjobsError
    from ddqjobs.planning.filters import values
    from ddqjobs.planning.lookup import Lookup

    lookup = Lookup(project)
    folders = [_stamp(str(root / "experiments")) for root in lookup.files.roots]
    fresh = {}
    for name in experiments:
        with contextlib.suppress(DdqjobsError):
            runs, paths = lookup.runs(name)
            fresh[name] = values(runs), folders + [_stamp(str(path)) for path in paths]
    return fresh


def _keep(place: Path, content: object) -> None:
    from ddqjobs.base.files import replace

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace(place, json.dumps(content).encode())
    except OSError:
        pass  # it only saves time
