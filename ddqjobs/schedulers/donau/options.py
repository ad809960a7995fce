"""``donau:`` of site files: what this Donau is told, and how it wants to be told (its dialect). Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ddqjobs.spec.sections import decoded
from ddqjobs.spec.site import Site
from ddqjobs.spec.table import Duration, Table, Variable

NAME = "donau"
# Values of #DSUB lines are not shell and cannot be quoted: only what is listed here may pass.
Directive = Annotated[str, Meta(pattern=r"^[A-Za-z0-9@._:=;,/%+\[\]()*!'{} -]*$")]
Pattern = Annotated[str, Meta(description="a regular expression, as Python's re knows them")]


class DonauOptions(Table, frozen=True, kw_only=True):
    """The option of a ``#DSUB`` line that says each thing. Empty: it is not said."""

    name: Directive = ""
    """Option of a job's name. Example: -n"""
    account: Directive = ""
    """Option of the account. Example: -A"""
    queue: Directive = ""
    """Option of the queue. Example: -q"""
    label: Directive = ""
    """Option of the nodes' label. Example: -l"""
    job_type: Directive = ""
    """Option of the type of job. Example: --job_type"""
    resources: Directive = ""
    """Option of what each replica gets. Example: -R"""
    replicas: Directive = ""
    """Option of the number of replicas. Example: -N"""
    nodes: Directive = ""
    """Option of the number of nodes. Example: -nn"""
    time: Directive = ""
    """Option of the time limit. Example: -T"""
    requeue: Directive = ""
    """Option of the exit code that starts a job once more. Example: -rqc"""
    stderr: Directive = ""
    """Option of the file of standard error. Example: -e"""
    stdout: Directive = ""
    """Option of the file of standard output. Example: -o"""


class DonauQuestion(Table, frozen=True, kw_only=True):
    """A command that says something of jobs. ``{jobs}`` is a word for each of up to ``page`` jobs, ``{job}``
    one job (a call for each), ``{token}`` what a submission's name ends with."""

    argv: list[str]
    """Words of the command; `{jobs}`, `{job}` and `{token}` are filled in. Example: [djob, '{jobs}']"""
    about: Literal["all", "missing", "failed"] = "all"
    """Which jobs are asked about: `all`, those `missing` from earlier answers, or those that `failed`.
    Example: missing"""
    form: Literal["table", "details"] = "table"
    """Form of the answer: a `table` with a header, or `details`, lines of key and value. Example: details"""


class DonauColumns(Table, frozen=True, kw_only=True):
    """Names of columns and keys of details, the first that is there counts."""

    job: list[str]
    """Names of the column of a job's number. Example: [JOB_ID]"""
    name: list[str]
    """Names of the column of a job's name. Example: [JOB_NAME]"""
    state: list[str]
    """Names of the column of a job's state. Example: [JOB_STATE]"""
    node: list[str] = []
    """Names of the column of a job's node. Example: [EXEC_NODES]"""
    exit_code: list[str] = []
    """Names of the column of a job's exit code. Example: [EXIT_CODE]"""
    message: list[str] = []
    """Names of the column of a job's last message. Example: [EXIT_MESSAGE]"""


class DonauPatterns(Table, frozen=True, kw_only=True):
    """Patterns of what the commands print, line by line; upper and lower case are the same."""

    accepted: Pattern
    r"""Of an accepted submission; its only group is the job's number. Example: '^(\d+) Submit job
    successfully'"""
    refused: list[Pattern] = []
    """Of a submission that was certainly not taken. Example: ['invalid option']"""
    login: list[Pattern] = []
    """Of a token that is missing, expired or not accepted. Example: ['token expired']"""
    nothing: list[Pattern] = []
    """Of an answer without any job, which says nothing of how a job ended. Example: ['no matches']"""


