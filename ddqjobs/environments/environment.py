"""Environments: what ``envs/<name>/`` declares, where a built one lies, and whether it is ready.

Two digests. The *identity* covers what decides results (Python, lock, variables): it names the folder and
is part of every run's digest. The *digest* covers the checks and their code too: when only those change,
the environment is verified again and not built again.

On disk, below the site's folder for environments::

    <name>-<identity>              symbolic link to the build that is in use
    .builds/<name>/<build>/        one build: the virtual environment, its code trees (trees/), stamps of what
                                   was done (.steps/), files.txt and built.json when all was done, ready.json
                                   when it was verified
    .logs/<name>/<step>.log        what each step of the last build or verification said
    .locks/<name>                  held while one process builds; others wait
    .uv-cache/  .uv-python/        uv's, shared by all environments

A build is made where it stays, for compiled packages, editable installs and scripts hold absolute paths
and break when moved; what is put in place by an atomic rename is the link to it. So a job that started in
an older build keeps it, and a build that was broken or killed is never seen at all: the next one goes on
with it. :mod:`ddqjobs.environments.build` makes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ddqjobs.base.errors import EnvironmentNotReadyError, InputError, MissingError, Problem, nearest
from ddqjobs.base.files import read as read_file
from ddqjobs.base.paths import PACKAGE
from ddqjobs.spec import reader
from ddqjobs.spec.check import environment as check_environment
from ddqjobs.spec.environment import Declaration, fill
from ddqjobs.spec.shipped import ENVIRONMENTS, Files


@dataclass(frozen=True)
class Environment:
    """An env.yaml with the files that it names."""

    declaration: Declaration
    path: Path
    requirements: Path  # there or not: one that a site only enters has none
    overrides: Path | None
    lock_path: Path
    lock: str  # empty: not locked yet
    check_files: tuple[tuple[str, Path], ...]  # path from above the package -> file

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def left_out(self) -> str:
        """Return what the lock lacks because it was made where no index has it; such a lock is unverified."""
        marks = [line for line in self.lock.splitlines() if line.startswith(LEFT_OUT)]
        return marks[0].removeprefix(LEFT_OUT).strip() if marks else ""

    @property
    def locked(self) -> bool:
        """Return whether there is a lock from which the environment can be built."""
        return bool(self.lock) and not self.left_out


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check that passed."""

    seconds: float
    output: str


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """The description of the environment that a job shall find (:mod:`ddqjobs.detect.proof`)."""

    folder: str
    packages: dict[str, str]
    free: bool  # steps install more than the lock names


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """That all steps of a build were done: its ``built.json``. ``files`` is the digest of its files.txt."""

    name: str
    identity: str
    files: str
    steps: dict[str, float]  # seconds
    host: str
    built_at: float  # seconds since the epoch


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that an environment works: its ``ready.json``."""

    name: str
    identity: str
    digest: str
    python: str
    packages: dict[str, str]
    checks: dict[str, CheckResult]
    host: str
    verified_at: float  # seconds since the epoch
    files: str = ""  # digest of the files that were verified


@dataclass(frozen=True)
class State:
    """The state of an environment: ready, or why it is not. ``built``: it only has to be verified."""

    location: Path
    ready: Ready | None = None
    reason: str = ""
    built: bool = False
    older: bool = False  # a build for another lock or declaration is there

    @property
    def word(self) -> str:
        """ready; unverified: built for what is declared; stale: built for something else; missing."""
        if self.ready is not None:
            return "ready"
        return "unverified" if self.built else "stale" if self.older else "missing"


def declared(files: Files) -> dict[str, Path]:
    """Name -> env.yaml of every environment of the project and of what ships, sorted."""
    return files.names(ENVIRONMENTS)


def load(name: str, files: Files, *, locking: bool = False) -> Environment:
    """Reads ``envs/<name>/env.yaml`` and what it names. With ``locking`` the present lock, which is to be
    made anew, may lack what the declaration names.

    Raises :class:`MissingError` for an unknown name, :class:`InputError` for a file that is wrong.
    """
    names = declared(files)
    if name not in names:
        known = ", ".join(names) or "none"
        raise MissingError(f"no environment '{name}'{nearest(name, names) or ';'} there are: {known}")
    read = reader.load(files.inside(names[name]), Declaration, _no_base)
    declaration = read.value
    paths = {part: files.find(f"envs/{name}/{file}") for part, file in _parts(declaration)}
    problems = [
        Problem(*read.line_of((part,)), f"no file '{file}' in envs/{name}")
        for part, file in _parts(declaration)
        if paths[part] is None and part not in ("lock", "requirements")
    ]
    if declaration.name != name:
        problems.append(Problem(*read.line_of(("name",)), f"name must be '{name}', like its folder"))
    lock = _lock(files, declaration)
    text = read_file(files.inside(lock), _LIMIT).decode("utf-8", "replace") if lock.exists() else ""
    if paths["requirements"] is None and (locking or text or declaration.requirements != _REQUIREMENTS):
        why = f"no file '{declaration.requirements}' in envs/{name}; write there what is to be installed"
        problems.append(Problem(*read.line_of(("requirements",)), why))
    locked = {} if locking else pins(text)
    problems += [*_absent_files(read), *check_environment.check(declaration, read.line_of, locked)]
    if problems:
        raise InputError(sorted(problems))
    return Environment(
        declaration=declaration,
        path=names[name],
        requirements=paths["requirements"] or names[name].parent / declaration.requirements,
        overrides=paths.get("overrides"),
        lock_path=lock,
        lock=text,
        check_files=tuple(_check_files(declaration)),
    )


def _lock(files: Files, declaration: Declaration) -> Path:
    """Return the path of the lock: in the first folder that has it or anything that it is resolved from, so
    that a project's own requirements are never locked into a shipped file."""
    folders = [root / "envs" / declaration.name for root in files.roots]
    parts = ["env.yaml", *(file for _, file in _parts(declaration))]
    own = [folder for folder in folders if any((folder / part).exists() for part in parts)]
    return next(iter(own), folders[0]) / declaration.lock


