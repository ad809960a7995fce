"""Collects on a connected machine what a build needs on one that is not: wheels, sdists, git bundles.

The folder may be shared by several environments: ``wheels/`` holds files by their own names, ``trees/`` a
bundle per code tree. What is there and is whole is not fetched again. An interpreter is not among it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.detect import files
from ddqjobs.environments import environment as environments
from ddqjobs.environments import steps
from ddqjobs.environments import uv as uv_settings
from ddqjobs.environments.environment import TREES, Environment
from ddqjobs.environments.tools import How, Progress, Tools, uv_program
from ddqjobs.environments.turns import temporary

# What pip builds an sdist with that does not say (PEP 518).
_BUILD_DEFAULT = ["setuptools>=40.8.0", "wheel"]
_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


def fetch(environment: Environment, base_dir: Path, to: Path, *, progress: Progress) -> Path:
    """Fills the folder; returns it. Raises EnvironmentNotReadyError with what could not be had."""
    if not environment.locked:
        environments.require(base_dir, environment)
    to = to.absolute()
    declaration = environment.declaration
    tools = Tools(environment, base_dir.absolute(), progress, How())
    sources = {
        *declaration.from_source,
        *(package for s in declaration.steps.values() for package in s.packages),
    }
    with tools.translated(), temporary(tools.base_dir) as work:
        tools.step_log("fetch")
        wheels = to / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        platform = ["--only-binary", ":all:", "--python-version", declaration.python]
        platform += [word for tag in platforms(declaration.platform) for word in ("--platform", tag)]
        lock = work / "wheels.txt"
        lock.write_text(steps.part(environment.lock, sources, inside=False), encoding="utf-8")
        count = len(environments.pins(environment.lock)) - len(sources)
        hashed = ["--require-hashes", "--requirement"]
        _download(tools, wheels, [*platform, *hashed, str(lock)], f"fetching {count} wheels")
        if sources:
            lock.write_text(steps.part(environment.lock, sources, inside=True), encoding="utf-8")
            arguments = ["--no-binary", ",".join(sorted(sources)), *hashed, str(lock)]
            _download(tools, wheels, arguments, f"fetching the sources of {', '.join(sorted(sources))}")
        needed = sorted(set(_build_requirements(wheels, declaration.from_source)))
        if needed:
            _download(tools, wheels, [*platform, *needed], f"fetching {', '.join(needed)} to build with")
        for name in declaration.trees:
            _bundle(tools, work, to / TREES, name)
    return to


def platforms(platform: str) -> list[str]:
    """Tags of the wheels that fit uv's name of a platform (``x86_64-manylinux_2_28``), the newest first."""
    machine, _, system = platform.partition("-")
    match = re.fullmatch(r"manylinux_2_(\d+)", system)
    if match is None:
        return [f"{system}_{machine}"]
    tags = []
    for minor in range(int(match[1]), 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if (2, minor) in _MANYLINUX:
            tags.append(f"{_MANYLINUX[2, minor]}_{machine}")
    return [*tags, f"linux_{machine}"]


def _download(tools: Tools, wheels: Path, arguments: Sequence[str], doing: str) -> None:
    """pip, as uv downloads nothing for others; from uv's sources, then from the fallback indexes as well."""
    variables = {**tools.environ, **_sources(tools.uv_variables)}
    if "--only-binary" not in arguments:  # what sdists are asked for their metadata with (an old setuptools)
        pinned = str(tools.environment.requirements)
        variables |= {"PIP_CONSTRAINT": pinned, "PIP_BUILD_CONSTRAINT": pinned}
    argv = [
        *_pip(tools),
        "download",
        "--no-deps",
        "--dest",
        str(wheels),
        "--disable-pip-version-check",
        *arguments,
    ]
    done = tools.run(argv, doing, variables)
    fallbacks = tools.environment.declaration.fallback_indexes
    if done.code and fallbacks:
        uv_settings.add(variables, "PIP_EXTRA_INDEX_URL", " ", fallbacks)
        done = tools.run(argv, f"{doing}, also from {', '.join(fallbacks)}", variables)
    tools.require(done, doing)


def _pip(tools: Tools) -> list[str]:
    own = [sys.executable, "-m", "pip"]
    if process.run([*own, "--version"], timeout=60, env=tools.environ).code == 0:
        return own
    program = shutil.which("pip", path=tools.environ.get("PATH", os.defpath))
    return [program] if program else [uv_program(), "tool", "run", "pip"]


def _sources(uv: dict[str, str]) -> dict[str, str]:
    """uv's sources in pip's words; as variables, for they may hold passwords, and commands are logged."""
    indexes = (
        index.rpartition("=")[2] if "=http" in index else index for index in uv.get("UV_INDEX", "").split()
    )
    offline = uv.get("UV_NO_INDEX", "").lower() in ("1", "true")
    variables = {
        "PIP_FIND_LINKS": uv.get("UV_FIND_LINKS", "").replace(",", " "),
        "PIP_INDEX_URL": uv.get("UV_DEFAULT_INDEX", ""),
        "PIP_EXTRA_INDEX_URL": " ".join(indexes),
        "PIP_NO_INDEX": "1" if offline else "",
    }
    return {name: value for name, value in variables.items() if value}


def _build_requirements(wheels: Path, packages: Sequence[str]) -> Iterator[str]:
    """Yield what the sdists of these packages say that they are built with."""
    for path in wheels.iterdir():
        name = environments.normal(re.split(r"-\d", path.name)[0])
        if name in packages and path.name.endswith((".tar.gz", ".zip")):
            match = re.search(r"(?ms)^\s*requires\s*=\s*\[(.*?)\]\s*$", _pyproject(path))
            yield from re.findall(r"""["']([^"']+)["']""", match[1]) if match else _BUILD_DEFAULT


def _pyproject(archive: Path) -> str:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            names = [n for n in file.namelist() if n.count("/") == 1 and n.endswith("/pyproject.toml")]
            return file.read(names[0]).decode() if names else ""
    with tarfile.open(archive) as tar:
        members = [
            m for m in tar.getmembers() if m.name.count("/") == 1 and m.name.endswith("/pyproject.toml")
        ]
        opened = tar.extractfile(members[0]) if members else None
        return opened.read().decode() if opened else ""


def _bundle(tools: Tools, work: Path, trees: Path, name: str) -> None:
    tree = tools.environment.declaration.trees[name]
    target = trees / f"{name}.bundle"
    doing = f"bundling {name} at {tree.revision[:12]}"
    if target.exists():
        heads = process.run(["git", "bundle", "list-heads", str(target)], timeout=600)
        if heads.code == 0 and heads.stdout.startswith(tree.revision):
            tools.say(f"{target} is there already")
            return
    folder = work / name
    folder.mkdir()
    steps.checkout(tools, folder, name, tree)
    trees.mkdir(parents=True, exist_ok=True)
    steps.git(tools, folder, ["update-ref", "refs/heads/ddqjobs", tree.revision], doing)

    def write(temporary: Path) -> None:
        arguments = ["bundle", "create", "--quiet", str(temporary), "refs/heads/ddqjobs"]
        steps.git(tools, folder, arguments, doing)

    files.replace(target, write)
