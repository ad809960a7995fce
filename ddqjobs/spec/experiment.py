"""The experiment file: its types. YAML text becomes an :class:`Experiment` in :func:`parse`.

Mappings are keyed by name everywhere (never lists of named things), so that a file that inherits another
(``base:``) changes one entry by naming it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddqjobs.spec.model import TaskKind
from ddqjobs.spec.sections import KEY, Section
from ddqjobs.spec.table import Name, Natural, Positive, Table, Variable

Amount = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Scalar = bool | int | float | str | None
Checksum = Annotated[
    str,
    Meta(
        pattern=r"^([0-9a-f]{8,64})?$",
        description="a SHA-256 in lower case, or its first 8 digits or more",
    ),
]

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


class ReferenceAP(Table, frozen=True, kw_only=True):
    """The published figure of a model: ``ap`` in AP points, or the metrics of a run of task ``task``.
    ``rounded_to`` is the figure's last digit: 0.1 for 51.3, 1 for a paper that only says 51."""

    ap: float | None = None
    rounded_to: Annotated[float, Meta(gt=0)] = 0.1
    task: Name | None = None
    source: str = ""


class ModelCode(Table, frozen=True, kw_only=True):
    """One model in one implementation: which code, which configuration."""

    code: Name
    config: str = ""
    checkpoint: str = ""  # path of the released weights, for the input `released`
    options: dict[str, Scalar] = {}
    hours: dict[Name, Amount] = {}  # task -> wall-clock hours


class Model(Table, frozen=True, kw_only=True):
    """A row of the report."""

    title: str = ""
    reference: ReferenceAP = ReferenceAP()
    implementations: dict[Name, ModelCode]
    hours: dict[Name, Amount] = {}  # task -> wall-clock hours
    notes: str = ""


class Canary(Table, frozen=True, kw_only=True):
    """How the trainings of a code are tried before many start (`submit --canary`): what differs from one of
    them. Not needed where they run ddqjobs.detect.train, which ends after some iterations when told so."""

    command: list[str] | None = None  # left out: the training's
    options: dict[str, Scalar] = {}  # on top of the training's: what makes it end after some iterations
    products: dict[Name, str] = {}  # artifact -> glob below the work_dir: what proves that it came so far


class Code(Table, frozen=True, kw_only=True):
    """A code tree with its environment, and how each kind of task is run in it."""

    title: str = ""
    environment: Name | None = None
    path: str = ""  # where the tree lies; empty: commands run in the snapshot of the task code
    revision: str = ""
    variables: dict[Variable, str] = {}
    commands: dict[TaskKind, list[str]] = {}
    launcher: Literal["plain", "torchrun", "torch.distributed.launch"] = "plain"
    option_flag: str = "--cfg-options"
    seed_option: str = ""  # e.g. randomness.seed; empty: the code takes no seed
    deterministic_option: str = ""
    canary: Canary | None = None


class Variant(Table, frozen=True, kw_only=True):
    """Flags of a run: seed, determinism, GPUs, options. ``reference: false`` takes it out of AP verdicts."""

    title: str = ""
    seed: Seed | None = None
    deterministic: bool = False
    gpus: Natural | None = None
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)  # on top of the task's
    options: dict[str, Scalar] = {}
    models: list[Name] = []  # empty: all
    implementations: list[Name] = []  # empty: all
    reference: bool = True
    rule: str = ""  # in words, e.g. the learning-rate rule that the options follow


class ResourceRequest(Table, frozen=True, kw_only=True):
    """What a run asks of each node. ``time`` as in 90s, 45m, 24h, 2d; ``memory`` as in 300GB."""

    nodes: Positive | None = None
    gpus: Natural | None = None
    cpus: Positive | None = None
    memory: str | None = None
    time: str | None = None


class Checkpoints(Table, frozen=True, kw_only=True):
    """Which checkpoints `ddqjobs clean` leaves, besides products and what inputs name: the ``last`` of each
    series, the ``best``, and the ``final`` of trainings that went to their end. Left out: one, yes, yes."""

    last: Positive | None = None
    best: bool | None = None
    final: bool | None = None


class Tolerance(Table, frozen=True, kw_only=True):
    """What still counts as the same: ``ap`` in AP points, the others for align tasks."""

    ap: Amount | None = None
    box: Amount | None = None  # pixels
    score: Amount | None = None
    loss: Amount | None = None  # relative
    weight: Amount | None = None
    module: Amount | None = None  # of a module's output, in parts of its largest value


class Phase(Table, frozen=True, kw_only=True):
    """A column group of the report. ``against`` is what its AP is compared with: the published reference,
    or another phase."""

    title: str = ""
    against: Name = "reference"
    tolerance: Tolerance = Tolerance()


