"""An experiment's tasks, models, variants and seeds become runs. Pure; names are stable.

A run's name is its task, its model, its variant unless that is ``default``, and its seed where the task
lists seeds: ``p3-train.ddq-detr-4scale.seed7``. Runs come out upstream first.

A task that says neither variants nor seeds nor a grid follows the tasks that its inputs come from: it has the
variants and seeds that all of them have, so that a test follows its training, with the same options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.units import megabytes, seconds
from ddqjobs.spec import grid, sections
from ddqjobs.spec.code import Code
from ddqjobs.spec.experiment import (
    Experiment,
    ModelCode,
    Task,
    Variant,
    applies,
    metric_of,
    models_of,
    split_input,
    upstream_of,
)
from ddqjobs.spec.model import Input, Resources, Run, TaskKind
from ddqjobs.spec.table import Scalar

_DEFAULT_TIME_S = 3600
Inputs = tuple[tuple[str, Input], ...]
Path = tuple[str, ...]  # of a key in the experiment file
Key = tuple[str, str, int | None]  # model, variant, listed seed


class UnmatchedError(InputError):
    """An input that could be any of several runs. ``path`` is its place in the experiment file, ``others``
    are those that decide about it, too; ``task`` is its task, ``message`` the rest of the sentence."""

    def __init__(self, path: Path, others: Sequence[Path], task: str, message: str) -> None:
        self.path, self.others = path, others
        self.task, self.message = f"task '{task}'", message
        super().__init__(f"{self.task} {message}")


def expand(experiment: Experiment) -> tuple[Run, ...]:
    """All runs of a checked experiment, without digests, upstream first and otherwise in the file's order.

    Raises InputError if two runs would bear one name.
    """
    runs: dict[str, dict[Key, Run]] = {}
    order: dict[str, Run] = {}
    points: dict[str, dict[str, grid.Point]] = {}
    for name in _upstream_first(experiment):
        runs[name] = {}
        points[name] = _points(experiment, name, points)
        for run, key in _runs_of(experiment, name, runs, order, points[name]):
            if run.name in order:
                raise InputError(
                    f"experiment {experiment.name}: tasks {order[run.name].task} and {name} both make a run "
                    f"named '{run.name}'; rename a task, model or variant"
                )
            runs[name][key] = run
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


def _points(
    e: Experiment, name: str, points: Mapping[str, Mapping[str, grid.Point]]
) -> dict[str, grid.Point]:
    """Return the points of a task's own grid, else of those that it may follow or name, the nearest first."""
    task = e.tasks[name]
    own = {point.name: point for point in grid.points(task)}
    if own:
        return own
    followed = [points[up] for up in upstream_of(task)]
    declared = [grid.names(e)] if task.variants else []
    return {n: point for source in reversed([*followed, *declared]) for n, point in source.items()}


def _runs_of(
    e: Experiment,
    name: str,
    runs: Mapping[str, Mapping[Key, Run]],
    order: Mapping[str, Run],
    points: Mapping[str, grid.Point],
) -> Iterator[tuple[Run, Key]]:
    task = e.tasks[name]
    entries: list[tuple[str, ModelCode]] = (
        [("", ModelCode(code=task.code or ""))] if task.once else models_of(e, task)
    )
    for model, entry in entries:
        prototypes: dict[str, Run] = {}
        for key in _keys(e, task, model, runs, points):
            _, variant, seed = key
            point = points.get(variant) or grid.Point(name=variant, base=variant, options={}, parameters=())
            if variant not in prototypes:
                prototypes[variant] = _prototype(e, name, entry, model, point)
            inputs = _inputs(name, task, entry, key, point.base, runs)
            yield _seeded(prototypes[variant], e.codes[entry.code], seed, inputs, order), key


def _keys(
    e: Experiment,
    task: Task,
    model: str,
    runs: Mapping[str, Mapping[Key, Run]],
    points: Mapping[str, grid.Point],
) -> list[Key]:
    """Model, variant and seed of the runs that a task makes for a model."""
    if task.variants is None and task.seeds is None and not task.grid and not task.once:
        sources = (runs[up] for text in task.inputs.values() if (up := split_input(text)[0]))
        followed = [dict.fromkeys(k for k in source if k[0] == model) for source in sources]
        followed = [keys for keys in followed if keys]
        if followed:
            common = [k for k in followed[0] if all(k in keys for keys in followed[1:])]
            return common or _uncommon(e, task, followed, points)
    return [
        (model, variant, seed)
        for variant in (points if task.grid else task.variants or ("default",))
        if applies(_base(e, points, variant), task, model)
        for seed in task.seeds or (None,)
    ]