def identity(environment: Environment) -> str:
    """Digest of what decides the results of runs in this environment: Python, lock, variables, the revisions
    of code trees, build steps."""
    declaration = environment.declaration
    variables = sorted(declaration.variables.items())
    parts: list[object] = [declaration.python, declaration.platform, variables, pin_lines(environment.lock)]
    if declaration.trees or declaration.steps or declaration.from_source:
        trees = sorted((name, tree.revision) for name, tree in declaration.trees.items())
        parts += [trees, [*declaration.steps.items()], sorted(declaration.from_source)]
    return _sha256(parts)


def digest(environment: Environment) -> str:
    """Digest of all that ready.json vouches for: the identity, the checks and their code."""
    checks = {name: [check.command, check.files] for name, check in environment.declaration.checks.items()}
    code = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in environment.check_files]
    return _sha256([identity(environment), sorted(checks.items()), code])


def location(base_dir: Path, environment: Environment) -> Path:
    """Return the folder of the environment once it is built; its interpreter is ``bin/python`` there."""
    return base_dir / f"{environment.name}-{identity(environment)[:12]}"


def links(base_dir: Path, name: str) -> list[Path]:
    """The links to builds of an environment, for whatever lock they were made."""
    return sorted(link for link in base_dir.glob(f"{name}-" + "?" * 12) if link.is_symlink())


def folder(base_dir: Path, environment: Environment) -> Path:
    """The build that is in use, by the path by which it was made. Raises OSError if there is none."""
    link = location(base_dir, environment)
    return link.parent / link.readlink()


