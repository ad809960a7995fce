"""An experiment's tasks, models, variants and seeds become runs. Pure; names are stable.

A run's name is its task, its model, its variant unless that is ``default``, and its seed where the task
lists seeds: ``p3-train.ddq-detr-4scale.seed7``. Runs come out upstream first.

A task that says neither variants nor seeds follows the tasks that its inputs come from: it has the variants
and seeds that all of them have, so that a test follows its training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.units import megabytes, seconds
from ddqjobs.spec import sections
from ddqjobs.spec.experiment import (
    Code,
    Experiment,
    ModelCode,
    Scalar,
    Task,
    Variant,
    applies,
    metric_of,
    models_of,
    split_input,
    upstream_of,
)
from ddqjobs.spec.model import Input, Resources, Run

_DEFAULT_TIME_S = 3600
Inputs = tuple[tuple[str, Input], ...]
Key = tuple[str, str, int | None]  # model, variant, listed seed


class UnmatchedError(InputError):
    """An input that could be any of several runs; ``path`` is its place in the experiment file."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        self.path = path
        super().__init__(message)


def expand(experiment: Experiment) -> tuple[Run, ...]:
    """All runs of a checked experiment, without digests, upstream first and otherwise in the file's order.

    Raises InputError if two runs would bear one name.
    """
    made: dict[str, dict[Key, Run]] = {}
    order: dict[str, Run] = {}
    for name in _upstream_first(experiment):
        made[name] = {}
        for run, key in _runs_of(experiment, name, made, order):
            if run.name in order:
                raise InputError(
                    f"experiment {experiment.name}: tasks {order[run.name].task} and {name} both make a run "
                    f"named '{run.name}'; rename a task, model or variant"
                )
            made[name][key] = run
            order[run.name] = run
    return tuple(order.values())


def _upstream_first(experiment: Experiment) -> list[str]:
    order: dict[str, None] = {}
    for first in experiment.tasks:
        way = {first: upstream_of(experiment.tasks[first])} if first not in order else {}
        while way:
            name = next(reversed(way))
            above = next((task for task in way[name] if task not in order), None)
            if above is None:
                del way[name]
                order[name] = None
            else:
                way[above] = upstream_of(experiment.tasks[above])
    return list(order)


def _runs_of(
    e: Experiment, name: str, made: Mapping[str, Mapping[Key, Run]], order: Mapping[str, Run]
) -> Iterator[tuple[Run, Key]]:
    task = e.tasks[name]
    entries: list[tuple[str, ModelCode]] = (
        [("", ModelCode(code=task.code or ""))] if task.once else models_of(e, task)
    )
    for model, entry in entries:
        prototypes: dict[str, Run] = {}
        for key in _keys(e, task, model, made):
            _, variant, seed = key
            if variant not in prototypes:
                prototypes[variant] = _prototype(e, name, entry, model, variant)
            inputs = _inputs(name, task, entry, key, made)
            yield _seeded(prototypes[variant], e.codes[entry.code], seed, inputs, order), key


def _keys(e: Experiment, task: Task, model: str, made: Mapping[str, Mapping[Key, Run]]) -> list[Key]:
    """Model, variant and seed of the runs that a task makes for a model."""
    if task.variants is None and task.seeds is None and not task.once:
        sources = (made[up] for text in task.inputs.values() if (up := split_input(text)[0]))
        followed = [dict.fromkeys(k for k in source if k[0] == model) for source in sources]
        followed = [keys for keys in followed if keys]
        if followed:
            common = [k for k in followed[0] if all(k in keys for keys in followed[1:])]
            return common or list(dict.fromkeys(k for keys in followed for k in keys))
    return [
        (model, variant, seed)
        for variant in task.variants or ("default",)
        if applies(e.variants.get(variant, Variant()), task, model)
        for seed in task.seeds or (None,)
    ]


def _prototype(e: Experiment, name: str, entry: ModelCode, model: str, variant_name: str) -> Run:
    """Return what all seeds of a task, model and variant have in common."""
    task, code = e.tasks[name], e.codes[entry.code]
    variant = e.variants.get(variant_name, Variant())
    return Run(
        name=".".join(filter(None, (name, model, variant_name if variant_name != "default" else ""))),
        experiment=e.name,
        task=name,
        kind=task.kind,
        phase=task.phase or "",
        model=model,
        implementation=task.implementation or "",
        variant=variant_name,
        seed=variant.seed,
        deterministic=variant.deterministic,
        code=entry.code,
        environment=code.environment or "",
        command=tuple(task.command if task.command is not None else code.commands[task.kind]),
        options=_options(entry.options, task.options, variant.options),
        config=task.config or entry.config,
        workdir=code.path,
        launcher=code.launcher,
        variables=tuple({**code.variables, **task.variables}.items()),
        products=tuple(task.products.items()),
        tolerances=_tolerances(e, task),
        resources=_resources(e, task, variant),
        optional=_optional(task, model),
        metric="" if (metric := metric_of(e, model)).is_box_ap else metric.key,
        comparable=variant.reference,
        hours=_hours(e, name, model, entry),
    )


