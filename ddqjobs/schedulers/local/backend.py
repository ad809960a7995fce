"""The embedded scheduler of one machine as a backend."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.spec.site import Site


class LocalBackend(Backend):
    """The machine at hand."""

    name = "local"

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(arrays=True, dependencies=True, own_dependencies=True)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.local.scheduler import LocalScheduler

        return LocalScheduler(
            project / "results" / ".local" / site.name,
            gpus=site.local.gpus,
            cpus=site.local.cpus,
            warning_s=seconds(site.warning),
        )