def state(base_dir: Path, environment: Environment) -> State:
    """Return whether the environment is ready. Read two small files and start nothing."""
    place = location(base_dir, environment)
    older = any((link / READY).exists() for link in links(base_dir, environment.name) if link != place)
    if not environment.locked:
        lacks = f"its lock is incomplete (made where no package index had {environment.left_out})"
        unlocked = "it is not locked" if environment.requirements.is_file() else "it has no requirements.txt"
        return State(place, reason=lacks if environment.lock else unlocked, older=older)
    try:
        ready = msgspec.json.decode((place / READY).read_bytes(), type=Ready)
    except FileNotFoundError:
        if (place / BUILT).exists():
            return State(place, reason="it is built but not verified", built=True, older=older)
        also = " for the present lock (an older build is there)" if older else ""
        return State(place, reason=f"it is not built{also}", older=older)
    except (OSError, msgspec.MsgspecError) as error:
        return State(place, reason=f"{place / READY} cannot be read ({error})")
    if ready.identity != identity(environment):
        return State(place, reason="it was built from another lock", older=True)
    try:
        if not (place / "bin" / "python").exists():
            return State(place, reason="its Python interpreter is gone from this machine")
    except OSError as error:  # it lies where this user may not look
        return State(place, reason=f"its Python interpreter cannot be reached ({error.strerror})")
    if ready.digest != digest(environment):
        return State(place, reason="its checks changed since it was verified", built=True)
    return State(place, ready=ready, built=True)


def require(base_dir: Path, environment: Environment) -> Ready:
    """The proof, or :class:`EnvironmentNotReadyError` with the reason and the command that mends it."""
    current = state(base_dir, environment)
    if current.ready is None:
        raise EnvironmentNotReadyError(
            f"environment {environment.name} is not ready: {current.reason}; {_remedy(environment)}"
        )
    return current.ready


def _remedy(environment: Environment) -> str:
    name = environment.name
    if not environment.lock and not environment.requirements.is_file():
        return f"{ENTER}, or write envs/{name}/requirements.txt"
    return f"run: ddqjobs env {'build' if environment.locked else 'lock'} {name}"


def variables(environment: Environment, folder: Path) -> dict[str, str]:
    """Variables for whatever runs in the environment that lies in ``folder``."""
    values = {"environment": str(folder), "trees": str(folder / TREES)}
    return {name: fill(value, values) for name, value in environment.declaration.variables.items()}


def pin_lines(lock: str) -> list[str]:
    """The lines of a lock that mean something."""
    return [line.strip() for line in lock.splitlines() if not line.lstrip().startswith("#")]


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock, names as PEP 503 writes them."""
    requirements = (line.split()[0] for line in lock.splitlines() if line[:1].isalnum())
    pairs = (requirement.partition("==") for requirement in requirements)
    return {normal(name): version for name, _, version in pairs}


def normal(package: str) -> str:
    """A package's name as PEP 503 writes it."""
    return package.lower().replace("_", "-").replace(".", "-")


def _parts(declaration: Declaration) -> Iterator[tuple[str, str]]:
    yield "requirements", declaration.requirements
    yield "lock", declaration.lock
    if declaration.overrides is not None:
        yield "overrides", declaration.overrides


def _absent_files(read: reader.Document[Declaration]) -> Iterator[Problem]:
    for name, check in read.value.checks.items():
        for number, file in enumerate(check.files):
            if ".." in Path(file).parts or Path(file).is_absolute() or not (_CODE / file).exists():
                where = read.line_of(("checks", name, "files", number))
                yield Problem(*where, f"no file or folder '{file}' of ddqjobs")


def _check_files(declaration: Declaration) -> list[tuple[str, Path]]:
    """Every file that the checks may import, once, sorted."""
    paths: dict[str, Path] = {}
    for check in declaration.checks.values():
        for name in check.files:
            top = _CODE / name
            for path in sorted(top.rglob("*.py")) if top.is_dir() else [top]:
                paths[path.relative_to(_CODE).as_posix()] = path
    return sorted(paths.items())


def _no_base(base: str, named_by: Path) -> Path:
    raise MissingError(f"{named_by}: an environment has no base, so not {base}")


def _sha256(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


READY, BUILT, FILES = "ready.json", "built.json", "files.txt"  # of a build, the first written last
LEFT_OUT = "# Unverified, without: "  # a line of a lock
ENTER = "name its script under `activate:` of the site"  # what uses an environment that is not to be built
_REQUIREMENTS = "requirements.txt"  # unless the declaration names another
TREES = "trees"  # code trees lie here, in the environment's folder
_CODE = PACKAGE.parent  # the folder above the package
_LIMIT = 8 << 20  # bytes of a lock
