"""Slurm as a backend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddqjobs.base.findings import Line
from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend, Found, Job, Shell, Surroundings
from ddqjobs.schedulers.backend import directives as checked_directives
from ddqjobs.schedulers.base import Capabilities, Scheduler, Submission
from ddqjobs.schedulers.slurm import dependencies, directives, options, shell
from ddqjobs.spec.model import Resources
from ddqjobs.spec.sections import Section, decoded
from ddqjobs.spec.site import Site


class SlurmBackend(Backend):
    """Slurm."""

    name = options.NAME
    site_section = resources_section = options.Slurm
    directive = "#SBATCH"
    # A value ends at a space; then a further option begins.
    allowed = re.compile(r"--[a-z][a-z0-9-]*(=[A-Za-z0-9@._:=,/%+\[\]()*!&|-]*)?")

    def check_site(self, site: Site) -> Found:
        for path, message in options.problems(options.of(site)):
            yield (self.name, *path), message

    def check_resources(self, section: Section) -> Found:
        return options.problems(decoded({self.name: section}, self.name, options.Slurm))

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(arrays=True, dependencies=True, avoids=True, marks=True, numbers=True, tests=True)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler

        return SlurmScheduler(
            site.name, submit_s=seconds(site.submit_timeout), calls_per_minute=site.limits.calls_per_minute
        )

    def cluster(self, site: Site) -> str:
        from ddqjobs.schedulers.slurm import examination

        return examination.configuration()[0].get("ClusterName", "")

    def gpu_type(self, resources: Resources) -> str:
        return options.of(resources).gpu_type or ""

    def directives(self, site: Site, job: Job) -> list[str]:
        return directives.options(site, job)

    def submit_words(self, site: Site, submission: Submission) -> list[str]:
        return dependencies.sbatch(submission)

    def job_id(self, site: Site) -> Sequence[str]:
        return ("SLURM_JOB_ID",)

    def examine(self, site: Site, surroundings: Surroundings) -> Iterator[Line]:
        from ddqjobs.schedulers.slurm import examination

        return examination.examine(site)

    def refusal(self, directives: Sequence[str]) -> str:
        from ddqjobs.schedulers.slurm import examination

        return examination.refusal(directives)

    def shell(self, site: Site, job: Job, *, terminal: bool, named: Sequence[str]) -> Shell:
        from ddqjobs.schedulers.slurm.scheduler import environment

        argv = shell.srun(checked_directives(self, site, job), terminal=terminal)
        return Shell(
            argv=argv,
            where="in an allocation of its own: " + " ".join(argv),
            environment=environment(),
            remedy="load Slurm's commands, or choose another --site",
        )
