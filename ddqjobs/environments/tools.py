"""Tools that the steps of one build share: variables, uv, logs, signs of life, reports of errors."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddqjobs.base import process, shell_variables
from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.base.process import Completed
from ddqjobs.environments import diagnosis
from ddqjobs.environments import uv as uv_settings
from ddqjobs.environments.environment import Environment, variables
from ddqjobs.spec.environment import fill

Progress = Callable[[str], None]

BUILD_TIMEOUT = 4 * 3600.0  # a slow mirror may take its time; progress shows that it goes on
TICK = 10.0  # seconds between two signs of life
MARK = "DDQJOBS_BUILD"  # in the environment of all that a build starts, so that orphans are found

# `module` is a shell function. Where our shell did not hand it on, it comes from where systems keep it.
_MODULES = """
if ! command -v module > /dev/null; then
  for init in "${MODULESHOME:-/nowhere}/init/bash" /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
    [ ! -r "$init" ] || . "$init"
  done
fi
command -v module > /dev/null || { echo "module: command not found" >&2; exit 69; }
for name; do module load "$name" >&2 || { echo "module load $name failed" >&2; exit 69; }; done
env -0
"""


@dataclass(frozen=True)
class How:
    """The way in which a site wants an environment built: modules to load before; ``source``, a folder that
    ``env fetch`` filled, in place of any network."""

    modules: tuple[str, ...] = ()
    source: Path | None = None


class Tools:
    """The tools of one build, verification or lock of one environment."""

    def __init__(self, environment: Environment, base_dir: Path, progress: Progress, how: How) -> None:
        self.environment = environment
        self.base_dir = base_dir
        self.how = how
        self.logs = base_dir / ".logs" / environment.name
        self.log = self.logs / "build.log"
        self.mark = ""  # the folder that is built, known to all that is started for it
        self._progress = progress
        self._environ: dict[str, str] | None = None
        self._uv_variables: dict[str, str] = {}

    def say(self, text: str) -> None:
        self._progress(f"{self.environment.name}: {text}")

    def step_log(self, name: str) -> None:
        """Log what follows under this name, anew."""
        self.log = self.logs / f"{name}.log"
        self.log.write_text("", encoding="utf-8")

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Prepares the folder for environments; what the operating system refuses becomes a clear error."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error)
            raise self.failure(diagnosis.explain("No space left on device") if full else what) from error

    def failure(self, meaning: str) -> EnvironmentNotReadyError:
        """The error to raise, with the log if there is one: what fails at once has left none."""
        log = ""
        with contextlib.suppress(OSError):
            log = f"; log: {self.log}" if self.log.stat().st_size else ""
        return EnvironmentNotReadyError(f"environment {self.environment.name}: {meaning}{log}")

    @property
    def environ(self) -> dict[str, str]:
        """Return what a job may have of our variables, after the modules were loaded."""
        if self._environ is None:
            passed = shell_variables.inherited(os.environ)
            self._environ = self._load_modules(passed) if self.how.modules else passed
            if self.mark:
                self._environ[MARK] = self.mark
        return self._environ

    def _load_modules(self, passed: dict[str, str]) -> dict[str, str]:
        names = self.how.modules
        done = process.run(["bash", "-c", _MODULES, "modules", *names], timeout=300, env=passed)
        self.record(f"$ module load {' '.join(names)}\n{done.stderr}")
        if done.code or done.timed_out:
            raise self.failure(f"loading modules: {diagnosis.explain(done.stderr)}")
        pairs = (entry.partition("=") for entry in done.stdout.split("\0") if "=" in entry)
        return shell_variables.after_modules({name: value for name, _, value in pairs})

    @property
    def uv_variables(self) -> dict[str, str]:
        """Variables for uv: the user's settings, or the folder alone where there is no network."""
        if not self._uv_variables:
            if self.how.source is not None:
                variables = uv_settings.offline(self.base_dir, self.environ, self.how.source)
            else:
                variables = uv_settings.uv_environment(
                    self.base_dir, self.environ, uv_settings.pip_settings(self.environ)
                )
                declared = self.environment.declaration
                uv_settings.add(variables, "UV_FIND_LINKS", ",", declared.wheels)
                uv_settings.add_indexes(variables, declared.indexes)
            self._uv_variables = variables
        return self._uv_variables

    def job_variables(self, folder: Path) -> dict[str, str]:
        """Variables as a job in the environment has them, whatever shell we were started from."""
        path = f"{folder / 'bin'}{os.pathsep}{self.environ.get('PATH', os.defpath)}"
        own = {MARK: str(folder), "PATH": path, "PYTHONNOUSERSITE": "1"}
        return {**self.environ, **own, **variables(self.environment, folder)}

    def filled(self, text: str, folder: Path) -> str:
        """A word of a step with its placeholders replaced. Raises if a variable is not set."""
        values = {"environment": str(folder), "trees": str(folder / "trees")}
        values["cpus"] = str(len(os.sched_getaffinity(0)))
        values |= {f"env.{name}": value for name, value in self.environ.items()}
        try:
            return fill(text, values)
        except KeyError as error:
            name = str(error.args[0]).removeprefix("env.")
            raise self.failure(f"the variable {name} is not set: load the module that sets it") from None

    def uv(
        self,
        arguments: Sequence[str],
        doing: str,
        extra: dict[str, str] | None = None,
        timeout: float = BUILD_TIMEOUT,
    ) -> Completed:
        """Runs uv with the user's settings and returns how it ended, well or not."""
        return self.run([uv_program(), *arguments], doing, {**self.uv_variables, **(extra or {})}, timeout)

    def uv_with_fallback(
        self,
        arguments: Sequence[str],
        doing: str,
        extra: dict[str, str] | None = None,
        timeout: float = BUILD_TIMEOUT,
    ) -> None:
        """uv from the configured sources; only if one lacks something, with the fallback indexes as well.

        Not at once with all: uv would ask the fallbacks for every package, and stop where a network is
        closed to them.
        """
        done = self.uv(arguments, doing, extra, timeout)
        fallbacks = [] if self.how.source else self.environment.declaration.fallback_indexes
        lacking = uv_settings.lacking(done.stdout) if done.code else ""
        if fallbacks and lacking:
            more = {**self.uv_variables, **(extra or {})}
            uv_settings.add_indexes(more, fallbacks)
            also = ", ".join(fallbacks)
            done = self.uv(arguments, f"{doing}, also from {also}", more, timeout)
            doing += f" (the configured indexes and wheel folders lack {lacking}; asked {also})"
        self.require(done, doing)

    def run(
        self,
        argv: Sequence[str],
        doing: str,
        env: dict[str, str],
        timeout: float = BUILD_TIMEOUT,
        cwd: Path | None = None,
    ) -> Completed:
        """Runs a command, with signs of life while it runs. Argv and output go to the log as they come."""
        self.record(f"\n$ {shlex.join(argv)}\n")
        with _ticking(self.say, doing):
            done = process.run(argv, timeout=timeout, env=env, cwd=cwd or self.base_dir, log=self.log)
        ending = f"no end after {timeout:.0f} s" if done.timed_out else f"exit code {done.code}"
        self.record(f"{done.stderr}[{ending}]\n")
        return done

    def require(self, done: Completed, doing: str) -> None:
        """Raises unless the command went well."""
        if done.timed_out:
            raise self.failure(f"{doing} did not end in time")
        if done.code:
            said = done.stdout or done.stderr
            ending = f"signal {-done.code}" if done.code < 0 else f"exit code {done.code}"
            ending = "" if said.strip() else f" ({ending})"
            raise self.failure(f"{doing} failed: {diagnosis.explain(said)}{ending}")

    def record(self, text: str) -> None:
        """Appends to the step's log."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(text)


def uv_program() -> str:
    """The uv that came with us."""
    from uv import find_uv_bin  # late: only builds need it

    return find_uv_bin()


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
