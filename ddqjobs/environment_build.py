"""Locks, builds and verifies environments with uv. Where things lie is said in :mod:`ddqjobs.environments`.

A build goes: virtual environment, packages of the lock (each file's hash is checked), verification *inside*
the environment, ``ready.json``, and at last the link by which everybody else finds it. Whatever happens
before that last step, the environment that was there before stays the one in use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ddqjobs import build_failures, environments, process, uv_settings
from ddqjobs.declaration import Check
from ddqjobs.environments import CheckResult, Environment, Ready
from ddqjobs.errors import EnvironmentNotReadyError
from ddqjobs.model import Owner
from ddqjobs.process import Completed
from ddqjobs.units import seconds

Progress = Callable[[str], None]

BUILD_TIMEOUT = 4 * 3600.0  # a slow mirror may take its time; progress shows that it goes on
TICK = 10.0  # seconds between two signs of life
ABANDONED = 24 * 3600.0  # a build of another host that was not touched for so long is nobody's
MARK = "DDQJOBS_BUILD"  # in the environment of all that a build starts, so that orphans are found

# Inside the environment: its Python, and what is installed in it.
_INVENTORY = """
import importlib.metadata, json, platform
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""


def build(environment: Environment, base_dir: Path, *, progress: Progress, again: bool = False) -> Ready:
    """Makes the environment ready, with as little work as that takes, and returns the proof.

    One that is ready stays as it is; one whose checks alone changed is only verified; ``again`` builds in
    any case, beside the present one, and replaces it at the end. Builds of one environment take turns.

    Raises :class:`EnvironmentNotReadyError` with cause, remedy and the log's path.
    """
    if not environment.lock:
        environments.require(base_dir, environment)
    base_dir = base_dir.absolute()
    found = environments.state(base_dir, environment)
    if found.ready is not None and not again:
        return found.ready
    tools = _Tools(environment, base_dir, progress)
    with tools.translated(), _turn(base_dir, environment.name, progress):
        found = environments.state(base_dir, environment)
        if found.ready is not None and not again:  # built while we waited
            return found.ready
        _sweep(base_dir, environment.name)
        if found.built and not again:
            return _verify(tools, found.location.resolve())
        return _build(tools)


def verify(environment: Environment, base_dir: Path, *, progress: Progress) -> Ready:
    """Runs the checks in the built environment. One that fails is not ready any more.

    Raises :class:`EnvironmentNotReadyError`, also if nothing is built.
    """
    base_dir = base_dir.absolute()
    if not environments.state(base_dir, environment).built:
        environments.require(base_dir, environment)
    tools = _Tools(environment, base_dir, progress)
    with tools.translated(), _turn(base_dir, environment.name, progress):
        return _verify(tools, environments.location(base_dir, environment).resolve())


def lock(environment: Environment, base_dir: Path, *, progress: Progress, upgrade: bool = False) -> Path:
    """Resolves the requirements anew and writes the lock; pins that still fit stay, unless ``upgrade``.

    The lock names files by hash alone: no index, no folder of the machine on which it was made.

    Raises :class:`EnvironmentNotReadyError` if the requirements cannot be resolved.
    """
    base_dir = base_dir.absolute()
    declaration = environment.declaration
    tools = _Tools(environment, base_dir, progress)
    with tools.translated(), _temporary(base_dir) as folder:
        out = folder / "lock.txt"
        out.write_text("" if upgrade else environment.lock, encoding="utf-8")
        words = ["pip", "compile", "--quiet", "--generate-hashes", "--only-binary", ":all:"]
        words += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        words += ["--python-version", declaration.python, "--python-platform", declaration.platform]
        words += ["--output-file", str(out), str(environment.requirements)]
        words += ["--override", str(environment.overrides)] if environment.overrides else []
        tools.uv_with_fallback(words, f"resolving {environment.requirements.name}")
        text = _lock_text(environment, out.read_text(encoding="utf-8"))
        _replace(environment.lock_path, text.encode())
    progress(f"{environment.name}: {len(environments.pins(text))} packages in {environment.lock_path}")
    return environment.lock_path


