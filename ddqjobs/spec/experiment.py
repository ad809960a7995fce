"""The experiment file: its types. YAML text becomes an :class:`Experiment` in :func:`parse`.

Mappings are keyed by name everywhere (never lists of named things), so that a file that inherits another
(``base:``) changes one entry by naming it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from ddqjobs.spec.code import Code
from ddqjobs.spec.dataset import Data, Dataset, Weight
from ddqjobs.spec.metric import BOX_AP, Metric
from ddqjobs.spec.metric import ReferenceAP as ReferenceAP
from ddqjobs.spec.model import TaskKind
from ddqjobs.spec.sections import KEY, Section
from ddqjobs.spec.table import Duration, Name, Natural, Positive, Scalar, Size, Table, Variable

Amount = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class ModelCode(Table, frozen=True, kw_only=True):
    """One model in one implementation: which code, which configuration."""

    code: Name
    """The entry of `codes` that runs this model. Example: M"""
    config: str = ""
    """Configuration file: of a code with `path`, a path in its tree; of another, below `experiments/` or
    among those that ship. Example: configs/ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py"""
    checkpoint: str = ""
    """Path of the released weights, which the input `released` stands for. Example:
    ~/weights/ddq_detr_4scale.pth"""
    options: dict[str, Scalar] = {}
    """Options of every run of this model with this code, `key: value`, passed behind the code's
    `option_flag`. Example: {test_evaluator.format_only: false}"""
    hours: dict[Name, Amount] = {}
    """Wall-clock hours of a run, by task: an estimate, for plans and budgets. Example: {p3-train: 26}"""


class Model(Table, frozen=True, kw_only=True):
    """A row of the report."""

    title: str = ""
    """Name in the report. Example: DDQ DETR-4scale, R-50, 12e"""
    reference: ReferenceAP = ReferenceAP()
    """The published figure that runs are compared with. Example: {ap: 51.3, source: README}"""
    metric: Metric | None = None
    """What its results are judged by, in place of the experiment's. Example: {name: mask AP, key:
    segm_mAP}"""
    implementations: dict[Name, ModelCode]
    """How each implementation runs this model; one that is left out makes no runs. Example: {legacy: {code:
    M, config: a.py}}"""
    hours: dict[Name, Amount] = {}
    """Wall-clock hours of a run, by task, whatever the implementation. Example: {p1-test: 0.2}"""
    notes: str = ""
    """A remark for the report. Example: DETR augmentation"""


class Variant(Table, frozen=True, kw_only=True):
    """Flags of a run: seed, determinism, GPUs, options. ``reference: false`` takes it out of AP verdicts."""

    title: str = ""
    """Name in the report. Example: one GPU, seed 7"""
    seed: Seed | None = None
    """Seed of its runs, from 0 to 2**32 - 1. Example: 7"""
    deterministic: bool = False
    """Whether its runs ask for deterministic algorithms. Example: true"""
    gpus: Natural | None = None
    """GPUs on each node, in place of the task's. Example: 4"""
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)
    """What a scheduler is told, on top of the task's. Example: {slurm: {partition: long}}"""
    options: dict[str, Scalar] = {}
    """Options of its runs, on top of the model's and the task's. Example: {optim_wrapper.optimizer.lr:
    0.0001}"""
    models: list[Name] = []
    """The models that it is for; empty, all. Example: [ddq-detr-4scale]"""
    implementations: list[Name] = []
    """The implementations that it is for; empty, all. Example: [new]"""
    reference: bool = True
    """Whether the published figure holds for it; `false` takes its runs out of AP verdicts. Example: false"""
    rule: str = ""
    """How its options follow from the published setting, in words. Example: learning rate not scaled with the
    batch"""


class ResourceRequest(Table, frozen=True, kw_only=True):
    """The resources that a run asks of each node. ``time`` as in 90s, 45m, 24h, 2d; ``memory`` as in
    300GB."""

    nodes: Positive | None = None
    """Number of nodes. Example: 2"""
    gpus: Natural | None = None
    """GPUs on each node; 0 for a task without. Example: 8"""
    cpus: Positive | None = None
    """CPUs on each node; left out, `cpus_per_gpu` of the site for each GPU, once without any. Example: 16"""
    memory: Size | None = None
    """Memory on each node, with a unit; left out, `memory_mb_per_gpu` of the site for each GPU, once without
    any. Example: 300GB"""
    time: Duration | None = None
    """Wall-clock limit of an attempt: a number and s, m, h or d. Example: 24h"""


