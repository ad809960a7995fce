"""``local:`` of site files: what the machine gives to jobs. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ddqjobs.spec.sections import decoded
from ddqjobs.spec.site import Site, Table

NAME = "local"


class Local(Table, frozen=True, kw_only=True):
    """Options of the embedded local site. 0 slots of a kind means: as many as the machine has."""

    gpus: Annotated[int, Meta(ge=0)] = 0
    cpus: Annotated[int, Meta(ge=0)] = 0


def of(site: Site) -> Local:
    """Return a site's own section."""
    return decoded(site.sections, NAME, Local)