class DonauDialect(Table, frozen=True, kw_only=True):
    """One generation of Donau's command line, as data (docs/reference/donau.md)."""

    generation: str
    """Name of this generation of the command line, for messages. Example: old"""
    options: DonauOptions
    """Options of `#DSUB` lines. Example: {name: -n}"""
    submit: list[str]
    """Words of the command that submits; `{script}`, `{dependency}` and `{avoid}` are filled in. Example:
    [dsub, -s, '{script}']"""
    find: list[DonauQuestion]
    """Commands that look for a job by its token. Example: [{argv: [djob, -n, '{token}']}]"""
    ask: list[DonauQuestion]
    """Commands that ask for states, one after the other. Example: [{argv: [djob, '{jobs}']}]"""
    all: DonauQuestion
    """Command that lists every job of the user that has not ended. Example: {argv: [djob]}"""
    cancel: list[str]
    """Words of the command that cancels `{job}`. Example: [djob, -T, '{job}']"""
    hold: list[str] = []
    """Words of the command that holds `{job}`; empty, it cannot be done. Example: [djob, -S, '{job}']"""
    release: list[str] = []
    """Words of the command that releases `{job}`. Example: [djob, -R, '{job}']"""
    help: list[list[str]] = []
    """Commands whose output tells what the command line knows. Example: [[dsub, --help]]"""
    signs: dict[str, list[str]] = {}
    """Words of an answer that tell this generation from others, by command line. No words: that the command
    exists. Example: {'djob --help': [-T, -S]}"""
    columns: DonauColumns
    """Names of columns, and of keys of details; the first that is there counts. Example:
    {job: [JOB_ID], name: [JOB_NAME], state: [JOB_STATE]}"""
    patterns: DonauPatterns
    r"""Patterns of answers, line by line; upper and lower case are the same. Example: {accepted: '^(\d+)'}"""
    states: dict[str, Literal["queued", "held", "running", "stopped", "ended", "failed"]]
    """What each state of Donau means. Example: {PENDING: queued}"""
    cancelled: list[int] = []
    """Exit codes of cancelled jobs. Example: [10003]"""
    page: Annotated[int, Meta(ge=1, le=1000)] = 200
    """How many jobs one command may be asked about. Example: 200"""
    login: str = ""
    """The command that gets a new token, for messages. Example: dconfig"""
    dependency: list[str] = []
    """Option and value of a dependency; `{job}` once for each job, joined by `;`. Example: [-D,
    '{job}=ENDED']"""
    avoid: list[str] = []
    """Option and value of nodes to avoid; `{node}` once for each node, joined by a space. Example: [-pn,
    '!{node}']"""


class DonauRequeue(Table, frozen=True, kw_only=True):
    """The request of a script to be started once more: the option's value, and the exit code that it
    names."""

    value: Directive
    """Value of the option that asks for another start. Example: '75'"""
    code: Annotated[int, Meta(ge=1, le=125)]
    """Exit code that the value names. Example: 75"""


class DonauLaunch(Table, frozen=True, kw_only=True):
    """Names that a job finds on its nodes."""

    job: list[Variable] = []
    """Variables with the job's number; the first that is set counts. Example: [BATCH_JOB_ID]"""
    allocation: list[Variable] = []
    """Variables with the file that lists the nodes. Example: [CCS_ALLOC_FILE]"""
    agent: str = ""
    """Program that starts a command on a node (`AGENT HOST COMMAND...`); empty, each replica starts itself.
    Example: /opt/batch/agent/tools/dstart"""
    meet: Duration = "300s"
    """How long the replicas of a job wait for each other. Example: 300s"""


class Donau(Table, frozen=True, kw_only=True):
    """Options of Donau. The dialect says how this Donau wants them said."""

    account: Directive = ""
    """Account; `{user}` is the user's name. Example: root.lab.{user}"""
    queue: Directive = ""
    """Queue. Example: root.default"""
    label: Directive = ""
    """Label of the nodes. Example: wuhanG5500"""
    job_type: Directive = ""
    """Type of job. Example: cosched"""
    dependencies: bool = False
    """Whether the dialect's `dependency` is known to work here. Example: true"""
    avoid: bool = False
    """Whether the dialect's `avoid` is known to work here. Example: true"""
    requeue: DonauRequeue | None = None
    """How a script asks to be started once more. Example: {value: '75', code: 75}"""
    extra: list[Directive] = []
    """Further options of `#DSUB` lines, which no other key says. Example: ['-ep exclusive']"""
    dialect: DonauDialect | None = None
    """How this Donau wants to be told things; required with `scheduler: donau`. The site `bscc` has one."""
    launch: DonauLaunch = DonauLaunch()
    """What a job finds on its nodes. Example: {agent: /opt/batch/agent/tools/dstart}"""


def of(site: Site) -> Donau:
    """Return a site's own section."""
    return decoded(site.sections, NAME, Donau)
