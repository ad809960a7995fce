"""Slurm as a backend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend, Job
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.schedulers.slurm import directives
from ddqjobs.spec.site import Site


class SlurmBackend(Backend):
    """Slurm."""

    name = "slurm"
    directive = "#SBATCH"
    # A value ends at a space; then a further option begins.
    allowed = re.compile(r"--[a-z][a-z0-9-]*(=[A-Za-z0-9@._:=,/%+\[\]()*!&|-]*)?")

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(arrays=True, dependencies=True, avoids=True)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler

        return SlurmScheduler(
            site.name, submit_s=seconds(site.submit_timeout), calls_per_minute=site.limits.calls_per_minute
        )

    def directives(self, site: Site, job: Job) -> list[str]:
        return directives.options(site, job)

    def job_id(self, site: Site) -> Sequence[str]:
        return ("SLURM_JOB_ID",)