def _seeded(prototype: Run, code: Code, listed: int | None, inputs: Inputs, order: Mapping[str, Run]) -> Run:
    """A run of its prototype: with its seed and its inputs."""
    seed = prototype.seed if listed is None else listed
    upstream = [order[i.run] for _, i in inputs if i.run]
    return msgspec.structs.replace(
        prototype,
        name=prototype.name if listed is None else f"{prototype.name}.s{listed}",
        seed=seed,
        options=prototype.options + _flags(code, seed, prototype.deterministic),
        inputs=inputs,
        optional=prototype.optional or any(run.optional for run in upstream),
        comparable=prototype.comparable and all(run.comparable for run in upstream),
    )


def _flags(code: Code, seed: int | None, deterministic: bool) -> tuple[str, ...]:
    """The last options win, so that a variant's seed stands above what a task says."""
    seeded = (f"{code.seed_option}={seed}",) if seed is not None and code.seed_option else ()
    exact = (f"{code.deterministic_option}=True",) if deterministic and code.deterministic_option else ()
    return seeded + exact


def _options(*layers: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Words key=value; +key=value where any layer adds the key to what a configuration has."""
    merged: dict[str, Scalar] = {}
    added = set[str]()
    for layer in layers:
        for key, value in layer.items():
            name = key.removeprefix("+")
            merged[name] = value
            if name != key:
                added.add(name)
    return tuple(f"{'+' * (key in added)}{key}={value}" for key, value in merged.items())


def _inputs(
    name: str, task: Task, entry: ModelCode, key: Key, made: Mapping[str, Mapping[Key, Run]]
) -> Inputs:
    found: list[tuple[str, Input]] = []
    for role, text in task.inputs.items():
        upstream, artifact = split_input(text)
        staged = role in task.stage
        if text == "released":
            made_of = Input(artifact=role, path=entry.checkpoint, stage=staged)
        elif not upstream:
            made_of = Input(artifact=role, path=text.removeprefix("path:"), stage=staged)
        else:
            run = _match(made[upstream], key, upstream, ("tasks", name, "inputs", role))
            made_of = Input(artifact=artifact, run=run.name, stage=staged)
        found.append((role, made_of))
    return tuple(found)


def _match(candidates: Mapping[Key, Run], key: Key, task: str, path: tuple[str, ...]) -> Run:
    """The upstream run that belongs to a run: same model, and the same variant and seed if it has them."""
    model, variant, seed = key
    for place in (
        (model, variant, seed),
        (model, variant, None),
        (model, "default", seed),
        (model, "default", None),
    ):
        if place in candidates:
            return candidates[place]
    rest = [run for (m, _, _), run in candidates.items() if m in (model, "")] or list(candidates.values())
    if len(rest) == 1:
        return rest[0]
    _, variant, seed = key
    wanted = f"variant '{variant}'" + ("" if seed is None else f" and seed {seed}")
    raise UnmatchedError(
        path,
        f"task '{task}' has {len(rest)} runs that could be meant, and none of {wanted}: "
        f"{', '.join(run.name for run in rest[:4])}{', ...' if len(rest) > 4 else ''}",
    )


def _tolerances(e: Experiment, task: Task) -> tuple[tuple[str, float], ...]:
    phase = e.phases[task.phase].tolerance if task.phase else None
    values: dict[str, float] = {}
    for source in (phase, task.tolerance):
        for key in ("ap", "metric", "box", "score", "loss", "weight", "module"):
            value = getattr(source, key, None)
            if value is not None:
                values[key] = value
    return tuple(values.items())


def _resources(e: Experiment, task: Task, variant: Variant) -> Resources:
    defaults, request = e.resources, task.resources

    def pick(key: str) -> object:
        value = getattr(request, key)
        return getattr(defaults, key) if value is None else value

    gpus = pick("gpus") if variant.gpus is None else variant.gpus
    time, memory = pick("time"), pick("memory")
    return Resources(
        nodes=_whole(pick("nodes"), 1),
        gpus=_whole(gpus, 0),
        cpus=_whole(pick("cpus"), 0),
        memory_mb=megabytes(memory) if isinstance(memory, str) else 0,
        time_s=seconds(time) if isinstance(time, str) else _DEFAULT_TIME_S,
        sections=sections.merged(e.sections, task.sections, variant.sections),
    )


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _optional(task: Task, model: str) -> bool:
    return task.optional or (task.required is not None and model not in task.required)


def _hours(e: Experiment, task: str, model: str, entry: ModelCode) -> float | None:
    for source in (entry.hours, e.models[model].hours if model else {}):
        if task in source:
            return source[task]
    return e.tasks[task].hours