class Task(Table, frozen=True, kw_only=True):
    """A rule that makes runs: one per model and variant (or a single one with ``once``)."""

    kind: TaskKind
    title: str = ""
    phase: Name | None = None
    implementation: Name | None = None
    code: Name | None = None  # for `once` tasks, which have no model
    once: bool = False
    models: list[Name] = []  # empty: every model that has the implementation
    required: list[Name] | None = None  # the other models' runs are optional; None: all required
    variants: list[Name] | None = None  # left out: those of the tasks that its inputs come from
    seeds: list[Seed] | None = None  # one run per seed, on top of each variant; left out: likewise
    inputs: dict[Name, str] = {}  # TASK.ARTIFACT, `released`, or path:PATH
    stage: list[Name] = []  # inputs that are copied to each node's own disk, where the site has stage_to
    command: list[str] | None = None
    config: str = ""
    options: dict[str, Scalar] = {}
    variables: dict[Variable, str] = {}
    products: dict[Name, str] = {}  # artifact -> glob below the work_dir
    resources: ResourceRequest = ResourceRequest()
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)  # on top of the experiment's
    tolerance: Tolerance = Tolerance()
    checkpoints: Checkpoints = Checkpoints()
    hours: Amount | None = None
    optional: bool = False


class Data(Table, frozen=True, kw_only=True):
    """The data set; ``version`` is part of every run's digest."""

    name: str = ""
    version: str = ""
    source: str = ""


class Split(Table, frozen=True, kw_only=True):
    """A part of a data set: a file of annotations in COCO's format, and the folder of its images, both below
    the data set's folder."""

    annotations: str
    images: str
    count: Positive | None = None  # images, in the file and in the folder
    sha256: Checksum = ""  # of the file of annotations


class Dataset(Table, frozen=True, kw_only=True):
    """A data set that was brought to ``path`` once, by hand. ``link`` is where each code tree looks for it,
    e.g. ``data/coco``; empty: nothing is linked."""

    title: str = ""
    path: str
    link: str = ""
    codes: list[Name] | None = None  # that read it; left out: all, and those with a path get the link
    categories: Positive | None = None  # how many there are
    splits: dict[Name, Split] = {}


class Weight(Table, frozen=True, kw_only=True):
    """A file of weights that a run reads, or would download at its start. ``path`` is where runs look for it;
    empty: in torch's cache, under the last part of ``url``, as a configuration's ``init_cfg`` wants it."""

    title: str = ""
    url: str = ""  # empty: somebody must bring it
    page: str = ""  # where a person finds it
    path: str = ""
    sha256: Checksum = ""  # left out: the digits that end the file's name, else those of the first time
    models: list[Name] = []  # empty: all


class Experiment(Table, frozen=True, kw_only=True):
    """A whole experiment file."""

    name: Name
    title: str = ""
    description: str = ""
    base: str | None = None
    data: Data = Data()
    datasets: dict[Name, Dataset] = {}
    weights: dict[Name, Weight] = {}
    implementations: dict[Name, str]  # name -> title, in the report's order
    codes: dict[Name, Code]
    models: dict[Name, Model]
    phases: dict[Name, Phase] = {}
    variants: dict[Name, Variant] = {}
    tasks: dict[Name, Task]
    resources: ResourceRequest = ResourceRequest()  # defaults of all tasks
    # What a scheduler is told: on top of what the site says, on sites of that scheduler.
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)
    checkpoints: Checkpoints = Checkpoints()  # defaults of all tasks


CANARY = "canary"  # task of the runs that `submit --canary` adds

# Artifacts that each kind of task leaves by itself (docs/job-contract.md); `products:` adds to them.
ARTIFACTS: dict[TaskKind, tuple[str, ...]] = {
    TaskKind.PREPARE: (),
    TaskKind.CONVERT: ("checkpoint", "convert"),
    TaskKind.TRAIN: ("checkpoint", "log", "curve"),
    TaskKind.TEST: ("predictions", "log"),
    TaskKind.ALIGN: ("align",),
    TaskKind.UNITTEST: ("junit",),
    TaskKind.SMOKE: (),
}

# Kinds whose product never holds an AP; a task to prepare or smoke may run a detector whose log has one.
WITHOUT_AP = frozenset({TaskKind.CONVERT, TaskKind.ALIGN, TaskKind.UNITTEST})


def split_input(text: str) -> tuple[str, str]:
    """(task, artifact) of ``TASK.ARTIFACT``; task is empty for ``released`` and ``path:PATH``."""
    if text == "released" or text.startswith("path:"):
        return "", text
    task, _, artifact = text.rpartition(".")
    return task, artifact


def upstream_of(task: Task) -> Iterator[str]:
    """Yield the tasks that a task's inputs come from, declared or not."""
    return filter(None, (split_input(text)[0] for text in task.inputs.values()))


def variable(role: str) -> str:
    """An input's name as part of a variable's name: ``x-y`` becomes ``X_Y``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", role).upper()


def placeholders(words: list[str]) -> list[str]:
    """All names in braces, in order, of a command's words."""
    return [name for word in words for name in re.findall(r"\{([^{}]*)\}", word)]


def applies(variant: Variant, task: Task, model: str) -> bool:
    """Return whether a task makes runs of a variant for a model (empty: of a `once` task)."""
    return (not variant.models or not model or model in variant.models) and (
        not variant.implementations or task.implementation in (None, *variant.implementations)
    )


def models_of(e: Experiment, task: Task) -> list[tuple[str, ModelCode]]:
    """Return (name, entry) of the models that a task makes runs for, in the file's order."""
    names = task.models or list(e.models)
    return [
        (name, e.models[name].implementations[task.implementation])
        for name in e.models
        if name in names and task.implementation in e.models[name].implementations
    ]
