"""The embedded scheduler of one machine as a backend."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.schedulers.local import options
from ddqjobs.spec.site import Site


class LocalBackend(Backend):
    """The machine at hand."""

    name = options.NAME
    site_section = options.Local

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(arrays=True, dependencies=True, own_dependencies=True)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.local.scheduler import LocalScheduler

        local = options.of(site)
        return LocalScheduler(
            project / "results" / ".local" / site.name,
            gpus=local.gpus,
            cpus=local.cpus,
            warning_s=seconds(site.warning),
        )
