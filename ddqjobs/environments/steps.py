"""Build step by step: packages of the lock, code trees, the declaration's steps.

Each leaves a stamp in the build's ``.steps`` with the digest of all that decided it, the things before it
included; a build that was killed goes on with the first that has none. A step that was killed in a code tree
may have left half-written objects there that a compiler takes for good: its tree is made as it was checked
out, and the steps in it are done again.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.files import replace
from ddqjobs.base.process import Completed
from ddqjobs.base.units import counted, seconds
from ddqjobs.environments import environment as environments
from ddqjobs.environments.environment import TREES, Environment
from ddqjobs.environments.tools import Tools, uv_program
from ddqjobs.spec.environment import Step, Tree

_STAMPS = ".steps"
_OF_REPOSITORIES = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"),
    *("GIT_NAMESPACE", "GIT_PREFIX", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
}


@dataclass(frozen=True)
class Work:
    """One thing to do. ``key`` is the digest of what decides it; ``tree`` the code tree that it changes."""

    name: str
    key: str
    do: Callable[[Tools, Path, Work], None]
    tree: str = ""

    def stamp(self, folder: Path) -> Path:
        return folder / _STAMPS / f"{self.name}.json"

    def begun(self, folder: Path) -> Path:
        return folder / _STAMPS / f"{self.name}.begun"


def plan(environment: Environment, modules: Sequence[str]) -> list[Work]:
    """All that a build of the environment does, in order."""
    declaration = environment.declaration
    key = _digest("", [declaration.python, declaration.interpreter, declaration.platform, list(modules)])
    key = _digest(key, [environments.pin_lines(environment.lock), declaration.from_source])
    works = [Work("packages", key, _packages)]
    for name, tree in declaration.trees.items():
        key = _digest(key, [name, tree.revision])
        works.append(Work(f"tree-{name}", key, _tree))
    variables = sorted(declaration.variables.items())
    for name, step in declaration.steps.items():
        key = _digest(key, [name, step, variables])
        works.append(Work(f"step-{name}", key, _step, step.tree))
    return works


def perform(tools: Tools, folder: Path) -> dict[str, float]:
    """Does what is not done yet in the folder; the seconds that each took. Raises
    EnvironmentNotReadyError, OSError."""
    works = plan(tools.environment, tools.how.modules)
    first = _first(folder, works)
    if first:
        tools.say(f"going on after {works[first - 1].name}")
    for work in works[first:]:
        tools.step_log(work.name)
        started = time.monotonic()
        if work.name != "packages":  # which begins with nothing
            work.begun(folder).touch()
        work.do(tools, folder, work)
        work.stamp(folder).parent.mkdir(exist_ok=True)
        replace(work.stamp(folder), msgspec.json.encode([work.key, round(time.monotonic() - started, 3)]))
    return {work.name: _stamped(work, folder)[1] for work in works}


def _first(folder: Path, works: Sequence[Work]) -> int:
    """The first that is to be done, after trees that a killed step may have spoilt were reset."""
    stamped = [_stamped(work, folder)[0] == work.key for work in works]
    first = stamped.index(False) if False in stamped else len(works)
    spoilt = {w.tree for w in works[first:] if w.tree and w.begun(folder).exists()}
    if spoilt:
        first = min(i for i, work in enumerate(works) if work.tree in spoilt)
        spoilt |= {w.tree for w in works[first:] if w.tree and w.begun(folder).exists()}
    for work in works[first:]:
        work.stamp(folder).unlink(missing_ok=True)
    for tree in spoilt:
        commands = (["reset", "--hard", "--quiet"], ["clean", "-ffdxq"])
        if any(_quiet_git(folder / TREES / tree, command).code for command in commands):
            first = min(first, [work.name for work in works].index(f"tree-{tree}"))  # from its source, anew
    return first


def _stamped(work: Work, folder: Path) -> tuple[str, float]:
    try:
        return msgspec.json.decode(work.stamp(folder).read_bytes(), type=tuple[str, float])
    except (OSError, msgspec.MsgspecError):
        return "", 0.0


def _packages(tools: Tools, folder: Path, _work: Work) -> None:
    """The virtual environment, made anew, with exactly the packages of the lock but those of steps."""
    environment = tools.environment
    declaration = environment.declaration
    for entry in folder.iterdir():
        if not entry.name.startswith(".owner"):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    doing = f"making a virtual environment with Python {declaration.python}"
    arguments = ["venv", "--allow-existing", "--prompt", environment.name, *_interpreter(tools)]
    tools.require(tools.uv([*arguments, str(folder)], doing), doing)
    later = {package for step in declaration.steps.values() for package in step.packages}
    lock = folder / "lock.txt"
    lock.write_text(part(environment.lock, later, inside=False), encoding="utf-8")
    arguments = ["pip", "sync", "--require-hashes", *only_binary(declaration.from_source)]
    arguments += ["--python", str(folder / "bin" / "python"), "--allow-empty-requirements", str(lock)]
    count = len(environments.pins(lock.read_text(encoding="utf-8")))
    tools.uv_with_fallback(arguments, f"installing {counted(count, 'package')}")


def only_binary(but: Sequence[str]) -> list[str]:
    """uv's options: wheels alone, but for these packages."""
    return ["--only-binary", ":all:", *(word for package in but for word in ("--no-binary", package))]


