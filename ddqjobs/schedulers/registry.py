"""Which scheduler a site has."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.base.units import seconds
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.spec.site import Site

_CAPABILITIES = {
    "local": Capabilities(arrays=True, dependencies=True, own_dependencies=True),
    "slurm": Capabilities(arrays=True, dependencies=True, avoids=True),
}


def capabilities(site: Site) -> Capabilities:
    """What the site's scheduler can express, without asking it."""
    if site.scheduler == "donau":
        from ddqjobs.schedulers.donau.scheduler import capabilities as donau

        return donau(site.donau)
    return _CAPABILITIES[site.scheduler]


def make_scheduler(site: Site, project: Path) -> Scheduler:
    """The scheduler of a site."""
    if site.scheduler == "local":
        from ddqjobs.schedulers.local import LocalScheduler

        return LocalScheduler(
            project / "results" / ".local" / site.name,
            gpus=site.local.gpus,
            cpus=site.local.cpus,
            warning_s=seconds(site.warning),
        )
    if site.scheduler == "donau":
        from ddqjobs.schedulers.donau import DonauScheduler

        return DonauScheduler(
            site.name,
            site.donau,
            submit_s=seconds(site.submit_timeout),
            calls_per_minute=site.limits.calls_per_minute,
        )
    from ddqjobs.schedulers.slurm import SlurmScheduler

    return SlurmScheduler(
        site.name, submit_s=seconds(site.submit_timeout), calls_per_minute=site.limits.calls_per_minute
    )
