"""A project's environments on one site: where they lie, and what keeps one from being used."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ddqjobs.base.errors import DdqjobsError
from ddqjobs.environments import environment as environments
from ddqjobs.spec.shipped import Files
from ddqjobs.spec.site import Site

DEFAULT_FOLDER = ".environments"


class Stacks:
    """Answers what rendering and submission ask of environments, by name."""

    def __init__(self, files: Files, site: Site) -> None:
        folder = Path(site.environments).expanduser() if site.environments else Path(DEFAULT_FOLDER)
        self.base = files.project / folder
        self._site = site
        self._load = cache(lambda name: environments.load(name, files))

    def python(self, name: str) -> Path:
        """The interpreter, whether it is there or not. Raises InputError, MissingError."""
        return environments.location(self.base, self._load(name)) / "bin" / "python"

    def variables(self, name: str) -> dict[str, str]:
        """Variables for whatever runs in the environment."""
        environment = self._load(name)
        return environments.variables(environment, environments.location(self.base, environment))

    def modules(self, name: str) -> tuple[str, ...]:
        """Modules that the environment needs, by their names on this site, after the site's own."""
        if self._site.enter != "modules":
            return ()
        own = self._site.environment_modules.get(name)
        return tuple(self._load(name).declaration.modules if own is None else own)

    def to_build(self, name: str) -> tuple[str, ...]:
        """All modules that are loaded to build the environment on this site."""
        return (*self._site.modules, *self.modules(name)) if self._site.enter == "modules" else ()

    def problem(self, name: str) -> str:
        """Why the environment cannot be used, and the command that mends it; empty if it is ready."""
        try:
            environments.require(self.base, self._load(name))
        except DdqjobsError as error:
            return str(error)
        return ""

    def state(self, name: str) -> environments.State:
        """Whether the environment is ready on this site, and what its proof says."""
        return environments.state(self.base, self._load(name))

    def identity(self, name: str) -> str:
        """The digest of what decides the results of runs in the environment."""
        return environments.identity(self._load(name))