def _tree(tools: Tools, folder: Path, work: Work) -> None:
    name = work.name.removeprefix("tree-")
    target = folder / TREES / name
    draft = folder / TREES / f".{name}.new"
    for old in (target, draft):
        if old.exists():
            shutil.rmtree(old)
    draft.mkdir(parents=True)
    tree = tools.environment.declaration.trees[name]
    checkout(tools, draft, name, tree)
    draft.rename(target)


def checkout(tools: Tools, target: Path, name: str, tree: Tree) -> None:
    """The tree at its revision in an empty folder; from the bundle where there is no network."""
    source = tools.how.source
    place = str(source / TREES / f"{name}.bundle") if source else str(Path(tree.url).expanduser())
    place = tree.url if "://" in tree.url and not source else place
    doing = f"checking out {name} at {tree.revision[:12]}"
    git(tools, target, ["init", "--quiet", "."], doing)
    # Not every server gives single commits, and a bundle gives none: then the branch, then all there is.
    branch = f"+refs/heads/{tree.branch}:refs/remotes/origin/{tree.branch}"
    for refs in ([tree.revision], [branch] if tree.branch else [], ["+refs/*:refs/remotes/origin/*"]):
        if refs and not _has(target, tree):
            git(tools, target, ["fetch", "--quiet", "--no-tags", place, *refs], doing, must=False)
    if not _has(target, tree):
        raise tools.failure(f"{doing} failed: {place} cannot be read, or has no such commit")
    git(tools, target, ["remote", "add", "origin", tree.url], doing)
    git(tools, target, ["checkout", "--quiet", "--detach", tree.revision], doing)
    head = _quiet_git(target, ["rev-parse", "HEAD"]).stdout.strip()
    changed = _quiet_git(target, ["status", "--porcelain"]).stdout.strip()
    if head != tree.revision or changed:
        raise tools.failure(
            f"{doing} failed: it is at {head or 'nothing'}, {len(changed.splitlines())} changes"
        )


def git(tools: Tools, folder: Path, arguments: Sequence[str], doing: str, *, must: bool = True) -> bool:
    """git in a folder, asking for no password. Whether it went well; raises if it ``must``."""
    done = tools.run(_git_words(folder, arguments), doing, _git_variables(tools.environ), cwd=folder)
    if must or done.timed_out:
        tools.require(done, doing)
    return done.code == 0


def _quiet_git(folder: Path, arguments: Sequence[str]) -> Completed:
    return process.run(_git_words(folder, arguments), timeout=600, env=_git_variables(os.environ), cwd=folder)


def _git_words(folder: Path, arguments: Sequence[str]) -> list[str]:
    """This repository and no other: a damaged one must not be taken for part of the user's around it."""
    return ["git", f"--git-dir={folder / '.git'}", f"--work-tree={folder}", *arguments]


