"""``donau:`` of site files: what this Donau is told, and how it wants to be told (its dialect). Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ddqjobs.spec.sections import decoded
from ddqjobs.spec.site import Site
from ddqjobs.spec.table import Table, Variable

NAME = "donau"
# Values of #DSUB lines are not shell and cannot be quoted: only what is listed here may pass.
Directive = Annotated[str, Meta(pattern=r"^[A-Za-z0-9@._:=;,/%+\[\]()*!'{} -]*$")]
Pattern = Annotated[str, Meta(description="a regular expression, as Python's re knows them")]


class DonauOptions(Table, frozen=True, kw_only=True):
    """The option of a ``#DSUB`` line that says each thing. Empty: it is not said."""

    name: Directive = ""
    account: Directive = ""
    queue: Directive = ""
    label: Directive = ""
    job_type: Directive = ""
    resources: Directive = ""
    replicas: Directive = ""
    nodes: Directive = ""
    time: Directive = ""
    requeue: Directive = ""
    stderr: Directive = ""
    stdout: Directive = ""


class DonauQuestion(Table, frozen=True, kw_only=True):
    """A command that says something of jobs. ``{jobs}`` is a word for each of up to ``page`` jobs, ``{job}``
    one job (a call for each), ``{token}`` what a submission's name ends with."""

    argv: list[str]
    about: Literal["all", "missing", "failed"] = "all"  # missing: those whose state is not known by then
    form: Literal["table", "details"] = "table"  # a header and rows; or lines of a key and a value


class DonauColumns(Table, frozen=True, kw_only=True):
    """Names of columns and keys of details, the first that is there counts."""

    job: list[str]
    name: list[str]
    state: list[str]
    node: list[str] = []
    exit_code: list[str] = []
    message: list[str] = []


class DonauPatterns(Table, frozen=True, kw_only=True):
    """What the commands say, line by line; upper and lower case are the same."""

    accepted: Pattern  # its only group is the job's id
    refused: list[Pattern] = []  # certainly not submitted
    login: list[Pattern] = []  # the token is missing, expired or not accepted
    nothing: list[Pattern] = []  # an answer without any job; says nothing of how a job ended


class DonauDialect(Table, frozen=True, kw_only=True):
    """One generation of Donau's command line, as data (docs/donau.md)."""

    generation: str  # its name, for messages only
    options: DonauOptions
    submit: list[str]  # {script}; {dependency}, {avoid}: nothing, or the two words of `dependency`, `avoid`
    find: list[DonauQuestion]
    ask: list[DonauQuestion]
    all: DonauQuestion  # every job of the user that has not ended
    cancel: list[str]  # {job}
    hold: list[str] = []  # {job}; empty: it cannot be done
    release: list[str] = []  # {job}
    help: list[list[str]] = []  # commands whose output tells what the command line knows
    # Words of an answer that tell this generation from others, by command line: `COMMAND --help`, or the list
    # `all`. No words: that the command is there at all.
    signs: dict[str, list[str]] = {}
    columns: DonauColumns
    patterns: DonauPatterns
    states: dict[str, Literal["queued", "held", "running", "stopped", "ended", "failed"]]
    cancelled: list[int] = []  # exit codes of cancelled jobs
    page: Annotated[int, Meta(ge=1, le=1000)] = 200
    login: str = ""  # the command that gets a new token, for messages
    dependency: list[str] = []  # e.g. [-D, "{job}=ENDED"]; {job} once per job, joined by `;`
    avoid: list[str] = []  # e.g. [-pn, "!{node}"]; {node} once per node, joined by a space


class DonauRequeue(Table, frozen=True, kw_only=True):
    """How a script asks to be started once more: the option's value, and the exit code that it names."""

    value: Directive
    code: Annotated[int, Meta(ge=1, le=125)]


class DonauLaunch(Table, frozen=True, kw_only=True):
    """What a job finds on its nodes."""

    job: list[Variable] = []  # variables with the job's id, the first that is set counts
    allocation: list[Variable] = []  # variables with the file that lists the nodes
    agent: str = ""  # AGENT HOST COMMAND... starts a command on a node; empty: each replica starts itself
    meet: str = "300s"  # how long the replicas of a job wait for each other


class Donau(Table, frozen=True, kw_only=True):
    """Options of Donau. The dialect says how this Donau wants them said."""

    account: Directive = ""
    queue: Directive = ""
    label: Directive = ""
    job_type: Directive = ""
    dependencies: bool = False  # whether the dialect's `dependency` is known to work here
    avoid: bool = False  # whether the dialect's `avoid` is
    requeue: DonauRequeue | None = None
    extra: list[Directive] = []
    dialect: DonauDialect | None = None  # required for scheduler: donau
    launch: DonauLaunch = DonauLaunch()


def of(site: Site) -> Donau:
    """Return a site's own section."""
    return decoded(site.sections, NAME, Donau)