class _Tools:
    """What all steps of one build share: the log, uv and its variables, progress, and how errors are told."""

    def __init__(self, environment: Environment, base_dir: Path, progress: Progress) -> None:
        self.environment = environment
        self.base_dir = base_dir
        self.log = base_dir / ".logs" / f"{environment.name}.log"
        self.variables: dict[str, str] = {}
        self._progress = progress

    def say(self, text: str) -> None:
        self._progress(f"{self.environment.name}: {text}")

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Prepares the folder for environments; what the operating system refuses becomes a clear error."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text("", encoding="utf-8")
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            meaning = build_failures.explain("No space left on device") if full else str(error)
            raise self.failure(meaning) from error

    def failure(self, meaning: str) -> EnvironmentNotReadyError:
        return EnvironmentNotReadyError(f"environment {self.environment.name}: {meaning}; log: {self.log}")

    def uv(self, words: Sequence[str], doing: str, extra: dict[str, str] | None = None) -> Completed:
        """Runs uv with the user's settings and returns how it ended, well or not."""
        from uv import find_uv_bin  # late: only builds need it

        if not self.variables:
            pip = uv_settings.pip_settings(os.environ)
            self.variables = uv_settings.uv_environment(self.base_dir, os.environ, pip)
            wheels = ",".join(self.environment.declaration.wheels)
            if wheels:
                given = self.variables.get("UV_FIND_LINKS")
                self.variables["UV_FIND_LINKS"] = f"{given},{wheels}" if given else wheels
        return self.run([find_uv_bin(), *words], doing, {**self.variables, **(extra or {})})

    def uv_with_fallback(self, words: Sequence[str], doing: str) -> None:
        """uv from the configured sources; only if one lacks something, with the fallback indexes as well.

        Not at once with all: uv would ask the fallbacks for every package, and stop where a network is
        closed to them.
        """
        done = self.uv(words, doing)
        fallbacks = self.environment.declaration.fallback_indexes
        lacking = uv_settings.lacking(done.stderr) if done.code else ""
        if fallbacks and lacking:
            indexes = [self.variables.get("UV_INDEX", ""), *fallbacks]
            extra = {"UV_INDEX": " ".join(filter(None, indexes)), "UV_INDEX_STRATEGY": "unsafe-best-match"}
            also = ", ".join(fallbacks)
            done = self.uv(words, f"{doing}, also from {also}", extra)
            doing += f" (the configured indexes and wheel folders lack {lacking}; asked {also})"
        self.require(done, doing)

    def run(
        self,
        argv: Sequence[str],
        doing: str,
        env: dict[str, str],
        timeout: float = BUILD_TIMEOUT,
        **where: Path,
    ) -> Completed:
        """Runs a command, with signs of life while it runs; argv and output go to the log."""
        self._record(f"\n$ {' '.join(argv)}\n")
        with _ticking(self.say, doing):
            done = process.run(argv, timeout=timeout, env=env, cwd=where.get("cwd", self.base_dir))
        ending = f"no end after {timeout:.0f} s" if done.timed_out else f"exit code {done.code}"
        self._record(f"{done.stdout}{done.stderr}[{ending}]\n")
        return done

    def require(self, done: Completed, doing: str) -> None:
        """Raises unless the command went well."""
        if done.timed_out:
            raise self.failure(f"{doing} did not end in time")
        if done.code:
            raise self.failure(f"{doing} failed: {build_failures.explain(done.stderr or done.stdout)}")

    def _record(self, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(text)


def _build(tools: _Tools) -> Ready:
    environment, base_dir = tools.environment, tools.base_dir
    folder = _new_folder(base_dir / ".builds" / environment.name)
    started = time.monotonic()
    try:
        _install(tools, folder)
        ready = _verify(tools, folder)
    except BaseException:  # Ctrl-C too: nobody needs half an environment
        shutil.rmtree(folder, ignore_errors=True)
        raise
    link = environments.location(base_dir, environment)
    temporary = folder.with_name(f"{folder.name}.link")
    temporary.symlink_to(os.path.relpath(folder, link.parent))
    temporary.replace(link)
    tools.say(f"ready after {time.monotonic() - started:.1f} s: {link}")
    return ready


def _install(tools: _Tools, folder: Path) -> None:
    """The virtual environment with exactly the packages of the lock."""
    environment = tools.environment
    python = environment.declaration.python
    mark = {MARK: str(folder)}
    doing = f"making a virtual environment with Python {python}"
    tools.require(tools.uv(["venv", "--python", _interpreter(python), str(folder)], doing, mark), doing)
    lock = folder / "lock.txt"
    lock.write_text(environment.lock, encoding="utf-8")
    words = ["pip", "sync", "--require-hashes", "--only-binary", ":all:"]
    words += ["--python", str(folder / "bin" / "python"), str(lock)]
    tools.variables.update(mark)
    tools.uv_with_fallback(words, f"installing {len(environments.pins(environment.lock))} packages")


def _verify(tools: _Tools, folder: Path) -> Ready:
    """Inventory and checks, then ready.json. An environment that fails has no ready.json any more."""
    environment = tools.environment
    proof = folder / "ready.json"
    try:
        python, packages = _inventory(tools, folder)
        checks = {}
        for name, check in environment.declaration.checks.items():
            checks[name] = _check(tools, folder, name, check)
    except EnvironmentNotReadyError:
        proof.unlink(missing_ok=True)
        raise
    ready = Ready(
        name=environment.name,
        identity=environments.identity(environment),
        digest=environments.digest(environment),
        python=python,
        packages=packages,
        checks=checks,
        host=socket.gethostname(),
        verified_at=time.time(),
    )
    _replace(proof, msgspec.json.format(msgspec.json.encode(ready), indent=2))
    return ready


def _inventory(tools: _Tools, folder: Path) -> tuple[str, dict[str, str]]:
    """Python and packages as the environment itself sees them; both must be what was declared."""
    doing = "comparing packages with the lock"
    argv = [str(folder / "bin" / "python"), "-I", "-c", _INVENTORY]
    done = tools.run(argv, doing, _job_variables(tools.environment, folder), timeout=300)
    tools.require(done, doing)
    found = json.loads(done.stdout)
    python: str = found["python"]
    wanted = tools.environment.declaration.python
    if python != wanted and not python.startswith(f"{wanted}."):
        raise tools.failure(f"its Python is {python}, not {wanted}")
    packages = {environments.normal(name): version for name, version in found["packages"].items()}
    locked = environments.pins(tools.environment.lock)
    wrong = [
        f"{name} {packages.get(name, 'missing')} instead of {locked.get(name, 'none')}"
        for name in sorted(packages.keys() | locked.keys())
        if packages.get(name) != locked.get(name)
    ]
    if wrong:
        raise tools.failure(f"the packages are not those of the lock: {', '.join(wrong)}")
    return python, dict(sorted(packages.items()))


def _check(tools: _Tools, folder: Path, name: str, check: Check) -> CheckResult:
    """Runs one check. It sees a copy of its declared files and nothing else of ddqjobs: so what its digest
    covers is all that it is.

    What it imports is compiled to bytecode by the way: a quarter of the time that compiling everything takes.
    """
    doing = f"check '{name}'"
    with _temporary(tools.base_dir) as code:
        for relative, path in tools.environment.check_files:
            target = code / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        variables = _job_variables(tools.environment, folder)
        variables["PYTHONPATH"] = str(code)
        argv = [str(folder / "bin" / "python"), *check.command]
        started = time.monotonic()
        done = tools.run(argv, doing, variables, timeout=seconds(check.timeout), cwd=code)
    tools.require(done, doing)
    output = done.stdout.strip()[-4000:]
    return CheckResult(seconds=round(time.monotonic() - started, 3), output=output)


def _job_variables(environment: Environment, folder: Path) -> dict[str, str]:
    """Variables as a job in the environment has them, whatever shell we were started from."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA_"))}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**kept, MARK: str(folder), "PATH": path, **environments.variables(environment, folder)}


def _interpreter(version: str) -> str:
    """What ``uv venv --python`` gets: our own interpreter if it is of that version, for it surely works."""
    own = ".".join(map(str, sys.version_info[:3]))
    base = getattr(sys, "_base_executable", None)
    return base if base and f"{own}.".startswith(f"{version}.") else version


def _lock_text(environment: Environment, text: str) -> str:
    """The lock as it is written. Raises if uv wrote a place into it, against its orders."""
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or line.startswith(("-", "/", ".")) or " @ " in line:
            message = f"line {number} of the lock names a place: {line}"
            raise EnvironmentNotReadyError(f"environment {environment.name}: {message}")
    header = (
        f"# Made by `ddqjobs env lock {environment.name}` from {environment.requirements.name}; "
        f"Python {environment.declaration.python}, {environment.declaration.platform}.\n"
    )
    return header + "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))


@contextlib.contextmanager
def _turn(base_dir: Path, name: str, progress: Progress) -> Iterator[None]:
    """Holds the environment's lock; says for whom it waits.

    The kernel drops the lock with its holder, however that ends. Where a file system has no locks there is
    no waiting, and none is needed for safety: builds have folders of their own, the last one linked wins.
    """
    path = base_dir / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        said = False
        while not _try_lock(file.fileno()):
            if not said:
                file.seek(0)
                progress(f"{name}: waiting for the build of pid {file.read().strip() or '?'}")
                said = True
            time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return True


def _new_folder(builds: Path) -> Path:
    """An empty folder for a build. Its name says whose it is; it is there before anything is started, so
    that whoever sweeps finds all that a killed build left."""
    me = process.myself()
    for number in itertools.count(1):
        folder = builds / f"{me.host}-{me.pid}-{me.start}-{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError


def _sweep(base_dir: Path, name: str) -> None:
    """Removes what broken builds left, and ends what they left running. Called with the lock held.

    Builds with a ready.json stay, linked or not: a job may be running in them.
    """
    builds = base_dir / ".builds" / name
    used = {link.resolve() for link in base_dir.glob(f"{name}-*") if link.is_symlink()}
    for folder in builds.iterdir() if builds.is_dir() else ():
        if folder.is_symlink():
            folder.unlink(missing_ok=True)
        elif folder not in used and not (folder / "ready.json").exists() and _abandoned(folder):
            _end_all({MARK: str(folder)})
            shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether nobody builds in this folder any more. Of another host's builds we know only their age."""
    host, *numbers = folder.name.rsplit("-", 3)
    if host == socket.gethostname() and len(numbers) == 3 and "".join(numbers).isdigit():
        pid, start, _ = map(int, numbers)
        return not process.alive(Owner(host=host, pid=pid, start=start, boot=process.boot_id()))
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime > ABANDONED
    return False


def _end_all(variables: dict[str, str]) -> None:
    """Kills the processes that have these variables, and waits a moment for their end."""
    end = time.monotonic() + 5
    while (pids := process.with_environment(variables)) and time.monotonic() < end:
        for pid in pids:
            process.signal_group(pid, signal.SIGKILL)
        time.sleep(0.02)


@contextlib.contextmanager
def _ticking(say: Progress, doing: str) -> Iterator[None]:
    """Says what is being done, and every few seconds for how long."""
    over = threading.Event()
    started = time.monotonic()

    def tick() -> None:
        while not over.wait(TICK):
            say(f"{doing} ({time.monotonic() - started:.0f} s)")

    say(doing)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _temporary(base_dir: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=base_dir, prefix=".tmp-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _replace(path: Path, data: bytes) -> None:
    """Writes a whole file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
