"""Tasks: the runs they make, what these read, ask for and leave. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ddqjobs.base.units import megabytes, seconds
from ddqjobs.spec.check import grids
from ddqjobs.spec.check.commands import command, products, value_of_variable
from ddqjobs.spec.check.reference import Found, Path, reference
from ddqjobs.spec.code import placeholders, variable
from ddqjobs.spec.experiment import (
    ARTIFACTS,
    CANARY,
    Experiment,
    ModelCode,
    ResourceRequest,
    Task,
    Variant,
    applies,
    models_of,
    split_input,
)
from ddqjobs.spec.model import TaskKind

_TRAIN = "ddqjobs.detect.train"


def tasks(e: Experiment) -> Found:
    """Yield the problems of all tasks, and of what they share."""
    yield from _resources(("resources",), e.resources)
    variants = dict.fromkeys(grids.names(e))
    for name, task in e.tasks.items():
        at: Path = ("tasks", name)
        if name == CANARY:
            yield (
                at,
                f"'{CANARY}' is what `ddqjobs submit {e.name} --canary` runs; give the task another name",
            )
        yield from _place(e, at, task, variants)
        yield from grids.grids(e, at, task)
        yield from _inputs(e, at, task)
        yield from _resources((*at, "resources"), task.resources)
        yield from _work(at, task)
        yield from _checkpoint(e, at, task)
        yield from _unused_options(e, at, task)
        yield from _unheard_seeds(e, at, task)
        yield from _one_process(e, at, task)


def _place(e: Experiment, at: Path, task: Task, variants: Collection[str]) -> Found:
    """Find what is wrong with the cells of the matrix that a task fills."""
    if task.phase is not None:
        yield from reference((*at, "phase"), "phase", task.phase, e.phases)
    yield from _where(e, at, task)
    for i, variant in enumerate(task.variants or ()):
        yield from reference((*at, "variants", i), "variant", variant, variants)
    if len(set(task.seeds or ())) != len(task.seeds or ()):
        yield (*at, "seeds"), "a seed is listed twice; each seed makes one run"


def _work(at: Path, task: Task) -> Found:
    """Find what is wrong with what a task does and leaves."""
    for i, name in enumerate(task.stage):
        yield from reference((*at, "stage", i), "input", name, task.inputs)
    if task.command is not None:
        yield from command((*at, "command"), task.command, task)
    for key, value in task.variables.items():
        yield from value_of_variable((*at, "variables", key), value, task)
    yield from products((*at, "products"), task.products)
    if task.kind is TaskKind.PREPARE and not task.products:
        yield at, "a prepare task must declare its products (artifact: glob below the work_dir)"


def _where(e: Experiment, at: Path, task: Task) -> Found:
    if task.once:
        if task.models or task.implementation:
            yield (
                at,
                "a task with `once: true` belongs to no model: leave out models and implementation, or write "
                "`once: false`, and it runs for each model",
            )
        elif task.code is None:
            yield at, "a task with `once: true` belongs to no model and must name its code"
        if task.code is not None:
            yield from reference((*at, "code"), "code", task.code, e.codes)
            yield from _runnable(e, at, task, [task.code])
        return
    if task.code is not None:
        yield (
            (*at, "code"),
            "only tasks with `once: true` name a code; the others take their model's. Remove `code`, or "
            "write `code: null` where it is inherited",
        )
    if task.implementation is None:
        yield at, f"name an implementation; declared: {', '.join(e.implementations)}"
        return
    yield from reference((*at, "implementation"), "implementation", task.implementation, e.implementations)
    for key in ("models", "required"):
        for i, model in enumerate(getattr(task, key) or ()):
            yield from reference((*at, key, i), "model", model, e.models)
            if (
                key == "models"
                and model in e.models
                and task.implementation not in e.models[model].implementations
            ):
                yield (*at, key, i), f"model '{model}' has no implementation '{task.implementation}'"
    yield from _runnable(e, at, task, [entry.code for _, entry in models_of(e, task)])


def _runnable(e: Experiment, at: Path, task: Task, codes: list[str]) -> Found:
    if task.command is not None:
        return
    for code in dict.fromkeys(codes):
        if code in e.codes and task.kind not in e.codes[code].commands:
            yield (
                at,
                (
                    f"code '{code}' has no command for {task.kind.value} tasks: "
                    f"add codes.{code}.commands.{task.kind.value}, or give the task a command"
                ),
            )


def _inputs(e: Experiment, at: Path, task: Task) -> Found:
    variables: dict[str, str] = {}
    for role, text in task.inputs.items():
        here: Path = (*at, "inputs", role)
        twin = variables.setdefault(variable(role), role)
        if twin != role:
            yield (
                here,
                f"inputs '{twin}' and '{role}' would share the variable DDQJOBS_INPUT_{variable(role)}",
            )
        upstream, artifact = split_input(text)
        if text == "released":
            continue  # see released()
        if text.startswith("path:"):
            if not text.removeprefix("path:"):
                yield here, "path: needs a path behind it"
        elif not upstream:
            yield here, f"'{text}' is not a valid input; use TASK.ARTIFACT, released, or path:PATH"
        else:
            yield from reference(here, "task", upstream, e.tasks)
            if upstream in e.tasks:
                source = e.tasks[upstream]
                valid = [*ARTIFACTS[source.kind], *source.products]
                yield from reference(here, f"artifact of task {upstream}", artifact, valid)
                yield from _covers(e, here, task, upstream, source)


def released(e: Experiment, line_of: Callable[[Path], tuple[str, int]]) -> Found:
    """Yield the models without the released weights that a task reads: there somebody must name them, also
    where the task is of another file."""
    for name, task in e.tasks.items():
        for role in (role for role, text in task.inputs.items() if text == "released"):
            file, line = line_of(("tasks", name, "inputs", role))
            for model in (model for model, entry in models_of(e, task) if not entry.checkpoint):
                yield (
                    ("models", model, "implementations", str(task.implementation)),
                    f"model '{model}' declares no checkpoint for implementation '{task.implementation}', and "
                    f"task '{name}' reads it as `released` ({file}:{line})",
                )


def _covers(e: Experiment, at: Path, task: Task, upstream: str, source: Task) -> Found:
    if source.once:
        return
    if task.once:
        if len(models_of(e, source)) > 1:
            yield at, f"task '{upstream}' has a run per model, but this task has only one run"
        return
    have = {name for name, _ in models_of(e, source)}
    missing = [name for name, _ in models_of(e, task) if name not in have]
    if missing:
        yield at, f"task '{upstream}' makes no run for model '{missing[0]}'"


def _resources(at: Path, request: ResourceRequest) -> Found:
    for key, parse in (("time", seconds), ("memory", megabytes)):
        value = getattr(request, key)
        if value is not None:
            try:
                amount = parse(value)
            except ValueError as error:
                yield (*at, key), str(error)
                continue
            if key == "time" and amount == 0:
                yield (*at, key), f"'{value}' is not a usable time limit; use 90s, 45m, 24h, 2d or 1h30m"


def _words(e: Experiment, task: Task, code: str) -> list[str] | None:
    """Return the command that a task runs with this code; None if there is none."""
    if task.command is not None or code not in e.codes:
        return task.command
    return e.codes[code].commands.get(task.kind)


def _codes(e: Experiment, task: Task) -> list[str]:
    return list(
        dict.fromkeys([task.code or ""] if task.once else [entry.code for _, entry in models_of(e, task)])
    )


def _checkpoint(e: Experiment, at: Path, task: Task) -> Found:
    """{checkpoint} would be empty, and some commands take that for an option that was left out."""
    if "checkpoint" in task.inputs:
        return
    for code in _codes(e, task):
        if "checkpoint" in placeholders(_words(e, task, code) or []):
            listed = ", ".join(task.inputs) or "none"
            yield (
                (*at, "inputs"),
                f"the command has {{checkpoint}}, and no input is named checkpoint; inputs: {listed}",
            )
            return


def _unused_options(e: Experiment, at: Path, task: Task) -> Found:
    """Options would be dropped in silence by a command that does not pass them on."""
    entries = models_of(e, task) if not task.once else [("", ModelCode(code=task.code or ""))]
    for model, entry in entries:
        arguments = _words(e, task, entry.code) or ["{options}"]
        if "{options}" in arguments:
            continue
        for key in ("options", "grid"):
            if getattr(task, key):
                yield (*at, key), "the command does not pass options on: it has no word {options}"
                return
        for name in task.variants or ("default",):
            variant = e.variants.get(name)
            if variant is not None and variant.options:
                yield (
                    (*at, "variants"),
                    f"variant '{name}' has options, and the command has no word {{options}}",
                )
                return
        if entry.options and task.kind in (TaskKind.TRAIN, TaskKind.TEST):
            yield at, f"model '{model}' has options, but the command no word {{options}}"
            return


def _unheard_seeds(e: Experiment, at: Path, task: Task) -> Found:
    """Yield seeds and flags that no word of a training's command carries: they would make the same run
    several times."""
    if task.kind is not TaskKind.TRAIN:
        return
    for name, variants in _variants_of_codes(e, task).items():
        code = e.codes.get(name)
        arguments = _words(e, task, name)
        if code is None or arguments is None:
            continue
        seeded = bool(task.seeds) or any(v.seed is not None for v in variants)
        passed = "{options}" in arguments
        heard = (passed and code.seed_option) or "seed" in placeholders(arguments)
        if seeded and not heard and not any("DDQJOBS_SEED" in word for word in arguments):
            yield (
                (*at, "seeds") if task.seeds else at,
                f"the seed does not reach the training: give code '{name}' a seed_option and the command "
                "{options}, or the command {seed}",
            )
        if any(v.deterministic for v in variants) and not (passed and code.deterministic_option):
            yield (
                (*at, "variants"),
                f"`deterministic` does not reach the training: code '{name}' needs a deterministic_option, "
                "and the command {options}",
            )


def _one_process(e: Experiment, at: Path, task: Task) -> Found:
    """Yield trainings on several GPUs whose program, one of ours, nothing starts more than once: all but one
    would stand idle, and the batch be smaller than the name says."""
    if task.kind is not TaskKind.TRAIN:
        return
    for name, variants in _variants_of_codes(e, task).items():
        code, arguments = e.codes.get(name), _words(e, task, name) or []
        asked = e.resources.gpus if task.resources.gpus is None else task.resources.gpus
        gpus = max((asked if v.gpus is None else v.gpus) or 0 for v in variants or [Variant()])
        if code is not None and code.launcher == "plain" and gpus > 1 and arguments[1:3] == ["-m", _TRAIN]:
            yield (
                at,
                f"it asks for {gpus} GPUs and its command starts one process: give code '{name}' a launcher "
                "(torchrun)",
            )


def _variants_of_codes(e: Experiment, task: Task) -> dict[str, list[Variant]]:
    """Return the variants that each code's runs of a task have: some are of single models."""
    entries = [("", task.code or "")] if task.once else [(m, entry.code) for m, entry in models_of(e, task)]
    declared = [e.variants[v] for v in task.variants or ("default",) if v in e.variants]
    variants: dict[str, list[Variant]] = {}
    for model, code in entries:
        variants.setdefault(code, []).extend(v for v in declared if applies(v, task, model))
    return variants