class Checkpoints(Table, frozen=True, kw_only=True):
    """The checkpoints that `ddqjobs clean` leaves, besides products and what inputs name: the ``last`` of
    each series, the ``best``, and the ``final`` of trainings that went to their end. Left out: one, yes,
    yes."""

    last: Positive | None = None
    """How many of the newest checkpoints of each series stay (1 if left out). Example: 3"""
    best: bool | None = None
    """Whether the best checkpoint stays (yes if left out). Example: false"""
    final: bool | None = None
    """Whether the last one of a training that went to its end stays (yes if left out). Example: true"""


class Tolerance(Table, frozen=True, kw_only=True):
    """The largest differences that still count as the same: ``ap`` in AP points, the others for align
    tasks."""

    ap: Amount | None = None
    """Largest difference of AP that still counts as the same, in AP points. Example: 0.2"""
    metric: Amount | None = None
    """The same of models that have another `metric` than box AP, in its unit. Example: 0.3"""
    box: Amount | None = None
    """Largest difference of a coordinate of a box, in pixels. Example: 0.01"""
    score: Amount | None = None
    """Largest difference of a score. Example: 0.0001"""
    loss: Amount | None = None
    """Largest difference of a loss, as a part of its value. Example: 0.001"""
    weight: Amount | None = None
    """Largest difference of a weight. Example: 0.000001"""
    module: Amount | None = None
    """Largest difference of a module's output, as a part of its largest value. Example: 0.0001"""


class Phase(Table, frozen=True, kw_only=True):
    """A column group of the report. ``against`` is what its AP is compared with: the published reference,
    or another phase."""

    title: str = ""
    """Name in the report. Example: released weights in the new code"""
    against: Name = "reference"
    """What its AP is compared with: `reference`, or the name of another phase. Example: '1'"""
    tolerance: Tolerance = Tolerance()
    """What still counts as the same in this phase. Example: {ap: 0.2}"""


class Task(Table, frozen=True, kw_only=True):
    """A rule that makes runs: one per model and variant (or a single one with ``once``)."""

    kind: TaskKind
    """What its runs do, which decides what they must leave. Example: train"""
    title: str = ""
    """Name in messages and reports. Example: train the release"""
    phase: Name | None = None
    """The phase whose column its AP fills. Example: '3'"""
    implementation: Name | None = None
    """The implementation that its runs belong to; needed unless `once`. Example: legacy"""
    code: Name | None = None
    """The code of a `once` task, which has no model to name one. Example: N"""
    once: bool = False
    """Whether it makes a single run instead of one for each model. Example: true"""
    models: list[Name] = []
    """The models that it makes runs for; empty, every model that has the implementation. Example:
    [ddq-detr-4scale]"""
    required: list[Name] | None = None
    """The models whose runs a verdict needs; the others' are optional. Left out, all are needed. Example:
    [ddq-fcn-12e]"""
    variants: list[Name] | None = None
    """The variants that it makes runs for; left out, those of the tasks that its inputs come from. Example:
    [seed7, seed7-det]"""
    seeds: list[Seed] | None = None
    """One run for each seed, on top of each variant; left out, as its inputs'. Example: [0, 1000,
    2000]"""
    grid: dict[str, list[Scalar]] = {}
    """Values of options: each with each makes a variant, on top of each of `variants`. Example:
    {optim_wrapper.optimizer.lr: [0.0001, 0.0002]}"""
    inputs: dict[Name, str] = {}
    """Files that its runs read, by name: `TASK.ARTIFACT`, `released`, or `path:PATH`. Example: {checkpoint:
    p3-train.checkpoint}"""
    stage: list[Name] = []
    """Inputs that are copied to each node's own disk, where the site has `stage_to`. Example: [images]"""
    command: list[str] | None = None
    """Words of the command, in place of the code's for this kind. Example: [bash, run.sh, '{work_dir}']"""
    config: str = ""
    """Configuration file, in place of the model's. Example: configs/smoke.py"""
    options: dict[str, Scalar] = {}
    """Options of its runs, on top of the model's. Example: {train_cfg.max_epochs: 1}"""
    variables: dict[Variable, str] = {}
    """Environment variables of its runs, on top of the code's. Example: {DDQJOBS_COCO: /data/coco}"""
    products: dict[Name, str] = {}
    """Further artifacts that its runs must leave: name and pattern below the work_dir. Example: {curve:
    '*.json'}"""
    resources: ResourceRequest = ResourceRequest()
    """What its runs ask for, on top of the experiment's `resources`. Example: {gpus: 8, time: 24h}"""
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)
    """What a scheduler is told, on top of the experiment's. Example: {slurm: {qos: high}}"""
    tolerance: Tolerance = Tolerance()
    """What still counts as the same, in place of the phase's. Example: {loss: 0.001}"""
    checkpoints: Checkpoints = Checkpoints()
    """Which checkpoints `ddqjobs clean` leaves. Example: {last: 2}"""
    hours: Amount | None = None
    """Wall-clock hours of a run: an estimate; a model's own comes first. Example: 0.5"""
    optional: bool = False
    """Whether its runs are submitted only when asked for, and missed by no verdict. Example: true"""


