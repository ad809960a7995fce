"""Options of a Slurm job beyond its resources: ``slurm:`` of site and experiment files. Pure.

A key that is left out is inherited: the site's, the experiment's, the task's, the variant's, the later ones
win; an empty value says that the option is not given. Values of ``#SBATCH`` lines are no shell words, and
whatever stands behind a space is a further option there: only what is listed here may pass.
"""

from __future__ import annotations

import re
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
_FORM = "one option in its long form, --name or --name=value, without spaces and quotes"
_LONG = re.compile(f"--[a-z][a-z0-9-]*(=[{_VALUE}{_LOGIC}-]*)?")
# Short forms and a value behind a space are refused later, with what to write: `_refusal`.
_OTHER = f"--[a-z][a-z0-9-]*([= ][{_VALUE}{_LOGIC}-]*)?|-[A-Za-z] ?[{_VALUE}{_LOGIC}-]*"
Option = Annotated[str, Meta(pattern=f"^({_OTHER})$", description=_FORM)]
Mail = Literal[
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT",
    "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
]  # fmt: skip

_CPUS = "`resources.cpus` in the task, or `cpus_per_gpu` in the site"
_MEMORY = "`resources.memory` in the task, or `memory_mb_per_gpu` in the site"
_GPUS = "`resources.gpus` in the task, and `gpu_type` here"
# Options that have a key, with what to write; those by which a submission is found again, stopped and read;
# and those that say how many tasks a node gets, where the script counts on one.
_KEYS = {
    "account": "`account`",
    "partition": "`partition`",
    "qos": "`qos`",
    "constraint": "`constraint`",
    "reservation": "`reservation`",
    "exclusive": "`exclusive`",
    "nodelist": "`nodelist`",
    "exclude": "`exclude`",
    "mail-user": "`mail`",
    "mail-type": "`mail_type`",
    "nodes": "`resources.nodes` in the task",
    "cpus-per-task": _CPUS,
    "cpus-per-gpu": _CPUS,
    "mem": _MEMORY,
    "mem-per-cpu": _MEMORY,
    "mem-per-gpu": _MEMORY,
    "time": "`resources.time` in the task, or `limits.time` in the site",
    "gpus": _GPUS,
    "gpus-per-node": _GPUS,
    "gpus-per-socket": _GPUS,
    "gpus-per-task": _GPUS,
    "tres-per-task": "`resources` in the task",
}
_OURS = frozenset(
    {
        "job-name", "comment", "array", "output", "error", "open-mode", "signal", "dependency",
        "kill-on-invalid-dep", "parsable", "wait", "wrap", "test-only",
    }
)  # fmt: skip
_SHORT = {
    "A": "account", "p": "partition", "q": "qos", "C": "constraint", "w": "nodelist", "x": "exclude",
    "N": "nodes", "c": "cpus-per-task", "t": "time", "G": "gpus", "n": "ntasks", "J": "job-name",
    "a": "array", "o": "output", "e": "error", "d": "dependency", "W": "wait",
}  # fmt: skip
_TASKS = frozenset({"ntasks", "ntasks-per-node", "tasks-per-node", "ntasks-per-gpu"})
_GRES = "--gres="


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


def generic_resources(options: Slurm, gpus: int) -> str:
    """Return the value of ``--gres``: the GPUs, and whatever else ``extra`` asks for by this option, of which
    Slurm reads the last one only."""
    gpu = f"gpu:{options.gpu_type}:{gpus}" if options.gpu_type else f"gpu:{gpus}"
    others = [option.removeprefix(_GRES) for option in options.extra or () if option.startswith(_GRES)]
    return ",".join([gpu] * bool(gpus) + others)


def further(options: Slurm) -> list[str]:
    """Return the options of ``extra`` that make lines of their own."""
    return [option for option in options.extra or () if not option.startswith(_GRES)]


def problems(options: Slurm) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(key, what is wrong) beyond types: further options that are none."""
    for number, option in enumerate(options.extra or ()):
        if message := _refusal(option):
            yield ("extra", number), message


def _refusal(option: str) -> str:
    """Return why an option may not be among the further ones; empty if it may.

    >>> _refusal("--part=x")
    '--part is short for --partition, which has a key of its own: write `partition`'
    >>> _refusal("-C a100")
    '-C is short for --constraint, which has a key of its own: write `constraint`'
    >>> _refusal("--gres-flags=enforce-binding") + _refusal("--gres=lscratch:100")
    ''
    """
    typed, _, value = option.removeprefix("--").replace(" ", "=", 1).partition("=")
    short = "" if option.startswith("--") else option[:2]
    if typed == "gres" and any(part.partition(":")[0] == "gpu" for part in value.split(",")):
        return f"--gres=gpu has a key of its own: write {_GPUS}"
    name = _SHORT.get(short[1:], "") if short else _meant(typed)
    which = f"--{name}" if typed == name else f"{short or f'--{typed}'} is short for --{name}, which"
    if name in _KEYS:
        return f"{which} has a key of its own: write {_KEYS[name]}"
    if name in _TASKS:
        return (
            f"{which} contradicts the script, which counts on one task on each node; remove it, "
            "`launcher: torchrun` in the code starts a process for each GPU"
        )
    if name in _OURS:
        return f"{which} is ddqjobs' own: by it jobs are found, stopped and read"
    return "" if _LONG.fullmatch(option) else f"{option!r} is not {_FORM}"


def _meant(typed: str) -> str:
    """Return the option that is meant: Slurm takes the beginning of a name for the whole."""
    refused = (*_KEYS, *sorted(_OURS), *sorted(_TASKS))
    return typed if typed in refused else next((n for n in refused if n.startswith(typed)), typed)
