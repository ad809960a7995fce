"""Everything that ddqjobs knows of one scheduler, in one place: a folder has a :class:`Backend`, the registry
has one of each, and no other module asks which scheduler a site has (docs/how-to/adding-a-scheduler.md)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from ddqjobs.base.errors import InputError, StateError
from ddqjobs.base.findings import Line, ok
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.secrets import is_secret
from ddqjobs.schedulers.base import Capabilities, Scheduler, Submission
from ddqjobs.spec.model import Resources, Run
from ddqjobs.spec.sections import Section, merged
from ddqjobs.spec.site import Site

Found = Iterator[tuple[tuple[str | int, ...], str]]  # (place in a file, what is wrong there)


class Job(Frozen, frozen=True, kw_only=True):
    """A submission as its directive lines describe it."""

    name: str  # ends with the token: by it a submission is found again where there is no comment
    token: str
    resources: Resources  # with the site's defaults
    out: str  # absolute folder for the scheduler's own output
    count: int = 1  # elements
    first: int = 0  # index of the first one
    user: str = ""


@dataclass(frozen=True)
class Surroundings:
    """Facts of the project for the time when `ddqjobs doctor` examines a scheduler."""

    runs: Sequence[Run]  # to come
    sites: Callable[[], Mapping[str, Site]]  # all sites whose files can be read, by the names of these
    jobs: Callable[[], Mapping[str, str]]  # job -> token of what was submitted to this site, the newest last
    user: str
    facts: Path  # folder for what the scheduler's commands answer


class Shell(Frozen, frozen=True, kw_only=True):
    """The way into a shell where the jobs of a site run."""

    argv: tuple[str, ...]  # the path of the script to run comes behind
    where: str  # in words
    environment: dict[str, str]
    remedy: str  # what to do where the command cannot be started


class Backend(ABC):
    """One scheduler. It keeps nothing: a :class:`~ddqjobs.schedulers.base.Scheduler` does, once connected."""

    name: ClassVar[str]  # of `scheduler:` in site files, and of the template NAME.sh.j2
    site_section: ClassVar[type[msgspec.Struct]]  # NAME: of site files
    resources_section: ClassVar[type[msgspec.Struct] | None] = None  # NAME: of experiments, tasks, variants
    # What a script's option lines begin with (empty: scripts have none), and what an option may be: these
    # lines know no quoting, and what stands behind a space may be a further option.
    directive: ClassVar[str] = ""
    allowed: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9@._:=,/%+-]*")

    def check_site(self, site: Site) -> Found:
        """Yield what is wrong with a site beyond types. Paths begin at the top of the file."""
        return iter(())

    def check_resources(self, section: Section) -> Found:
        """Yield what is wrong with a section of resources beyond types. Paths begin in the section."""
        return iter(())

    @abstractmethod
    def capabilities(self, site: Site) -> Capabilities:
        """Return what the scheduler can express, without asking it."""

    @abstractmethod
    def connect(self, site: Site, project: Path) -> Scheduler:
        """Return the scheduler of a site, for a project's folder."""

    def gpus_here(self, site: Site) -> int | None:
        """Return how many GPUs the site has for jobs, without asking anybody; None if only its scheduler
        knows."""
        return None

    def cluster(self, site: Site) -> str:
        """Return how the site's cluster names itself, after asking it; empty where it does not tell."""
        return ""

    def gpu_type(self, resources: Resources) -> str:
        """Return the type of GPUs that a job with these resources, the site's below them, asks for; empty if
        it names none."""
        return ""

    def directives(self, site: Site, job: Job) -> list[str]:
        """Return the options of a script's directive lines."""
        return []

    def submit_words(self, site: Site, submission: Submission) -> list[str]:
        """Return the command line that submits a submission; none where no command does."""
        return []

    def job_id(self, site: Site) -> Sequence[str]:
        """Return the names of the variables one of which tells a job its id."""
        return ("DDQJOBS_JOB_ID",)

    def examine(self, site: Site, surroundings: Surroundings) -> Iterator[Line]:
        """Yield what `ddqjobs doctor` says of the scheduler. An error of "scheduler" means that it cannot be
        reached."""
        yield ok("scheduler", f"{self.name} has no checks of its own")

    def refusal(self, directives: Sequence[str]) -> str:
        """Return why a job would be refused for good, empty if it would be taken. Asked where capabilities
        say so. Raise SchedulerError if it cannot be asked."""
        raise NotImplementedError

    def shell(self, site: Site, job: Job, *, terminal: bool, named: Sequence[str]) -> Shell:
        """Return how a shell with a job's resources is entered. ``named`` are the options of the command line
        that ask for an allocation's. Raises InputError, and StateError where there is none."""
        raise StateError(
            f"site {site.name}: nothing is known of interactive jobs in {self.name}; "
            "`ddqjobs submit EXPERIMENT RUN --dry-run` shows the run's script"
        )

    def values(self, site: Site) -> Mapping[str, object]:
        """Return what the scheduler's template needs beyond what all templates get."""
        return {}


def directives(backend: Backend, site: Site, job: Job) -> list[str]:
    """Return the backend's directives. Raises InputError for what must not stand in such a line."""
    options = backend.directives(site, job)
    for option in options:
        if not backend.allowed.fullmatch(option):
            raise InputError(
                f"site {site.name}: {option!r} is not allowed in a directive line, which has no quoting; "
                "use letters, digits and @._:=,/%+[]()*!- (a path: choose another results folder)"
            )
        if is_secret("", option):
            raise InputError(
                f"site {site.name}: option {option.partition('=')[0]} contains a secret, and all users can "
                "read a job's options; keep it in a file readable only by you"
            )
    return options


def sections(backend: Backend, site: Site, resources: Resources) -> dict[str, Section]:
    """Return the sections of resources on a site: only its scheduler's, on top of what the site says."""
    kind, name = backend.resources_section, backend.name
    if kind is None:
        return {}
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    below = {key: value for key, value in site.sections.get(name, {}).items() if key in known}
    return merged({name: below}, {name: resources.sections.get(name, {})})
