"""A project's environments on one site: where they lie, whether they are ready, and how they get so.

The only module of this package that the rest of ddqjobs needs, besides what an environment is made of
(:mod:`ddqjobs.environments.environment`). What builds is imported when something is built.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ddqjobs.base.errors import DdqjobsError, EnvironmentNotReadyError, MissingError, nearest
from ddqjobs.base.paths import expanded
from ddqjobs.environments import environment as declarations
from ddqjobs.environments.environment import Environment, Locked, Ready, State
from ddqjobs.spec.shipped import ENVIRONMENTS, Files
from ddqjobs.spec.site import DEFAULT_SITE, Site

if TYPE_CHECKING:
    from ddqjobs.environments.tools import Progress

DEFAULT_FOLDER = ".environments"
CONDA = "ddqjobs docs how-to/conda-containers-offline"  # says how an environment is entered that exists


class Environments:
    """The environments of a project on one site, by name.

    Every method with a name raises MissingError or InputError if it, or its declaration, is wrong.
    """

    def __init__(self, files: Files, site: Site) -> None:
        folder = Path(site.environments).expanduser() if site.environments else Path(DEFAULT_FOLDER)
        self.project, self.base = files.project, files.project / folder
        self._files, self._site = files, site
        self.load = cache(lambda name: declarations.load(name, files))

    @cached_property
    def declared(self) -> dict[str, Path]:
        """Name -> env.yaml of every environment of the project and of what ships, sorted."""
        return declarations.declared(self._files)

    def pick(self, names: Sequence[str], *, locking: bool = False) -> list[Environment]:
        """Return the environments with these names, to lock them anew or as they are locked. Raises
        MissingError for one that does not exist."""
        for name in names:
            if name not in self.declared:
                there = ", ".join(self.declared)
                why = nearest(name, self.declared) + self._files.misnamed(ENVIRONMENTS, name)
                raise MissingError(f"unknown environment '{name}'{why}; there are: {there}")
        return [declarations.load(name, self._files, locking=locking) for name in names]

    # -- where it is, and whether it can be used

    def location(self, name: str) -> Path:
        """Return the folder in which it is, or will be, found."""
        return declarations.location(self.base, self.load(name))

    def python(self, name: str) -> Path:
        """Return the path of the interpreter, whether or not it is there."""
        return self.location(name) / "bin" / "python"

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables for whatever runs in the environment."""
        return declarations.variables(self.load(name), self.location(name))

    def locked(self, name: str) -> Locked:
        """Return what its lock says, for jobs to compare with."""
        environment = self.load(name)
        return Locked(
            folder=str(self.location(name).absolute()),
            packages=declarations.pins(environment.lock),
            free=any(step.command for step in environment.declaration.steps.values()),
        )

    def modules(self, name: str) -> tuple[str, ...]:
        """Return the modules that the environment needs after the site's own, by their names on this site."""
        if self._site.enter != "modules":
            return ()
        own = self._site.environment_modules.get(name)
        return tuple(self.load(name).declaration.modules if own is None else own)

    def state(self, name: str) -> State:
        """Return whether the environment is ready on this site, and what its proof says."""
        return declarations.state(self.base, self.load(name))

    def problem(self, name: str) -> str:
        """Return why the environment cannot be used, and the command that mends it; empty if it is ready."""
        try:
            declarations.require(self.base, self.load(name))
        except DdqjobsError as error:
            command = isinstance(error, EnvironmentNotReadyError) and "; run: " in str(error)
            named = command and self._site.name != DEFAULT_SITE
            return f"{error} --site {self._site.name}" if named else str(error)
        return ""

    def entrance_problem(self, name: str) -> tuple[str, str]:
        """Return what this machine lacks of an environment that the site enters by a script, and what mends
        it; empty where it lacks nothing, or where only a job's variables say where the script lies."""
        text = self._site.activate[name]
        script = expanded(self.project, text)
        if "$" in str(script):
            return "", ""
        if script.is_dir():
            remedy = f"name {text.rstrip('/')}/bin/activate under `activate:` of site {self._site.name}"
            return f"{text} is a folder, not a script (`activate:` of the site)", remedy
        if not script.exists():
            why = f"{text} is not there (`activate:` of the site)"
            folder = script.parent
            if os.path.lexists(folder / "python") and not (folder / "activate").exists():
                return why, f"write {text}: {CONDA}"  # conda brings no script of an environment's own
            return why, f"fix `activate:` of site {self._site.name}, or bring the environment there"
        if not os.path.lexists(script.parent / "python"):  # a link may lead to what only nodes have
            remedy = "move the script into the environment's bin folder, beside its `python`"
            return f"{text} has no `python` beside it (`activate:` of the site)", remedy
        return "", ""

    def identity(self, name: str) -> str:
        """Return the digest of what decides the results of runs in the environment."""
        return declarations.identity(self.load(name))

    # -- what makes it ready; each raises EnvironmentNotReadyError with cause, remedy and log

    def build(
        self, name: str, progress: Progress, *, again: bool = False, source: Path | None = None
    ) -> Ready:
        """Make it ready with as little work as that takes; ``source`` is a folder that :meth:`fetch` filled,
        in place of any network."""
        from ddqjobs.environments import build
        from ddqjobs.environments.tools import How

        how = How(modules=self._modules_to_build(name), source=source)
        return build.build(self.load(name), self.base, progress=progress, again=again, how=how)

    def verify(self, name: str, progress: Progress) -> Ready:
        """Compare its files and packages with what was built, and run its checks."""
        from ddqjobs.environments import build
        from ddqjobs.environments.tools import How

        how = How(modules=self._modules_to_build(name))
        return build.verify(self.load(name), self.base, progress=progress, how=how)

    def lock(
        self, name: str, progress: Progress, *, upgrade: bool = False, without: Sequence[str] = ()
    ) -> Path:
        """Resolve its requirements anew; return the lock's path. That of an environment which ships lies in
        the project from then on: what is installed is not the project's to change."""
        from ddqjobs.environments import build

        environment = declarations.load(name, self._files, locking=True)
        if not environment.lock_path.is_relative_to(self._files.roots[0]):
            own = self._files.roots[0] / "envs" / name / environment.declaration.lock
            environment = dataclasses.replace(environment, lock_path=own)
        return build.lock(environment, self.base, progress=progress, upgrade=upgrade, without=without)

    def fetch(self, name: str, to: Path, progress: Progress) -> Path:
        """Fill a folder with what its build needs where there is no network."""
        from ddqjobs.environments import fetch

        return fetch.fetch(self.load(name), self.base, to, progress=progress)

    def remove(self, name: str, progress: Progress) -> int:
        """Remove all its builds; return how many there were."""
        from ddqjobs.environments import build

        return build.remove(self.load(name), self.base, progress=progress)

    # -- as text, to be built elsewhere

    def as_script(self, name: str) -> dict[str, str]:
        """Return path -> text of one bash script that builds it. Raises EnvironmentNotReadyError without a
        lock."""
        return self._exported(name, self._modules_to_build(name))

    def as_image(self, name: str, base: str = "") -> dict[str, str]:
        """Return path -> text of an Apptainer definition that starts from image ``base``, the script that it
        runs, and what enters the image. Raises EnvironmentNotReadyError without a lock."""
        from importlib.metadata import version

        from ddqjobs.environments import export

        texts = self._exported(name, ())
        definition = export.apptainer(self.load(name), version("uv"), base)
        return {**texts, f"{name}.def": definition, **export.entrance(name)}

    def _exported(self, name: str, modules: tuple[str, ...]) -> dict[str, str]:
        from ddqjobs.environments import export

        environment = self.load(name)
        if not environment.locked:
            declarations.require(self.base, environment)
        return {f"{name}.sh": export.script(environment, modules)}

    def _modules_to_build(self, name: str) -> tuple[str, ...]:
        """Return all modules that are loaded to build the environment on this site."""
        return (*self._site.modules, *self.modules(name)) if self._site.enter == "modules" else ()


def require_fetched(folder: Path) -> Path:
    """Return the folder's absolute path. Raises MissingError if nothing was fetched into it."""
    if not (folder / "wheels").is_dir():
        raise MissingError(f"{folder}: not a folder that `ddqjobs env fetch` filled (it has no wheels/)")
    return folder.absolute()
