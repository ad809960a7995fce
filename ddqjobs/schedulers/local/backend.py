"""The embedded scheduler of one machine as a backend."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddqjobs.base.errors import InputError
from ddqjobs.base.findings import Line
from ddqjobs.base.shell_variables import inherited
from ddqjobs.base.units import seconds
from ddqjobs.schedulers.backend import Backend, Job, Shell, Surroundings
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.schedulers.local import options
from ddqjobs.spec.model import Resources
from ddqjobs.spec.site import Site


class LocalBackend(Backend):
    """The machine at hand."""

    name = options.NAME
    site_section = options.Local

    def capabilities(self, site: Site) -> Capabilities:
        return Capabilities(arrays=True, dependencies=True, own_dependencies=True, here=True)

    def connect(self, site: Site, project: Path) -> Scheduler:
        from ddqjobs.schedulers.local.scheduler import LocalScheduler

        local = options.of(site)
        return LocalScheduler(
            project / "results" / ".local" / site.name,
            gpus=local.gpus,
            cpus=local.cpus,
            warning_s=seconds(site.warning),
        )

    def gpus_here(self, site: Site) -> int | None:
        from ddqjobs.schedulers.local import slots

        return slots.seen(options.of(site).gpus)

    def gpu_type(self, resources: Resources) -> str:
        from ddqjobs.schedulers.local import slots

        return slots.gpu_type()

    def examine(self, site: Site, surroundings: Surroundings) -> Iterator[Line]:
        from ddqjobs.schedulers.local import examination

        return examination.examine(options.of(site), surroundings.runs)

    def shell(self, site: Site, job: Job, *, terminal: bool, named: Sequence[str]) -> Shell:
        if named:
            raise InputError(f"{named[0]} is for an allocation, and site {site.name} has none; omit it")
        return Shell(
            argv=("bash",),
            where="here, in no slot of the local site",
            environment={k: v for k, v in inherited(os.environ).items() if not k.startswith("DDQJOBS_")},
            remedy="install it",
        )
