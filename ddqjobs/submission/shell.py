"""A shell, or one command, in a run's environment: in an allocation where the site has such, else here."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.errors import InputError, StateError
from ddqjobs.base.frozen import Frozen
from ddqjobs.environments.on_site import Stacks
from ddqjobs.schedulers.slurm.scheduler import environment
from ddqjobs.spec.model import Run
from ddqjobs.spec.site import Site
from ddqjobs.submission.script import Context, directives, on_site
from ddqjobs.submission.submit import Submitter, user
from ddqjobs.submission.workspace import Workspace

# Of the options that a job's script carries, what makes no sense for an interactive step.
_BATCH_ONLY = (
    "--comment", "--ntasks-per-node", "--signal", "--open-mode", "--output", "--error", "--array", "--mail-",
    "--requeue", "--no-requeue", "--dependency", "--nodes",
)  # fmt: skip
_TIME_S = 3600


class Asked(Frozen, frozen=True, kw_only=True):
    """What is wanted. ``typed`` is shell text, empty for a shell on the terminal."""

    run: Run
    typed: str = ""
    time_s: int | None = None  # None: _TIME_S
    gpus: int | None = None  # None: the run's


class Shell(Frozen, frozen=True, kw_only=True):
    """What enters a run's environment. ``where`` says in words what it gives."""

    text: str
    folder: str
    argv: tuple[str, ...]  # the script's path comes behind
    where: str

    def enter(self) -> int:
        """Runs it on our own terminal; returns its exit code. Raises StateError if it cannot be started."""
        path = Path(self.folder) / f"{secrets.token_hex(8)}.sh"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        try:
            return process.attach([*self.argv, path], env=environment())
        except OSError as error:
            why = f"{self.argv[0]} cannot be started ({error.strerror})"
            raise StateError(f"{why}: load Slurm's commands, or choose another --site") from error
        finally:
            path.unlink(missing_ok=True)


def prepare(workspace: Workspace, stacks: Stacks, asked: Asked) -> Shell:
    """See :meth:`ddqjobs.project.Project.shell`."""
    site = workspace.site
    if site.scheduler == "donau":
        raise StateError(
            f"site {site.name}: nothing is known of interactive jobs in Donau (docs/donau.md); "
            "`ddqjobs submit --dry-run` shows the run's script"
        )
    if site.scheduler == "local" and (asked.gpus is not None or asked.time_s is not None):
        option = "--gpus" if asked.gpus is not None else "--time"
        raise InputError(f"{option} is of an allocation, and site {site.name} has none: leave it out")
    argv: tuple[str, ...] = ("bash",)
    where = "here, in no slot of the local site"
    if site.scheduler == "slurm":
        argv = srun(site, asked, pty=not asked.typed)
        where = "in an allocation of its own: " + " ".join(argv)
    text = Submitter(workspace, stacks).shell(asked.run, asked.typed)
    return Shell(text=text, folder=str(workspace.store.layout.shells), argv=argv, where=where)


def srun(site: Site, asked: Asked, *, pty: bool) -> tuple[str, ...]:
    """``srun`` with the options that the run's own script would carry, on one node."""
    time_s = _TIME_S if asked.time_s is None else asked.time_s
    resources = msgspec.structs.replace(asked.run.resources, time_s=time_s, nodes=1)
    if asked.gpus is not None:
        resources = msgspec.structs.replace(resources, gpus=asked.gpus)
    context = Context(results="/", project="", code="", token="shell", user=user())
    options = directives(site, on_site(resources, site), asked.run.experiment, 1, context)
    kept = [option for option in options if not option.startswith(_BATCH_ONLY)]
    return ("srun", "--nodes=1", "--ntasks=1", *kept, *(["--pty"] if pty else []), "bash")
