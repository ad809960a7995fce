"""``local:`` of site files: what the machine gives to jobs. Pure."""

from __future__ import annotations

from ddqjobs.spec.sections import decoded
from ddqjobs.spec.site import Site
from ddqjobs.spec.table import Natural, Table

NAME = "local"


class Local(Table, frozen=True, kw_only=True):
    """Options of the embedded local site. 0 slots of a kind means: as many as the machine has."""

    gpus: Natural = 0
    """GPUs that jobs share; 0: all of the machine. Example: 2"""
    cpus: Natural = 0
    """CPUs that jobs share; 0: all of the machine. Example: 8"""


def of(site: Site) -> Local:
    """Return a site's own section."""
    return decoded(site.sections, NAME, Local)
