"""The environment file: what an environment is made of, and how one finds out that it works.

How an environment is entered (its interpreter by path, modules loaded before, a container) is no part of it:
the site file says that.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from ddqjobs.spec.table import Duration, Name, Table, Variable

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
    """Words for the environment's interpreter, which must exit with 0. Example: [-m, ddqjobs.detect.verify,
    --expect, torch=1.9.0]"""
    files: list[str] = []
    """What it may import of ddqjobs: files or folders, as paths from above the package. Example:
    [ddqjobs/detect]"""
    gpu: bool = False
    """Whether it needs a GPU; until it ran on one the environment is unverified. Example: true"""
    timeout: Duration = "10m"
    """How long it may take: a number and s, m, h or d. Example: 10m"""


class Gpus(Table, frozen=True, kw_only=True):
    """The GPUs that an environment can serve: the compute capabilities that torch and everything compiled
    beside it were made for (one serves those of its major version from there on), and the oldest driver."""

    capabilities: Annotated[list[Capability], Meta(min_length=1)]
    """Compute capabilities that torch and what is compiled beside it were made for, in quotes. Example:
    ['7.0', '8.0']"""
    driver: DriverVersion = ""
    """Oldest version of NVIDIA's driver, in quotes. Example: '450.80.02'"""


class Interpreter(Table, frozen=True, kw_only=True):
    """The source of Python. Empty: what fits of our own, of PATH (after `modules`), of what uv brings."""

    path: str = ""
    """A program on PATH after `modules`, or a path; empty, what fits. Example: python3.8"""
    managed: bool = False
    """Whether only an interpreter that uv brings will do. Example: true"""


class Tree(Table, frozen=True, kw_only=True):
    """A code tree, checked out as ``trees/<name>`` in the environment. The revision decides; the branch says
    where to find it, for servers that give no single commits."""

    url: str
    """Git repository. Example: https://github.com/open-mmlab/mmdetection.git"""
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$", description="a whole commit id, 40 hex digits")]
    """The commit that is checked out. Example: cfd5d3a985b0249de009b67d04f37263e11cdf3d"""
    branch: str = ""
    """Where to find the commit, for servers that give no single ones. Example: main"""
    link: str = ""
    """Path that shall lead to the tree: a symbolic link, made if nothing else is there. Example:
    ~/ddq/new/mmdetection"""


class Step(Table, frozen=True, kw_only=True):
    """A step after the packages are installed, in the order of the file: a ``command``, in a tree's folder or
    in the environment's; or the installation of ``packages`` of the lock from their source, with what is
    installed by then. ``produces`` are patterns of files, seen from where it runs, that must be there
    afterwards."""

    command: list[str] = []
    """Words of the command. Example: [python, setup.py, develop, --no-deps]"""
    packages: list[PackageName] = []
    """Packages of the lock to install from their source, in place of a command. Example: [mmcv-full]"""
    tree: str = ""
    """The tree in whose folder it runs; empty, the environment's folder. Example: mmdetection"""
    folder: str = ""
    """Where it runs, below the tree. Example: mmcv-1.4.7"""
    variables: dict[Variable, str] = {}
    """Environment variables of the step. Example: {MAX_JOBS: '{cpus}'}"""
    produces: list[str] = []
    """Patterns of files that must be there afterwards, seen from where it runs. Example: [mmcv/_ext*.so]"""
    timeout: Duration = "4h"
    """How long it may take: a number and s, m, h or d. Example: 4h"""


class Declaration(Table, frozen=True, kw_only=True):
    """A whole env.yaml. ``fallback_indexes`` are asked only when the configured indexes and wheel folders
    lack something; ``overrides`` names a file of requirements that replace what packages ask for.

    In commands and variables of steps and in ``variables``, ``{environment}`` is the environment's folder,
    ``{trees}`` the folder of its code trees; in steps ``{cpus}`` is how many there are and ``{env.NAME}`` a
    variable as it is after the modules were loaded."""

    name: Name
    """Name of the environment, which is that of its folder. Example: legacy"""
    title: str = ""
    """What it is, in a line. Example: mmdet 3.3.0 on torch 1.9 and CUDA 11.1"""
    python: Annotated[str, Meta(pattern=r"^3\.\d+(\.\d+)?$", description="3.MINOR or 3.MINOR.PATCH")]
    """Version of Python, in quotes, 3.8 or later. Example: '3.8.12'"""
    interpreter: Interpreter = Interpreter()
    """Where Python comes from; left out, what fits. Example: {path: python3.8}"""
    modules: list[str] = []
    """Names for `module load`, in order, where the site enters environments with `modules`. Example:
    [cuda/11.1.0]"""
    platform: str = "x86_64-manylinux_2_28"
    """Platform that wheels are chosen for, as uv names it. Example: x86_64-manylinux_2_28"""
    requirements: FileName = "requirements.txt"
    """File of the packages that are asked for; one that sites only enter (`activate:`) needs none. Example:
    requirements.txt"""
    overrides: FileName | None = None
    """File of requirements that replace what packages ask for. Example: overrides.txt"""
    lock: FileName = "lock.txt"
    """File of all packages with versions and hashes, which `env lock` writes. Example: lock.txt"""
    gpus: Gpus | None = None
    """Which GPUs it can serve; left out, none or any. Example: {capabilities: ['8.0']}"""
    from_source: list[PackageName] = []
    """Packages without a wheel, which uv builds from source. Example: [terminaltables]"""
    wheels: list[str] = []
    """Folders or pages with wheels, on top of the configured ones. Example:
    [https://download.pytorch.org/whl/torch_stable.html]"""
    indexes: list[str] = []
    """Package indexes that are asked on top of the configured ones. Example: [https://pypi.org/simple]"""
    fallback_indexes: list[str] = []
    """Package indexes that are asked only where the others lack something. Example: [https://pypi.org/simple]"""
    trees: dict[Name, Tree] = {}
    """Code trees that are checked out in it. Example: {mmdetection: {url: https://example.org/mmdetection.git,
    revision: cfd5d3a985b0249de009b67d04f37263e11cdf3d}}"""
    steps: dict[Name, Step] = {}
    """What is done after the packages are installed, in the file's order. Example: {mmcv: {packages:
    [mmcv-full]}}"""
    variables: dict[Variable, str] = {}
    """Environment variables of whatever runs in it. Example: {MMDET_TREE: '{trees}/mmdetection'}"""
    checks: dict[Name, Check] = {}
    """Commands that prove that it works. Example: {import: {command: [-c, import torch]}}"""


PLACEHOLDERS = ("environment", "trees", "cpus", "env.NAME")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+(?:\.[A-Za-z0-9_]*)?)\}")


def placeholders(text: str) -> list[str]:
    """The names in braces in a word, known or not. Other braces are just text."""
    return _PLACEHOLDER.findall(text)


def fill(text: str, values: dict[str, str]) -> str:
    """The word with its placeholders replaced. Raises KeyError with the first name that has no value."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
