"""The site file: where jobs run, and what that place allows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Variable = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a name of an environment variable")
]
# Values of #SBATCH and #DSUB lines are not shell and cannot be quoted: only what is listed here may pass.
Directive = Annotated[str, Meta(pattern=r"^[A-Za-z0-9@._:=;,/%+\[\]*!'{} -]*$")]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all sections: an unknown key is an error."""


class Slurm(Table, frozen=True, kw_only=True):
    """Options of Slurm. Empty ones are left out of the script."""

    account: Directive = ""
    partition: Directive = ""
    qos: Directive = ""
    constraint: Directive = ""
    reservation: Directive = ""
    gpu_type: Directive = ""  # gpu:TYPE:N
    exclusive: bool = False
    mail: Directive = ""
    extra: list[Directive] = []  # further #SBATCH options, e.g. --nodelist=n1


class Donau(Table, frozen=True, kw_only=True):
    """Options of Donau. ``generation`` selects the command line's dialect."""

    generation: Literal["old", "new"] = "old"
    account: Directive = ""
    queue: Directive = ""
    label: Directive = ""
    job_type: Directive = ""
    memory_mb: Annotated[int, Meta(ge=0)] = 0  # for a whole node, in -R; 0: the run's
    extra: list[Directive] = []


class Local(Table, frozen=True, kw_only=True):
    """Options of the embedded local site. 0 slots of a kind means: as many as the machine has."""

    gpus: Annotated[int, Meta(ge=0)] = 0
    cpus: Annotated[int, Meta(ge=0)] = 0


class Limits(Table, frozen=True, kw_only=True):
    """What the site allows. 0 means no limit."""

    array_size: Annotated[int, Meta(ge=0)] = 0  # elements of one array; Slurm's MaxArraySize less one
    array_running: Annotated[int, Meta(ge=0)] = 0  # elements of one array that run at the same time
    jobs_in_queue: Annotated[int, Meta(ge=0)] = 0
    calls_per_minute: Annotated[int, Meta(ge=0)] = 0
    time: str = ""


class Site(Table, frozen=True, kw_only=True):
    """A whole site file."""

    name: Name
    title: str = ""
    base: str | None = None
    scheduler: Literal["local", "slurm", "donau"]
    slurm: Slurm = Slurm()
    donau: Donau = Donau()
    local: Local = Local()
    limits: Limits = Limits()
    modules: list[str] = []  # `module load` of each, in order
    setup: list[str] = []  # shell lines of the site's owner, before anything else runs
    variables: dict[Variable, str] = {}
    environments: str = ""  # where environments are built; empty: the project's .environments
    activate: dict[
        Name, str
    ] = {}  # environment -> path of an existing one (its bin/activate), not ours to build
    results: str = ""  # empty: the project's results
    python: str = "python3"  # for tasks without an environment
    cpus_per_gpu: Annotated[int, Meta(ge=0)] = 0
    memory_mb_per_gpu: Annotated[int, Meta(ge=0)] = 0
    warning: str = "120s"  # how long before its time limit a job is asked to stop
    grace: str = "60s"  # absence of evidence counts only after this (file system caches)
    submit_timeout: str = "120s"
    avoid_bad_nodes: str = "2h"  # after two different runs were lost or hung on a node; 0s: never
    hang: str = "30m"  # a task that logs nothing for so long is ended; 0s: never
