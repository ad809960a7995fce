"""The site file: where jobs run, and what that place allows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddqjobs.base.secrets import is_secret
from ddqjobs.spec.environment import DriverVersion
from ddqjobs.spec.notify import Channel
from ddqjobs.spec.sections import KEY, Scheduler, Section
from ddqjobs.spec.table import Duration, Name, Natural, Table, Variable

Umask = Annotated[
    str, Meta(pattern=r"^(00[0-7]{2})?$", description='four octal digits in quotes, the first two 0: "0007"')
]


DEFAULT_SITE = "local"  # of commands that name none


class Limits(Table, frozen=True, kw_only=True):
    """The limits of the site. 0 means no limit."""

    array_size: Natural = 0
    """Elements of one array; 0: no limit. Slurm's MaxArraySize less one. Example: 1000"""
    array_running: Natural = 0
    """Elements of one array that run at the same time; 0: no limit. Example: 50"""
    jobs_in_queue: Natural = 0
    """Jobs of yours in the queue, whoever submitted them; 0: no limit. Example: 500"""
    calls_per_minute: Natural = 0
    """How often one process asks the scheduler in a minute; 0: no limit. Example: 60"""
    time: Duration = ""
    """Longest time limit of a job, which longer ones are cut to (`plan` gives a hint): a number and s, m, h
    or d. Example: 7d"""


class SiteGpus(Table, frozen=True, kw_only=True):
    """The GPUs that jobs get, where the scheduler's own options do not name their type."""

    type: str = ""
    """The GPUs' type, as nvidia-smi or the scheduler names it. Example: a100"""
    driver: DriverVersion = ""
    """Version of NVIDIA's driver, in quotes. Example: '535.104.05'"""


class Marked(Table, frozen=True, kw_only=True):
    """A variable of a site with more to say than its value."""

    value: str
    """The variable's value. Example: abc"""
    secret: bool = False
    """Whether it is kept out of scripts and masked everywhere. Example: true"""


class Site(Table, frozen=True, kw_only=True):
    """A whole site file."""

    name: Name
    """Name of the site, which is that of its folder. Example: slurm"""
    title: str = ""
    """Name in messages and reports. Example: the group's cluster"""
    base: str | None = None
    """Another site whose entries this one changes one by one; `null` removes an entry. Example: slurm"""
    scheduler: Scheduler
    """What takes its jobs. Example: slurm"""
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)
    """What a scheduler of this name is told of each job. Example: {slurm: {partition: gpu}}"""
    limits: Limits = Limits()
    """What the site allows. Example: {array_size: 1000}"""
    modules: list[str] = []
    """Names for `module load`, in order, after `setup`. Example: [gcc/9.3.0, cuda/11.1.0]"""
    setup: list[str] = []
    """Shell lines that each job begins with, before `modules`; one that fails ends it. Example:
    [source /etc/profile.d/proxy.sh]"""
    variables: dict[Variable, str | Marked] = {}
    """Environment variables of each job; `{value: ..., secret: true}` marks a secret. Example:
    {NCCL_SOCKET_IFNAME: ib0}"""
    environments: str = ""
    """Folder where environments are built; empty, `.environments` of the project. Example:
    /shared/lab/environments"""
    activate: dict[Name, str] = {}
    """Existing environments that ddqjobs does not build: name, as in `envs/NAME/env.yaml`, and path of the
    script in its bin folder that enters it. Example: {legacy: ~/ddq/py38/bin/activate}"""
    enter: Literal["plain", "modules"] = "plain"
    """How environments are entered: `plain` by their interpreter, `modules` after what they declare was
    loaded. Example: modules"""
    environment_modules: dict[Name, list[str]] = {}
    """Names here of the modules that an environment declares. Example: {legacy: [python/3.8, cuda/11.1]}"""
    results: str = ""
    """Folder of the results; empty, `results` of the project. Example: /scratch/lab/results"""
    stage_to: str = ""
    """Folder on a node's own disk for inputs that tasks `stage`; `~` and `$VARIABLES` are the job's. Example:
    $TMPDIR"""
    umask: Umask = ""
    """Permissions that files below results/ do not get; empty, everybody's own umask. Example: '0007'"""
    weights: str = ""
    """TORCH_HOME of jobs whose experiment declares weights; empty, `.weights` of the project. Example:
    ~/.cache/torch"""
    python: str = "python3"
    """Interpreter of tasks without an environment, on PATH after `setup` and `modules`, or a path. Example:
    /usr/bin/python3"""
    gpus: SiteGpus = SiteGpus()
    """Which GPUs jobs get, for `doctor`, where no scheduler's option says it. Example: {type: a100}"""
    cpus_per_gpu: Natural = 0
    """CPUs that a job asks for with each GPU; 0: not said. Example: 6"""
    memory_mb_per_gpu: Natural = 0
    """Memory that a job asks for with each GPU, in MB of 10^6 bytes; 0: not said. Slurm's `--mem` counts 2^20
    bytes: 62500 for 8 GPUs becomes 476837M. Example: 37500"""
    warning: Duration = "120s"
    """How long before its time limit a job is asked to stop; at most half of the limit. Example: 120s"""
    grace: Duration = "60s"
    """How long a job's files may be absent after its end before that counts (file system caches). Example:
    60s"""
    submit_timeout: Duration = "120s"
    """How long an unanswered submission is looked for, and how long one waits for a scheduler that does not
    answer or takes nothing. Example: 120s"""
    avoid_bad_nodes: Duration = "2h"
    """How long a node is avoided where two different runs were lost or hung; 0s: never. Example: 2h"""
    hang: Duration = "30m"
    """A task that logs nothing for so long is ended; 0s: never. Example: 30m"""
    notify: dict[Name, Channel] = {}
    """Who is told when something happens, one for all who submit. Example: {group: {by: slack, url:
    {variable: SLACK_URL}, events: [end, failure]}}"""

    @property
    def exported(self) -> dict[str, str]:
        """The variables and their values."""
        return {k: v.value if isinstance(v, Marked) else v for k, v in self.variables.items()}

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the variables that the site marks as secret, or that look so."""
        marked = {k for k, v in self.variables.items() if isinstance(v, Marked) and v.secret}
        return frozenset(marked | {k for k, v in self.exported.items() if is_secret(k, v)})
