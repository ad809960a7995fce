"""The schedulers' own sections of site and experiment files: their types, what is wrong with them, and their
part of the JSON Schema. Each scheduler says it (:class:`ddqjobs.schedulers.backend.Backend`); here it is put
together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from ddqjobs.base.errors import Problem
from ddqjobs.schedulers.registry import BACKENDS
from ddqjobs.spec import schema as schemas
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.reader import Document
from ddqjobs.spec.sections import Kinds, Section, decoded
from ddqjobs.spec.site import Site

Path = tuple[str | int, ...]


def of_sites() -> Kinds:
    """Return the types of the sections of site files."""
    return {name: backend.site_section for name, backend in BACKENDS.items()}


def of_experiments() -> Kinds:
    """Return the types of the sections of experiments, tasks and variants."""
    kinds = {name: backend.resources_section for name, backend in BACKENDS.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def schema(kind: Literal["experiment", "site"]) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file."""
    if kind == "site":
        return schemas.schema(Site, "ddqjobs site", of_sites())
    return schemas.schema(Experiment, "ddqjobs experiment", of_experiments())


def with_defaults(site: Site) -> Site:
    """Return a site to be shown: the section of its scheduler is its type, with the defaults of its keys."""
    own = decoded(site.sections, site.scheduler, BACKENDS[site.scheduler].site_section)
    return msgspec.structs.replace(site, sections={**site.sections, site.scheduler: own})


def check_site(read: Document[Site]) -> list[Problem]:
    """Return what is wrong with the sections of a site beyond types, by file and line."""
    problems = (problem for backend in BACKENDS.values() for problem in backend.check_site(read.value))
    return sorted({Problem(*read.line_of(path), message) for path, message in problems})


def check_experiment(read: Document[Experiment]) -> list[Problem]:
    """Return what is wrong with the sections of an experiment beyond types, by file and line."""
    return sorted(
        {
            Problem(*read.line_of((*at, name, *path)), message)
            for at, sections in _sections(read.value)
            for name, section in sections.items()
            for path, message in BACKENDS[name].check_resources(section)
        }
    )


def _sections(experiment: Experiment) -> Iterator[tuple[Path, dict[str, Section]]]:
    yield (), experiment.sections
    for name, task in experiment.tasks.items():
        yield ("tasks", name), task.sections
    for name, variant in experiment.variants.items():
        yield ("variants", name), variant.sections
