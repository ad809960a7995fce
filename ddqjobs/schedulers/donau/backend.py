"""Donau as a backend."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend, Job
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.schedulers.donau import directives
from ddqjobs.spec.site import Site


class DonauBackend(Backend):
    """Donau."""

    name = "donau"
    directive = "#DSUB"
    allowed = re.compile(r"[A-Za-z0-9@._:=;,/%+\[\]()*!'\" -]*")

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(dependencies=site.donau.dependencies, avoids=site.donau.avoid, restarts=False)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.donau.scheduler import DonauScheduler

        return DonauScheduler(
            site.name,
            site.donau,
            submit_s=seconds(site.submit_timeout),
            calls_per_minute=site.limits.calls_per_minute,
        )

    def directives(self, site: Site, job: Job) -> list[str]:
        return directives.options(site.donau, job)

    def job_id(self, site: Site) -> Sequence[str]:
        return site.donau.launch.job

    def values(self, site: Site) -> Mapping[str, object]:
        return {"donau": site.donau, "meet_s": seconds(site.donau.launch.meet)}
