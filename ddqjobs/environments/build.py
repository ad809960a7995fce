"""Locks, builds and verifies environments with uv. Where things lie is said in
:mod:`ddqjobs.environments.environment`.

A build goes: packages, code trees, steps (:mod:`ddqjobs.environments.steps`), ``built.json``, verification
*inside* the environment, ``ready.json``, and at last the link by which everybody else finds it. Whatever
happens before that last step, a verified environment that was there before stays the one in use.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ddqjobs.base import files
from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.base.units import counted
from ddqjobs.environments import checks
from ddqjobs.environments import environment as environments
from ddqjobs.environments import steps as environment_steps
from ddqjobs.environments.environment import READY, Environment, Ready
from ddqjobs.environments.tools import How, Progress, Tools
from ddqjobs.environments.turns import (
    release_folder,
    remove_folder,
    sweep,
    take_folder,
    temporary,
    turn,
)

_ANYWHERE = How()


def build(
    environment: Environment,
    base_dir: Path,
    *,
    progress: Progress,
    again: bool = False,
    how: How = _ANYWHERE,
) -> Ready:
    """Makes the environment ready, with as little work as that takes, and returns the proof.

    One that is ready stays as it is; one that is built is only verified, if its files are still those that
    were built; one whose build was killed is gone on with; ``again`` builds in any case, beside the present
    one, and replaces it at the end. Builds of one environment take turns.

    Raises :class:`EnvironmentNotReadyError` with cause, remedy and the log's path.
    """
    if not environment.locked:
        environments.require(base_dir, environment)
    base_dir = base_dir.absolute()
    state = environments.state(base_dir, environment)
    tools = Tools(environment, base_dir, progress, how)
    if state.ready is not None and not again:
        with tools.translated():
            return _linked(tools, state.ready)
    with tools.translated(), turn(base_dir, environment.name, progress) as alone:
        state = environments.state(base_dir, environment)
        if state.ready is not None and not again:  # built while we waited
            return _linked(tools, state.ready)
        sweep(base_dir, environment)
        if state.built and not again:
            folder = environments.folder(base_dir, environment)
            tools.mark = str(folder)
            tools.say("comparing its files with what was built")
            if checks.intact(folder):
                return _linked(tools, checks.verify(tools, folder, files=False))
        return _build(tools, alone=alone)


def verify(environment: Environment, base_dir: Path, *, progress: Progress, how: How = _ANYWHERE) -> Ready:
    """Compares files and packages with what was built, and runs the checks. One that fails is not ready any
    more.

    Raises :class:`EnvironmentNotReadyError`, also if nothing is built.
    """
    base_dir = base_dir.absolute()
    if not environments.state(base_dir, environment).built:
        environments.require(base_dir, environment)
    tools = Tools(environment, base_dir, progress, how)
    with tools.translated(), turn(base_dir, environment.name, progress):
        folder = environments.folder(base_dir, environment)
        tools.mark = str(folder)
        return _linked(tools, checks.verify(tools, folder, files=True))


def lock(
    environment: Environment,
    base_dir: Path,
    *,
    progress: Progress,
    upgrade: bool = False,
    without: Sequence[str] = (),
) -> Path:
    """Resolves the requirements anew and writes the lock; pins that still fit stay, unless ``upgrade``.
    Hashes are always those of the files that the indexes have now.

    The lock names files by hash alone: no index, no folder of the machine on which it was made. Packages
    ``without`` which it is made, because no index at hand has them, are named in it: nothing is built from
    it, but all other pins are known to fit together.

    Raises :class:`EnvironmentNotReadyError` if the requirements cannot be resolved.
    """
    base_dir = base_dir.absolute()
    declaration = environment.declaration
    if without:  # the declared pages would have them; they are what cannot be reached
        bare = msgspec.structs.replace(declaration, wheels=[], indexes=[], fallback_indexes=[])
        environment = dataclasses.replace(environment, declaration=bare)
    tools = Tools(environment, base_dir, progress, _ANYWHERE)
    built_here = [
        *declaration.from_source,
        *(package for s in declaration.steps.values() for package in s.packages),
    ]
    with tools.translated(), temporary(base_dir) as folder:
        tools.step_log("lock")
        out = folder / "lock.txt"
        out.write_text("" if upgrade else _without_hashes(environment.lock), encoding="utf-8")
        arguments = ["pip", "compile", "--quiet", "--generate-hashes"]
        arguments += environment_steps.only_binary(built_here)
        arguments += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        arguments += ["--python-version", declaration.python, "--python-platform", declaration.platform]
        requirements = folder / environment.requirements.name
        wanted = environment.requirements.read_text(encoding="utf-8")
        text, left_out = _without(wanted, without)
        requirements.write_text(text, encoding="utf-8")
        arguments += [word for package in without for word in ("--no-emit-package", package)]
        arguments += ["--output-file", str(out), str(requirements)]
        arguments += ["--override", str(environment.overrides)] if environment.overrides else []
        arguments += ["--build-constraints", str(requirements)] if built_here else []
        tools.uv_with_fallback(arguments, f"resolving {environment.requirements.name}")
        text = _lock_text(environment, out.read_text(encoding="utf-8"), left_out)
        environment.lock_path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(environment.lock_path, text.encode())
    progress(
        f"{environment.name}: {counted(len(environments.pins(text)), 'package')} in {environment.lock_path}"
    )
    return environment.lock_path


def _without_hashes(lock: str) -> str:
    """The pins alone. uv would keep the hashes that it finds: only those of the index that was asked when the
    lock was first made, also when that index has another file now."""
    return re.sub(r"[ \t]*(?:\\\n)?[ \t]*--hash=\S+", "", lock)


def remove(environment: Environment, base_dir: Path, *, progress: Progress) -> int:
    """Removes all builds of the environment, for whatever lock; how many there were. Logs stay. The link
    goes first: nothing half removed is ever found. Raises EnvironmentNotReadyError."""
    base_dir = base_dir.absolute()
    tools = Tools(environment, base_dir, progress, _ANYWHERE)
    with tools.translated(), turn(base_dir, environment.name, progress):
        for link in environments.links(base_dir, environment.name):
            link.unlink()
        builds = base_dir / ".builds" / environment.name
        folders = list(builds.iterdir()) if builds.is_dir() else []
        for folder in folders:
            remove_folder(folder)
        return len(folders)


def _build(tools: Tools, *, alone: bool) -> Ready:
    environment, base_dir = tools.environment, tools.base_dir
    builds = base_dir / ".builds" / environment.name
    folder = take_folder(builds, environments.identity(environment), alone=alone)
    tools.mark = str(folder)
    started = time.monotonic()
    try:
        steps = environment_steps.perform(tools, folder)
        checks.record_built(tools, folder, steps)
    finally:
        release_folder(folder)
    link = environments.location(base_dir, environment)
    if not (link / READY).exists():  # nothing that works is replaced by what is not verified yet
        _put_in_place(link, folder)
    ready = checks.verify(tools, folder, files=False)
    _put_in_place(link, folder)
    _linked(tools, ready)
    tools.say(f"ready after {time.monotonic() - started:.1f} s: {link}")
    return ready


def _put_in_place(link: Path, folder: Path) -> None:
    files.link(link, os.path.relpath(folder, link.parent))


def _linked(tools: Tools, ready: Ready) -> Ready:
    """Make the paths that lead to code trees, and return the proof: no environment is ready without them.
    A file or folder in the place of a link stays."""
    trees = environments.location(tools.base_dir, tools.environment) / environments.TREES
    for name, tree in tools.environment.declaration.trees.items():
        if not tree.link:
            continue
        path, target = Path(tree.link).expanduser(), trees / name
        if path.exists() and not path.is_symlink():
            tools.say(f"{path} is there already and stays; the tree is {target}")
        elif not path.is_symlink() or path.readlink() != target:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.link(path, target)
    return ready


def _without(requirements: str, packages: Sequence[str]) -> tuple[str, list[str]]:
    """Requirements without what no index has, and these. A local version (1.9.0+cu111) becomes the public
    one, for what it needs and what needs it; any other is just not there."""
    kept, left_out = [], []
    for line in requirements.splitlines():
        name, _, version = line.partition("==")
        if environments.normal(name.strip()) not in packages:
            kept.append(line)
            continue
        left_out.append(line.strip())
        if "+" in version:
            kept.append(line.partition("+")[0])
    return "\n".join([*kept, ""]), left_out


def _lock_text(environment: Environment, text: str, left_out: Sequence[str]) -> str:
    """The lock as it is written. Raises if uv wrote a place into it, against its orders."""
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or line.startswith(("-", "/", ".")) or " @ " in line:
            message = f"line {number} of the lock names a place: {line}"
            raise EnvironmentNotReadyError(f"environment {environment.name}: {message}")
    header = (
        f"# Made by `ddqjobs env lock {environment.name}` from {environment.requirements.name}; "
        f"Python {environment.declaration.python}, {environment.declaration.platform}.\n"
    )
    if left_out:
        header += f"{environments.LEFT_OUT}{', '.join(left_out)}\n"
    return header + "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))
