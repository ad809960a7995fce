"""Scripts of one experiment on one site: what every script needs to know, put together once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import msgspec

from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.base.process import user
from ddqjobs.data.weights import torch_home
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.registry import capabilities
from ddqjobs.spec.model import Resources, Run
from ddqjobs.submission.script import DOCTOR, Context, Renderer, Scripts, directives, option_flags
from ddqjobs.submission.workspace import Workspace


class Rendering:
    """Renders scripts for a workspace, with the environments as they are on its site."""

    def __init__(
        self, workspace: Workspace, environments: Environments, renderer: Renderer | None = None
    ) -> None:
        self._workspace, self._environments = workspace, environments
        self._renderer = renderer or renderer_of(workspace.catalog)

    def scripts(
        self,
        runs: Sequence[Run],
        token: str,
        code: str,
        unchecked: frozenset[str] = frozenset(),
        first: int = 0,
    ) -> Scripts:
        """Return the scripts of a submission, from index ``first`` on. ``unchecked`` are runs whose jobs are
        not to check their configuration. Raise InputError for what must not stand in a directive line."""
        context = msgspec.structs.replace(self.context(token, code), unchecked=unchecked, first=first)
        return self._renderer.render(runs, self._workspace.site, context)

    def shell(self, run: Run, typed: str, code: str) -> str:
        """Return a script that enters a run's environment."""
        return self._renderer.shell(run, self._workspace.site, self.context("shell", code), typed)

    def doctor(
        self, context: Context, resources: Resources, environments: Sequence[str], paths: Sequence[str]
    ) -> str:
        """Return the script of a node job that looks around."""
        return self._renderer.doctor(self._workspace.site, context, resources, environments, paths)

    def directives(self, resources: Resources, token: str) -> list[str]:
        """Return the options of a job's script. Raise InputError for what must not stand there."""
        return directives(self._workspace.site, resources, DOCTOR, 1, self.context(token))

    def context(self, token: str, code: str = "") -> Context:
        """Return what a script is rendered with. ``code`` names the snapshot; node jobs need none."""
        workspace = self._workspace
        site, experiment = workspace.site, workspace.loaded.experiment
        names = {code.environment for code in experiment.codes.values() if code.environment}
        return Context(
            results=str(workspace.results),
            project=str(workspace.catalog.project),
            code=code,
            token=token,
            user=user(),
            pythons={name: str(self._environments.python(name)) for name in names},
            activate=dict(site.activate),
            variables={name: self._environments.variables(name) for name in names},
            modules={name: self._environments.modules(name) for name in names if name not in site.activate},
            locks={name: self._environments.locked(name) for name in names if name not in site.activate},
            option_flags=option_flags(experiment.codes),
            weights=torch_home(experiment, site),
            trees=dict(workspace.loaded.trees),
        )

    def require_environments(self, runs: Sequence[Run]) -> None:
        """Raise EnvironmentNotReadyError unless all environments of these runs can be used. Of one that the
        site enters only a job elsewhere knows: see :meth:`absent_entrances`."""
        site = self._workspace.site
        names = dict.fromkeys(r.environment for r in runs if r.environment)
        ours = (name for name in names if name not in site.activate)
        problems = [problem for name in ours if (problem := self._environments.problem(name))]
        if capabilities(site).here:
            problems += self._entrances(runs)
        if problems:
            raise EnvironmentNotReadyError("\n".join(problems))

    def absent_entrances(self, runs: Sequence[Run]) -> list[str]:
        """Return what this machine lacks of environments that the site enters, where jobs run elsewhere."""
        if capabilities(self._workspace.site).here:
            return []
        return [f"{problem}; jobs fail unless their nodes have it" for problem in self._entrances(runs)]

    def _entrances(self, runs: Sequence[Run]) -> list[str]:
        names = dict.fromkeys(r.environment for r in runs if r.environment in self._workspace.site.activate)
        parts = {name: self._environments.entrance_problem(name) for name in names}
        return [f"environment {name}: {why}; {remedy}" for name, (why, remedy) in parts.items() if why]


def renderer_of(catalog: Catalog) -> Renderer:
    """Return a renderer of a project's templates, and of those that ship."""
    return Renderer([root / "templates" for root in catalog.files.roots])


def new_token() -> str:
    """Return a submission's name: unique for ever, readable, sorted by time:
    ``20261122-143015-1f2e3d4c``."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