class Experiment(Table, frozen=True, kw_only=True):
    """A whole experiment file."""

    name: Name
    """Name of the experiment, which is that of its file. Example: ddq"""
    title: str = ""
    """Title of the report. Example: Dense Distinct Query"""
    description: str = ""
    """What it shows, in a sentence or two. Example: Reproduces the AP of the release."""
    base: str | None = None
    """Another experiment whose entries this one changes one by one; `null` removes an entry. Example: ddq"""
    data: Data = Data()
    """The data set, in words. Example: {name: COCO 2017, version: 2017 val}"""
    datasets: dict[Name, Dataset] = {}
    """Data sets that `data link` links and `data verify` checks. Example: {coco: {path: ~/data/coco, link:
    data/coco}}"""
    weights: dict[Name, Weight] = {}
    """Files of weights that `data weights` brings. Example: {resnet50: {url: https://example.org/r50.pth}}"""
    implementations: dict[Name, str]
    """The implementations that are compared, by name, with a title each, in the report's order. Example:
    {legacy: the release, new: the new code}"""
    codes: dict[Name, Code]
    """Code trees with environment and commands. Example: {M: {environment: legacy, path: ~/ddq}}"""
    models: dict[Name, Model]
    """Rows of the report. Example: {ddq-fcn: {implementations: {legacy: {code: M}}}}"""
    metric: Metric = BOX_AP
    """What results are judged by, unless a model says otherwise. Example: {name: PQ, key: PQ, scale: 1}"""
    phases: dict[Name, Phase] = {}
    """Columns of the report. Example: {'1': {title: released weights}}"""
    variants: dict[Name, Variant] = {}
    """Seeds, determinism, GPUs and options that tasks make runs for. Example: {seed7: {seed: 7}}"""
    baseline: Name | None = None
    """The variant that the others are compared with; left out, the first of a grid. Example: lr-0.0001"""
    tasks: dict[Name, Task]
    """Rules that make runs, one for each model and variant. Example: {p1-test: {kind: test, phase: '1'}}"""
    resources: ResourceRequest = ResourceRequest()
    """What runs ask for unless their task says otherwise. Example: {gpus: 8, time: 2h}"""
    sections: dict[str, Section] = msgspec.field(default_factory=dict, name=KEY)
    """What a scheduler is told, on top of the site's. Example: {slurm: {partition: gpu}}"""
    checkpoints: Checkpoints = Checkpoints()
    """Which checkpoints `ddqjobs clean` leaves, unless a task says otherwise. Example: {last: 1}"""


CANARY = "canary"  # task of the runs that `submit --canary` adds

# Artifacts that each kind of task leaves by itself (docs/reference/job-contract.md); `products:` adds to
# them.
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


def metric_of(e: Experiment, model: str) -> Metric:
    """Return what results of a model are judged by."""
    section = e.models.get(model)
    return e.metric if section is None or section.metric is None else section.metric


def metrics_of(e: Experiment) -> dict[str, Metric]:
    """Return what models are judged by, by name, in their order."""
    metrics = [metric_of(e, model) for model in e.models] or [e.metric]
    return {metric.name: metric for metric in metrics}


def split_input(text: str) -> tuple[str, str]:
    """(task, artifact) of ``TASK.ARTIFACT``; task is empty for ``released`` and ``path:PATH``."""
    if text == "released" or text.startswith("path:"):
        return "", text
    task, _, artifact = text.rpartition(".")
    return task, artifact


def upstream_of(task: Task) -> Iterator[str]:
    """Yield the tasks that a task's inputs come from, declared or not."""
    return filter(None, (split_input(text)[0] for text in task.inputs.values()))


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
