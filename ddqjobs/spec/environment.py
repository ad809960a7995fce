"""The environment file: what an environment is made of, and how one finds out that it works.

How an environment is entered (its interpreter by path, modules loaded before, a container) is no part of it:
the site file says that.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from ddqjobs.spec.table import Name, Table, Variable

PackageName = Annotated[
    str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="a package's name as the lock writes it")
]
FileName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="a file name without folder")
]


Capability = Annotated[
    str, Meta(pattern=r"^\d+\.\d$", description='a compute capability in quotes, as "8.0" of an A100')
]
DriverVersion = Annotated[
    str, Meta(pattern=r"^(\d+(\.\d+)*)?$", description='a version of NVIDIA\'s driver in quotes: "450.80.02"')
]


class Check(Table, frozen=True, kw_only=True):
    """A command for the environment's interpreter that must exit with 0. ``files`` are what it may import
    of ddqjobs, as paths of files or folders from above the package: it sees no others. One that needs a GPU
    is run where there is one; until then the environment is unverified."""

    command: Annotated[list[str], Meta(min_length=1)]
    files: list[str] = []
    gpu: bool = False
    timeout: str = "10m"


class Gpus(Table, frozen=True, kw_only=True):
    """Which GPUs an environment can serve: the compute capabilities that torch and everything compiled beside
    it were made for (one serves those of its major version from there on), and the oldest driver."""

    capabilities: Annotated[list[Capability], Meta(min_length=1)]
    driver: DriverVersion = ""


class Interpreter(Table, frozen=True, kw_only=True):
    """Where Python comes from. Empty: what fits of our own, of PATH (after `modules`), of what uv brings."""

    path: str = ""  # a program on PATH (after `modules`), or a path
    managed: bool = False  # only one that uv brings


class Tree(Table, frozen=True, kw_only=True):
    """A code tree, checked out as ``trees/<name>`` in the environment. The revision decides; the branch says
    where to find it, for servers that give no single commits."""

    url: str
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$", description="a whole commit id, 40 hex digits")]
    branch: str = ""
    link: str = ""  # a path that shall lead to the tree: a symbolic link, made if nothing else is there


class Step(Table, frozen=True, kw_only=True):
    """What is done after the packages are installed, in the order of the file: a ``command``, in a tree's
    folder or in the environment's; or the installation of ``packages`` of the lock from their source, with
    what is installed by then. ``produces`` are patterns of files, seen from where it runs, that must be
    there afterwards."""

    command: list[str] = []
    packages: list[PackageName] = []
    tree: str = ""
    folder: str = ""  # where it runs, below the tree
    variables: dict[Variable, str] = {}
    produces: list[str] = []
    timeout: str = "4h"


class Declaration(Table, frozen=True, kw_only=True):
    """A whole env.yaml. ``fallback_indexes`` are asked only when the configured indexes and wheel folders
    lack something; ``overrides`` names a file of requirements that replace what packages ask for.

    In commands and variables of steps and in ``variables``, ``{environment}`` is the environment's folder,
    ``{trees}`` the folder of its code trees; in steps ``{cpus}`` is how many there are and ``{env.NAME}`` a
    variable as it is after the modules were loaded."""

    name: Name
    title: str = ""
    python: Annotated[str, Meta(pattern=r"^3\.\d+(\.\d+)?$", description="3.MINOR or 3.MINOR.PATCH")]
    interpreter: Interpreter = Interpreter()
    modules: list[str] = []  # `module load` of each, in order, where the site enters environments so
    platform: str = "x86_64-manylinux_2_28"
    requirements: FileName = "requirements.txt"
    overrides: FileName | None = None
    lock: FileName = "lock.txt"
    gpus: Gpus | None = None  # which GPUs it can serve; left out: none, or any
    from_source: list[PackageName] = []  # without a wheel: built by uv from source, in isolation
    wheels: list[str] = []  # folders or pages with wheels, on top of the configured ones
    indexes: list[str] = []  # asked on top of the configured ones
    fallback_indexes: list[str] = []
    trees: dict[Name, Tree] = {}
    steps: dict[Name, Step] = {}
    variables: dict[Variable, str] = {}  # for whatever runs in the environment
    checks: dict[Name, Check] = {}


PLACEHOLDERS = ("environment", "trees", "cpus", "env.NAME")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+(?:\.[A-Za-z0-9_]*)?)\}")


def placeholders(text: str) -> list[str]:
    """The names in braces in a word, known or not. Other braces are just text."""
    return _PLACEHOLDER.findall(text)


def fill(text: str, values: dict[str, str]) -> str:
    """The word with its placeholders replaced. Raises KeyError with the first name that has no value."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)
