"""A shell, or one command, in a run's environment: in an allocation where the site has such, else here."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from ddqjobs.base import files, process
from ddqjobs.base.errors import StateError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.process import user
from ddqjobs.environments.on_site import Environments
from ddqjobs.schedulers.backend import Job
from ddqjobs.schedulers.backend import Shell as Entry
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.model import Run
from ddqjobs.spec.site import Site
from ddqjobs.submission.script import Context, described, on_site
from ddqjobs.submission.submit import Submitter
from ddqjobs.submission.workspace import Workspace

_TIME_S = 3600


class Asked(Frozen, frozen=True, kw_only=True):
    """The request. ``typed`` is shell text, empty for a shell on the terminal."""

    run: Run
    typed: str = ""
    time_s: int | None = None  # None: _TIME_S
    gpus: int | None = None  # None: the run's


class Shell(Frozen, frozen=True, kw_only=True):
    """The way into a run's environment."""

    text: str
    folder: str
    entry: Entry

    def enter(self) -> int:
        """Runs it on our own terminal; returns its exit code. Raises StateError if it cannot be started."""
        path = Path(self.folder) / f"{secrets.token_hex(8)}.sh"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.create(path, self.text.encode(), 0o600)  # it may hold secret variables
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        try:
            return process.attach([*self.entry.argv, path], env=self.entry.environment)
        except OSError as error:
            why = f"{self.entry.argv[0]} cannot be started ({error.strerror})"
            raise StateError(f"{why}: {self.entry.remedy}") from error
        finally:
            path.unlink(missing_ok=True)


def prepare(workspace: Workspace, environments: Environments, asked: Asked) -> Shell:
    """See :meth:`ddqjobs.project.Project.shell`."""
    site = workspace.site
    limits = {"--gpus": asked.gpus, "--time": asked.time_s}
    entry = backend(site).shell(
        site,
        _job(site, asked),
        terminal=not asked.typed,
        named=[option for option, value in limits.items() if value is not None],
    )
    text = Submitter(workspace, environments).shell(asked.run, asked.typed)
    return Shell(text=text, folder=str(workspace.store.layout.shells), entry=entry)


def _job(site: Site, asked: Asked) -> Job:
    """Return what an allocation on one node is asked for."""
    time_s = _TIME_S if asked.time_s is None else asked.time_s
    resources = msgspec.structs.replace(asked.run.resources, time_s=time_s, nodes=1)
    if asked.gpus is not None:
        resources = msgspec.structs.replace(resources, gpus=asked.gpus)
    context = Context(results="/", project="", code="", token="shell", user=user())
    return described(on_site(resources, site), asked.run.experiment, 1, context)
