"""A new site: its file, from what the cluster at hand says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ddqjobs.base import files
from ddqjobs.base.errors import InputError, MissingError, StateError, mend
from ddqjobs.base.process import user
from ddqjobs.planning import sections
from ddqjobs.schedulers.slurm import survey
from ddqjobs.spec import reader
from ddqjobs.spec.check import site as check_site
from ddqjobs.spec.checker import matches
from ddqjobs.spec.site import Site

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"


class Draft(NamedTuple):
    """The text of a site file, and what it was made of."""

    text: str
    facts: survey.Facts


def place(project: Path, name: str) -> Path:
    """Return the path of a new site's file. Raise InputError."""
    if not matches(_NAME, name):
        raise InputError(f"{name!r} is not a valid name of a site; use letters, digits, dots, - and _")
    return project / "templates" / name / "site.yaml"


def draft(path: Path, name: str, partition: str = "") -> Draft:
    """Ask the cluster and return its site's file, which is valid. Raise SchedulerError, MissingError."""
    facts = survey.survey(user())
    text = survey.site_file(name, facts, survey.chosen(facts, partition))
    reader.parse(
        text,
        str(path),
        Site,
        _no_base,
        lambda document: [*check_site.check(document), *sections.check_site(document)],
        sections.of_sites(),
    )
    return Draft(text, facts)


def write(path: Path, text: str) -> None:
    """Write a new file. Raise StateError if somebody made it meanwhile, or it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = files.create(path, text.encode())
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}; {mend(error)}") from error
    if not created:
        raise StateError(f"{path} exists already; choose another name, or remove the file")


def _no_base(base: str, _named_by: str) -> tuple[str, str]:
    raise MissingError(f"a new site has no base: '{base}'")
