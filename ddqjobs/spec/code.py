"""The codes of an experiment file: their types, and what their commands may say."""

from __future__ import annotations

import re
from typing import Literal

from ddqjobs.spec.model import TaskKind
from ddqjobs.spec.table import Name, Scalar, Table, Variable

# Words in a command that the script fills in; a whole word {options} may become any number of words.
PLACEHOLDERS = {
    "python": "interpreter of the run's environment",
    "config": "configuration file of the model",
    "checkpoint": "the run's input named checkpoint",
    "work_dir": "folder of this attempt for what the detector writes",
    "run_dir": "folder of the run",
    "code": "snapshot of ddqjobs' own task code and configurations",
    "port": "a free TCP port, chosen at start",
    "gpus": "GPUs per node",
    "nodes": "number of nodes",
    "node_rank": "rank of this node",
    "master": "host name of the first node",
    "seed": "seed of the variant (0 if it has none)",
    "options": "all key=value options, behind the code's option flag (none: no word at all)",
    "model": "name of the model",
    "run": "name of the run",
    "input.NAME": "path of the input NAME",
    "env.NAME": "variable NAME of the job's environment",
}


class Canary(Table, frozen=True, kw_only=True):
    """A trial of the trainings of a code before many start (`submit --canary`): what differs from one of
    them. Not needed where they run ddqjobs.detect.train, which ends after some iterations when told so."""

    command: list[str] | None = None
    """Words of the command that tries a training; left out, the training's own. Example: [python, train.py,
    --iters, '20']"""
    options: dict[str, Scalar] = {}
    """Options on top of the training's that make it end after some iterations. Example:
    {train_cfg.max_epochs: 1}"""
    products: dict[Name, str] = {}
    """Artifact and pattern of the file below the work_dir that proves that it came so far. Example:
    {checkpoint: iter_20.pth}"""


class Code(Table, frozen=True, kw_only=True):
    """A code tree with its environment, and how each kind of task is run in it."""

    title: str = ""
    """Name in messages and reports. Example: release, branch main"""
    environment: Name | None = None
    """The environment of `envs/` that the commands run in; left out, the site's `python`. Example: legacy"""
    path: str = ""
    """Where the tree lies, and where commands start; empty, they start in the snapshot of the task code.
    Example: ~/ddq/legacy"""
    revision: str = ""
    """The commit, tag or branch of the tree; in each digest, and compared by `plan`. Example: v3.3.0"""
    repository: str = ""
    """What `git clone` takes to bring the tree: where it is missing, `plan` prints the command. In no digest.
    Example: https://github.com/open-mmlab/mmdetection.git"""
    variables: dict[Variable, str] = {}
    """Environment variables of its runs; `{env.NAME}` is a variable of the job. Example: {PYTHONPATH:
    '{env.HOME}/tree:{env.PYTHONPATH}'}"""
    commands: dict[TaskKind, list[str]] = {}
    """Words of the command for each kind of task, with placeholders in braces. Example: {test: ['{python}',
    test.py, '{config}', '{checkpoint}', '{options}']}"""
    launcher: Literal["plain", "torchrun", "torch.distributed.launch"] = "plain"
    """What starts one process for each GPU: `torchrun` and `torch.distributed.launch` do, `plain` leaves it
    to the command. Example: torchrun"""
    option_flag: str = "--cfg-options"
    """The flag before the `key=value` words of `{options}`. Example: --cfg-options"""
    seed_option: str = ""
    """The option that sets the seed of a variant; empty, the code takes none. Example: randomness.seed"""
    deterministic_option: str = ""
    """The option that asks for deterministic algorithms. Example: randomness.deterministic"""
    canary: Canary | None = None
    """How `submit --canary` tries its trainings before many start. Example: {options: {train_cfg.max_epochs:
    1}}"""


def variable(role: str) -> str:
    """An input's name as part of a variable's name: ``x-y`` becomes ``X_Y``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", role).upper()


# Of a command's word: text, with {{ and }} for braces, or a name in braces.
_PARTS = re.compile(r"((?:[^{}]|\{\{|\}\}|\{(?![^{}]*\})|\}(?!\}))+)|\{([^{}]*)\}")


def parts_of(word: str) -> list[tuple[str, str]]:
    """Return (text, placeholder) of a command's word, in order; one of both is empty."""
    return [(text.replace("{{", "{").replace("}}", "}"), name) for text, name in _PARTS.findall(word)]


def placeholders(command: list[str]) -> list[str]:
    """All names in braces, in order, of a command's words."""
    return [name for word in command for text, name in parts_of(word) if not text]
