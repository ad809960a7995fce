"""Options of a Slurm job beyond its resources: ``slurm:`` of site and experiment files. Pure.

A key that is left out is inherited: the site's, the experiment's, the task's, the variant's, the later ones
win; an empty value says that the option is not given. Values of ``#SBATCH`` lines are no shell words, and
whatever stands behind a space is a further option there: only what is listed here may pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from ddqjobs.spec.model import Resources
from ddqjobs.spec.sections import decoded
from ddqjobs.spec.site import Site
from ddqjobs.spec.table import Table

NAME = "slurm"
_VALUE = r"A-Za-z0-9@._:=,/%+\[\]"
_LOGIC = "&|()*!"
Word = Annotated[
    str,
    Meta(
        pattern=f"^[{_VALUE}-]*$", description="only letters, digits and @._:=,/%+[]-; no spaces, no quotes"
    ),
]
Account = Annotated[
    str,
    Meta(pattern=r"^([A-Za-z0-9@._+-]|\{user\})*$", description="only letters, digits, @._+- and {user}"),
]
Expression = Annotated[
    str,
    Meta(
        pattern=f"^[{_VALUE}{_LOGIC}-]*$",
        description="only letters, digits and @._:=,/%+[]-&|()*!; no spaces, no quotes",
    ),
]
GpuType = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]*$", description="a name as in gpu:NAME:8; the number is `gpus`")
]
Option = Annotated[
    str,
    Meta(
        pattern=f"^--[a-z][a-z0-9-]*(=[{_VALUE}{_LOGIC}-]*)?$",
        description="one option in its long form, --name or --name=value, without spaces and quotes",
    ),
]
Mail = Literal[
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT",
    "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
]  # fmt: skip

# Options that have a key, and those by which a submission is found again, stopped and read.
_KEYS = {
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
    "exclusive": "exclusive",
    "nodelist": "nodelist",
    "exclude": "exclude",
    "mail-user": "mail",
    "mail-type": "mail_type",
}
_OURS = frozenset(
    {
        "comment", "array", "output", "open-mode", "signal", "dependency", "kill-on-invalid-dep", "parsable",
        "wait", "wrap", "test-only",
    }
)  # fmt: skip


class Slurm(Table, frozen=True, kw_only=True):
    """Options of Slurm. What is empty is not said; what is left out is inherited."""

    account: Account | None = None
    """`--account`; `{user}` is the user's name. Example: lab-{user}"""
    partition: Word | None = None
    """`--partition`. Example: gpu"""
    qos: Word | None = None
    """`--qos`. Example: normal"""
    constraint: Expression | None = None
    """`--constraint`. Example: a100&nvlink"""
    reservation: Word | None = None
    """`--reservation`. Example: cvpr"""
    gpu_type: GpuType | None = None
    """TYPE of `--gres=gpu:TYPE:N`. Example: a100"""
    exclusive: bool | None = None
    """`--exclusive`. Example: true"""
    nodelist: Word | None = None
    """`--nodelist`. Example: node[01-04]"""
    exclude: Word | None = None
    """`--exclude`; nodes that are avoided come on top. Example: node07"""
    mail: Word | None = None
    """Address of `--mail-user`. Example: ada@example.org"""
    mail_type: tuple[Mail, ...] | None = None
    """`--mail-type`; left out, END and FAIL where there is an address. Example: [FAIL]"""
    extra: tuple[Option, ...] | None = None
    """Further options in their long form, which no other key says. Example: [--nice=100]"""


def of(owner: Site | Resources) -> Slurm:
    """Return the section of a site, or of resources, which have the site's below their own."""
    return decoded(owner.sections, NAME, Slurm)


def lines(options: Slurm, user: str) -> list[str]:
    """The options as ``--name=value``, but for ``extra``, which comes last in a script, and the type of GPUs,
    which goes with their number."""
    o = options
    types = o.mail_type if o.mail_type is not None else ("END", "FAIL") if o.mail else ()
    if o.mail == "":  # unsaid: else Slurm would write to whoever submits
        types = ()
    pairs = (
        ("account", (o.account or "").replace("{user}", user)),
        ("partition", o.partition),
        ("qos", o.qos),
        ("constraint", o.constraint),
        ("reservation", o.reservation),
        ("nodelist", o.nodelist),
        ("exclude", o.exclude),
        ("mail-type", ",".join(types)),
        ("mail-user", o.mail),
    )
    return [f"--{name}={value}" for name, value in pairs if value] + ["--exclusive"] * bool(o.exclusive)


def problems(options: Slurm) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(key, what is wrong) beyond types: further options that are none."""
    for number, option in enumerate(options.extra or ()):
        name = option[2:].partition("=")[0]
        if name in _KEYS:
            yield ("extra", number), f"--{name} has a key of its own: write `{_KEYS[name]}`"
        elif name in _OURS:
            yield ("extra", number), f"--{name} is ddqjobs' own: by it jobs are found, stopped and read"