def _git_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours without those that name another repository, as hooks of git have them."""
    kept = {name: value for name, value in environ.items() if name not in _OF_REPOSITORIES}
    return {**kept, "GIT_TERMINAL_PROMPT": "0"}


def _has(folder: Path, tree: Tree) -> bool:
    return _quiet_git(folder, ["cat-file", "-e", f"{tree.revision}^{{commit}}"]).code == 0


def _step(tools: Tools, folder: Path, work: Work) -> None:
    name = work.name.removeprefix("step-")
    step = tools.environment.declaration.steps[name]
    doing = f"step '{name}'"
    where = (folder / TREES / step.tree if step.tree else folder) / step.folder
    if not where.is_dir():
        raise tools.failure(f"{doing}: there is no folder {step.folder} in tree {step.tree}")
    uv = {n: v for n, v in tools.uv_variables.items() if n.startswith("UV_")}
    variables = {**tools.job_variables(folder), **uv, "VIRTUAL_ENV": str(folder)}
    own = {name: tools.filled(value, folder) for name, value in step.variables.items()}
    tools.record("".join(f"{name}={shlex.quote(value)}\n" for name, value in own.items()))
    variables |= own
    if step.packages:
        _from_source(tools, folder, work, step, variables)
    else:
        command = [tools.filled(word, folder) for word in step.command]
        command[0] = uv_program() if command[0] == "uv" else command[0]
        tools.require(tools.run(command, doing, variables, seconds(step.timeout), where), doing)
    for pattern in step.produces:
        if next(where.glob(pattern), None) is None:
            raise tools.failure(f"{doing} ended well but left no {pattern} in {where}")


def _from_source(tools: Tools, folder: Path, work: Work, step: Step, variables: dict[str, str]) -> None:
    """Builds packages of the lock from source with what is installed. uv's cache of what it built knows
    nothing of variables and of other packages, so each key has a cache of its own."""
    lock = folder / _STAMPS / f"{work.name}.txt"
    lock.write_text(part(tools.environment.lock, set(step.packages), inside=True), encoding="utf-8")
    arguments = ["pip", "install", "--no-deps", "--no-build-isolation", "--require-hashes", "--reinstall"]
    arguments += [word for package in step.packages for word in ("--no-binary", package)]
    arguments += ["--python", str(folder / "bin" / "python"), "--requirement", str(lock)]
    variables["UV_CACHE_DIR"] = str(tools.base_dir / ".uv-cache" / f"step-{work.key[:16]}")
    doing = f"building {', '.join(step.packages)} from source"
    tools.uv_with_fallback(arguments, doing, variables, seconds(step.timeout))


def part(lock: str, packages: set[str], *, inside: bool) -> str:
    """The lines of a lock for these packages, or for all others."""
    kept, take = [], False
    for line in lock.splitlines(keepends=True):
        if line[:1].isalnum():
            take = (next(iter(environments.pins(line))) in packages) is inside
        if take and not line.startswith("#"):
            kept.append(line)
    return "".join(kept)


def _interpreter(tools: Tools) -> list[str]:
    """Return the interpreter for ``uv venv``. Our own interpreter if it is of that version, for it surely
    works; but what was loaded as a module goes first."""
    declaration = tools.environment.declaration
    version, wanted = declaration.python, declaration.interpreter
    if wanted.managed:
        return ["--managed-python", "--python", version]
    if wanted.path:
        program = shutil.which(str(Path(wanted.path).expanduser()), path=tools.environ.get("PATH"))
        if program is None:
            raise tools.failure(f"there is no interpreter {wanted.path}: install it, or `module load` it")
        return ["--python", program]
    own = ".".join(map(str, sys.version_info[:3]))
    base = getattr(sys, "_base_executable", None)
    fits = base and f"{own}.".startswith(f"{version}.") and not tools.how.modules
    return ["--python", base if base and fits else version]


def _digest(before: str, content: object) -> str:
    return hashlib.sha256(before.encode() + msgspec.json.encode(content)).hexdigest()
