"""`ddqjobs doctor`: what would keep runs from starting or ending well on a site, before one submits them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ddqjobs.base.errors import DdqjobsError, mend
from ddqjobs.base.findings import Level, Line, error, ok, warning
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.process import user
from ddqjobs.doctor.gpus import check_gpus
from ddqjobs.doctor.missing import environment_problems, mends_jobs
from ddqjobs.doctor.needs import check_needs
from ddqjobs.doctor.node import check_node
from ddqjobs.doctor.storage import check_storage
from ddqjobs.doctor.subject import Subject
from ddqjobs.environments.on_site import Environments
from ddqjobs.schedulers.backend import Surroundings
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.model import PlannedRun, Status
from ddqjobs.submission.impossible import Kinds, hurried
from ddqjobs.submission.rendering import Rendering
from ddqjobs.submission.workspace import Workspace

Say = Callable[[Line], None]


class Options(Frozen, frozen=True, kw_only=True):
    """The extent of an examination: ``job`` submits the probe, with ``gpus``, and waits ``patience_s`` for
    it."""

    job: bool = True
    gpus: int = 0
    patience_s: float = 120.0


def examine(
    workspace: Workspace,
    environments: Environments,
    runs: Sequence[PlannedRun],
    options: Options,
    say: Say,
) -> list[Line]:
    """Look at everything, and say each line as soon as it is known. Only runs that are not done count."""
    subject = Subject(
        workspace, environments, [planned.run for planned in runs if planned.status is not Status.DONE]
    )
    lines: list[Line] = []

    def check(what: str, part: Iterator[Line]) -> None:
        for line in _safely(what, part):
            lines.append(line)
            say(line)

    check("scheduler", check_scheduler(subject))
    reachable = not any(line.level is Level.ERROR and line.what == "scheduler" for line in lines)
    if reachable:
        check("jobs", check_jobs(subject))
    check("environments", check_environments(subject))
    check("GPUs", check_gpus(subject))
    check("inputs and code", check_needs(subject))
    check("disk space", check_storage(subject))
    if options.job and reachable and backend(subject.site).capabilities(subject.site).probes:
        check("compute node", check_node(subject, options.gpus, options.patience_s))
    return lines


def _safely(what: str, part: Iterator[Line]) -> Iterator[Line]:
    """Yield the lines of a part; what keeps it from going on is a line too."""
    try:
        yield from part
    except DdqjobsError as problem:
        yield error(what, " ".join(str(problem).split()), "fix that first, then look again")
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        yield error(what, f"{where}{problem.strerror}", mend(problem))


def check_scheduler(subject: Subject) -> Iterator[Line]:
    """Yield whether the scheduler answers, and its limits."""
    catalog, site = subject.workspace.catalog, subject.site

    def jobs() -> dict[str, str]:
        tickets = subject.workspace.store.history().tickets.values()
        return {ticket.job: ticket.token for ticket in tickets if ticket.job and ticket.site == site.name}

    surroundings = Surroundings(
        runs=subject.runs,
        sites=catalog.readable_sites,
        jobs=jobs,
        user=user(),
        facts=catalog.project / "site-facts" / site.name,
    )
    yield from backend(site).examine(site, surroundings)


def check_jobs(subject: Subject) -> Iterator[Line]:
    """Yield whether the scheduler would take jobs with the resources of the runs to come."""
    for kind in hurried(subject.runs, subject.site):
        yield warning("jobs", f"{kind.asks}: {kind.why.partition('; ')[0]}", kind.why.partition("; ")[2])
    kinds = Kinds(subject.workspace, Rendering(subject.workspace, subject.environments))
    for kind in kinds.ask(subject.runs, again=True):
        if kind.why:
            yield error("jobs", f"{kind.asks}: {kind.why}", mends_jobs(subject.site))
        else:
            yield ok("jobs", f"{kind.asks}: would be taken")


def check_environments(subject: Subject) -> Iterator[Line]:
    """Yield whether the environments are ready, as far as can be seen from here."""
    for hint in subject.workspace.catalog.hints_of_site(subject.site, subject.environment_names):
        yield warning("site file", hint.partition("; ")[0], hint.partition("; ")[2])
    problems = environment_problems(subject)
    for name in subject.environment_names:
        if name in problems:
            yield error(f"environment {name}", *problems[name])
        elif name not in subject.site.activate:  # of those only a node can tell more
            yield ok(f"environment {name}", "is ready here")
