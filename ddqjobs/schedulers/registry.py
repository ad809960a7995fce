"""List the schedulers: a folder each, and a line here."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.schedulers.backend import Backend
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.schedulers.donau.backend import DonauBackend
from ddqjobs.schedulers.local.backend import LocalBackend
from ddqjobs.schedulers.slurm.backend import SlurmBackend
from ddqjobs.spec.site import Site

BACKENDS: dict[str, Backend] = {
    SlurmBackend.name: SlurmBackend(),
    DonauBackend.name: DonauBackend(),
    LocalBackend.name: LocalBackend(),
}


def backend(site: Site) -> Backend:
    """Return the backend of a site's scheduler."""
    return BACKENDS[site.scheduler]


def capabilities(site: Site) -> Capabilities:
    """Return what the site's scheduler can express, without asking it."""
    return backend(site).capabilities(site)


def cluster(site: Site) -> str:
    """Return how the site's cluster names itself, after asking it; empty where it does not tell."""
    return backend(site).cluster(site)


def make_scheduler(site: Site, project: Path) -> Scheduler:
    """Return the scheduler of a site."""
    return backend(site).connect(site, project)