def _uncommon(
    e: Experiment, task: Task, followed: list[dict[Key, None]], points: Mapping[str, grid.Point]
) -> list[Key]:
    """Return what a task follows whose inputs have no variant and seed in common: where one comes from a grid
    and another does not, the grid's. Of a comparison only its baseline: another setting differs anyway."""
    keys = list(dict.fromkeys(key for source in followed for key in source))
    swept = [key for key in keys if key[1] in points]
    if task.kind is TaskKind.ALIGN and swept and len(swept) < len(keys):
        return [key for key in swept if key[1] == e.baseline]
    return swept or keys


def _base(e: Experiment, points: Mapping[str, grid.Point], name: str) -> Variant:
    """Return the declared variant that a name, maybe of a grid's point, stands on."""
    return e.variants.get(points[name].base if name in points else name, Variant())


def _prototype(e: Experiment, name: str, entry: ModelCode, model: str, point: grid.Point) -> Run:
    """Return what all seeds of a task, model and variant have in common."""
    task, code = e.tasks[name], e.codes[entry.code]
    variant = e.variants.get(point.base, Variant())
    return Run(
        name=".".join(filter(None, (name, model, point.name if point.name != "default" else ""))),
        experiment=e.name,
        task=name,
        kind=task.kind,
        phase=task.phase or "",
        model=model,
        implementation=task.implementation or "",
        variant=point.name,
        seed=variant.seed,
        deterministic=variant.deterministic,
        code=entry.code,
        environment=code.environment or "",
        command=tuple(task.command if task.command is not None else code.commands[task.kind]),
        options=_options(entry.options, task.options, variant.options, point.options),
        config=task.config or entry.config,
        workdir=code.path,
        launcher=code.launcher,
        variables=tuple({**code.variables, **task.variables}.items()),
        products=tuple(task.products.items()),
        tolerances=_tolerances(e, task),
        resources=_resources(e, task, variant),
        optional=_optional(task, model),
        metric="" if (metric := metric_of(e, model)).is_box_ap else metric.key,
        comparable=variant.reference and (not point.parameters or point.name == e.baseline),
        grid=point.parameters,
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
    name: str, task: Task, entry: ModelCode, key: Key, base: str, runs: Mapping[str, Mapping[Key, Run]]
) -> Inputs:
    inputs: list[tuple[str, Input]] = []
    for role, text in task.inputs.items():
        upstream, artifact = split_input(text)
        staged = role in task.stage
        if text == "released":
            made_of = Input(artifact=role, path=entry.checkpoint, stage=staged)
        elif not upstream:
            made_of = Input(artifact=role, path=text.removeprefix("path:"), stage=staged)
        else:
            run = _match(runs[upstream], key, base) or _unmatched(name, task, role, key, runs[upstream])
            made_of = Input(artifact=artifact, run=run.name, stage=staged)
        inputs.append((role, made_of))
    return tuple(inputs)


def _match(candidates: Mapping[Key, Run], key: Key, base: str) -> Run | None:
    """The upstream run that belongs to a run: same model, and the same variant and seed if it has them; of a
    grid's point also the variant that it stands on. None if it could be any of several."""
    model, variant, seed = key
    for name in (variant, base, "default"):
        for place in ((model, name, seed), (model, name, None)):
            if place in candidates:
                return candidates[place]
    rest = [run for (m, _, _), run in candidates.items() if m in (model, "")] or list(candidates.values())
    return rest[0] if len(rest) == 1 else None


def _unmatched(name: str, task: Task, role: str, key: Key, candidates: Mapping[Key, Run]) -> NoReturn:
    """Raise UnmatchedError for an input that could be any of several runs."""
    model, variant, seed = key
    upstream = split_input(task.inputs[role])[0]
    rest = [run for (m, _, _), run in candidates.items() if m in (model, "")] or list(candidates.values())
    named = f"{', '.join(run.name for run in rest[:3])}{', ...' if len(rest) > 3 else ''}"
    others = [up for up in dict.fromkeys(upstream_of(task)) if up != upstream]
    follows = task.variants is None and task.seeds is None and not task.grid
    without = f"of the {len(rest)} runs of '{upstream}' ({named}) none has {_flags_of(variant, seed)}"
    if task.once:
        message = (
            f"runs once and reads '{upstream}', which has {len(rest)} runs ({named}); let it run for each of "
            "them, with `once: false` and an `implementation`"
        )
    elif follows and others:
        message = (
            f"pairs runs of '{upstream}' with runs of '{others[0]}', and {without}; give both the same "
            f"variants and seeds, or remove the task with `{name}: null`"
        )
    else:
        message = (
            f"reads '{upstream}', and {without}; give it variants and seeds that '{upstream}' has, or none, "
            f"and it follows '{upstream}'"
        )
    deciding: list[Path] = [("tasks", up, "seeds") for up in (upstream, *others)]
    raise UnmatchedError(("tasks", name, "inputs", role), [("tasks", name), *deciding], name, message)


def _flags_of(variant: str, seed: int | None) -> str:
    listed = "" if seed is None else f"seed {seed}"
    named = f"variant '{variant}'" if variant != "default" or not listed else ""
    return " and ".join(filter(None, (named, listed)))


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
