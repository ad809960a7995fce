"""The site file: where jobs run, and what that place allows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddqjobs.base.secrets import is_secret
from ddqjobs.spec.environment import DriverVersion
from ddqjobs.spec.sections import KEY, Scheduler, Section
from ddqjobs.spec.table import Name, Natural, Table, Variable

Umask = Annotated[
    str, Meta(pattern=r"^(00[0-7]{2})?$", description='four octal digits in quotes, the first two 0: "0007"')
]


class Limits(Table, frozen=True, kw_only=True):
    """What the site allows. 0 means no limit."""

    array_size: Natural = 0  # elements of one array; Slurm's MaxArraySize less one
    array_running: Natural = 0  # elements of one array that run at the same time
    jobs_in_queue: Natural = 0
    calls_per_minute: Natural = 0
    time: str = ""


class SiteGpus(Table, frozen=True, kw_only=True):
    """What GPUs jobs get, where the scheduler's own options do not name their type."""

    type: str = ""  # as nvidia-smi or the scheduler names it: a100, V100
    driver: DriverVersion = ""


class Marked(Table, frozen=True, kw_only=True):
    """A variable of a site with more to say than its value."""

    value: str
    secret: bool = False  # never written into a script, and masked everywhere


class Site(Table, frozen=True, kw_only=True):
    """A whole site file."""

    name: Name
    title: str = ""
    base: str | None = None
    scheduler: Scheduler
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)  # the schedulers' own
    limits: Limits = Limits()
    modules: list[str] = []  # `module load` of each, in order
    setup: list[str] = []  # shell lines of the site's owner, before anything else runs
    variables: dict[Variable, str | Marked] = {}
    environments: str = ""  # where environments are built; empty: the project's .environments
    activate: dict[
        Name, str
    ] = {}  # environment -> path of an existing one (its bin/activate), not ours to build
    # plain: by its interpreter; modules: what it declares is loaded before, to build it and in every job
    enter: Literal["plain", "modules"] = "plain"
    environment_modules: dict[Name, list[str]] = {}  # environment -> names here of the modules it declares
    results: str = ""  # empty: the project's results
    stage_to: str = ""  # folder on a node's own disk for inputs to be staged; ~ and $VARIABLES are the job's
    umask: Umask = ""  # of what is written below results/<experiment>; empty: as it is found
    weights: str = ""  # TORCH_HOME of jobs whose experiment declares weights; empty: the project's .weights
    python: str = "python3"  # for tasks without an environment
    gpus: SiteGpus = SiteGpus()  # which they are, for `doctor`
    cpus_per_gpu: Natural = 0
    memory_mb_per_gpu: Natural = 0
    warning: str = "120s"  # how long before its time limit a job is asked to stop
    grace: str = "60s"  # absence of evidence counts only after this (file system caches)
    submit_timeout: str = "120s"
    avoid_bad_nodes: str = "2h"  # after two different runs were lost or hung on a node; 0s: never
    hang: str = "30m"  # a task that logs nothing for so long is ended; 0s: never

    @property
    def exported(self) -> dict[str, str]:
        """The variables and their values."""
        return {k: v.value if isinstance(v, Marked) else v for k, v in self.variables.items()}

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the variables that the site marks as secret, or that look so."""
        marked = {k for k, v in self.variables.items() if isinstance(v, Marked) and v.secret}
        return frozenset(marked | {k for k, v in self.exported.items() if is_secret(k, v)})
