"""What an experiment file says that cannot be true: missing references, impossible combinations, cycles.

Types and keys were checked before (:mod:`ddqjobs.spec.reader`). Everything here is pure, and all problems of
a file are found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlparse

from ddqjobs.base.errors import Problem, nearest
from ddqjobs.base.units import megabytes, seconds
from ddqjobs.spec.experiment import (
    ARTIFACTS,
    CANARY,
    PLACEHOLDERS,
    WITHOUT_AP,
    Code,
    Dataset,
    Experiment,
    ModelCode,
    ResourceRequest,
    Task,
    placeholders,
    split_input,
    variable,
)
from ddqjobs.spec.model import TaskKind
from ddqjobs.spec.slurm_options import Slurm, problems

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
_VALID = ", ".join(PLACEHOLDERS)


def check(
    experiment: Experiment, line_of: Callable[[Path], tuple[str, int]], environments: Iterable[str] | None
) -> list[Problem]:
    """All problems, by file and line. ``environments`` None: references to them are not checked."""
    known = None if environments is None else frozenset(environments)
    found = [
        *_codes(experiment, known),
        *_models(experiment),
        *_variants(experiment),
        *_phases(experiment),
        *_tasks(experiment),
        *_cycles(experiment),
        *_datasets(experiment),
        *_weights(experiment),
    ]
    return sorted({Problem(*line_of(path), message) for path, message in found})


def _reference(path: Path, what: str, name: str, valid: Iterable[str]) -> Found:
    names = list(dict.fromkeys(valid))
    if name not in names:
        listed = ", ".join(names) or "none"
        yield path, f"unknown {what} '{name}'{nearest(name, names)}; declared: {listed}"


def _codes(e: Experiment, environments: frozenset[str] | None) -> Found:
    for name, code in e.codes.items():
        at: Path = ("codes", name)
        if code.environment and environments is not None:
            yield from _reference((*at, "environment"), "environment", code.environment, sorted(environments))
        for kind, words in code.commands.items():
            yield from _command((*at, "commands", kind.value), words, None)
        for key, value in code.variables.items():
            yield from _variable((*at, "variables", key), value, None)
        if code.canary is not None:
            yield from _products((*at, "canary", "products"), code.canary.products)
            if code.canary.command is not None:
                yield from _command((*at, "canary", "command"), code.canary.command, None)


def _models(e: Experiment) -> Found:
    for name, model in e.models.items():
        at: Path = ("models", name)
        for implementation, entry in model.implementations.items():
            here: Path = (*at, "implementations", implementation)
            yield from _reference(here, "implementation", implementation, e.implementations)
            yield from _reference((*here, "code"), "code", entry.code, e.codes)
            for task in entry.hours:
                yield from _reference((*here, "hours", task), "task", task, e.tasks)
        if model.reference.task:
            yield from _reference((*at, "reference", "task"), "task", model.reference.task, e.tasks)
            yield from _gives_ap((*at, "reference", "task"), model.reference.task, e)
        if model.reference.task and model.reference.ap is not None:
            yield (*at, "reference"), "a reference is either a figure (ap) or a task, not both"
        for task in model.hours:
            yield from _reference((*at, "hours", task), "task", task, e.tasks)


def _gives_ap(at: Path, name: str, e: Experiment) -> Found:
    if name in e.tasks and e.tasks[name].kind in WITHOUT_AP:
        able = [n for n, task in e.tasks.items() if task.kind in (TaskKind.TEST, TaskKind.TRAIN)]
        words = f"; tasks that do: {', '.join(able)}" if able else ""
        yield at, f"task '{name}' gives no AP: its kind is {e.tasks[name].kind.value}{words}"


def _variants(e: Experiment) -> Found:
    for name, variant in e.variants.items():
        at: Path = ("variants", name)
        yield from _slurm(at, variant.slurm)
        for i, model in enumerate(variant.models):
            yield from _reference((*at, "models", i), "model", model, e.models)
        for i, implementation in enumerate(variant.implementations):
            yield from _reference(
                (*at, "implementations", i), "implementation", implementation, e.implementations
            )


def _phases(e: Experiment) -> Found:
    for name, phase in e.phases.items():
        if phase.against == "reference":
            continue
        yield from _reference(("phases", name, "against"), "phase", phase.against, ["reference", *e.phases])
        if phase.against == name:
            yield ("phases", name, "against"), f"phase {name} cannot be compared with itself"


def _tasks(e: Experiment) -> Found:
    yield from _resources(("resources",), e.resources)
    yield from _slurm((), e.slurm)
    for name, task in e.tasks.items():
        at: Path = ("tasks", name)
        if name == CANARY:
            yield at, f"'{CANARY}' is what `ddqjobs submit --canary` runs; give the task another name"
        if task.phase is not None:
            yield from _reference((*at, "phase"), "phase", task.phase, e.phases)
        yield from _where(e, at, task)
        for i, variant in enumerate(task.variants or ()):
            if variant != "default":
                yield from _reference((*at, "variants", i), "variant", variant, ["default", *e.variants])
        if len(set(task.seeds or ())) != len(task.seeds or ()):
            yield (*at, "seeds"), "a seed is listed twice; each seed makes one run"
        yield from _inputs(e, at, task)
        for i, name in enumerate(task.stage):
            yield from _reference((*at, "stage", i), "input", name, task.inputs)
        yield from _resources((*at, "resources"), task.resources)
        yield from _slurm(at, task.slurm)
        if task.command is not None:
            yield from _command((*at, "command"), task.command, task)
        for key, value in task.variables.items():
            yield from _variable((*at, "variables", key), value, task)
        yield from _unused_options(e, at, task)
        yield from _unheard_seeds(e, at, task)
        yield from _products((*at, "products"), task.products)
        if task.kind is TaskKind.PREPARE and not task.products:
            yield at, "a prepare task must declare its products (artifact: glob below the work_dir)"


def _where(e: Experiment, at: Path, task: Task) -> Found:
    if task.once:
        if task.code is None:
            yield at, "a task with `once: true` belongs to no model and must name its code"
        else:
            yield from _reference((*at, "code"), "code", task.code, e.codes)
            yield from _runnable(e, at, task, [task.code])
        if task.models or task.implementation:
            yield at, "a task with `once: true` belongs to no model: leave out models and implementation"
        return
    if task.code is not None:
        yield (*at, "code"), "only tasks with `once: true` name a code; the others take their model's"
    if task.implementation is None:
        yield at, f"name an implementation; declared: {', '.join(e.implementations)}"
        return
    yield from _reference((*at, "implementation"), "implementation", task.implementation, e.implementations)
    for key in ("models", "required"):
        for i, model in enumerate(getattr(task, key) or ()):
            yield from _reference((*at, key, i), "model", model, e.models)
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


def models_of(e: Experiment, task: Task) -> list[tuple[str, ModelCode]]:
    """(name, entry) of the models that a task makes runs for, in the file's order."""
    names = task.models or list(e.models)
    return [
        (name, e.models[name].implementations[task.implementation])
        for name in e.models
        if name in names and task.implementation in e.models[name].implementations
    ]


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
            for name, entry in models_of(e, task):
                if not entry.checkpoint:
                    yield (
                        here,
                        f"model '{name}' declares no checkpoint for implementation '{task.implementation}'",
                    )
        elif text.startswith("path:"):
            if not text.removeprefix("path:"):
                yield here, "path: needs a path behind it"
        elif not upstream:
            yield here, f"'{text}' is no input; write TASK.ARTIFACT, released, or path:PATH"
        else:
            yield from _reference(here, "task", upstream, e.tasks)
            if upstream in e.tasks:
                source = e.tasks[upstream]
                valid = [*ARTIFACTS[source.kind], *source.products]
                yield from _reference(here, f"artifact of task {upstream}", artifact, valid)
                yield from _covers(e, here, task, upstream, source)


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
                yield (*at, key), f"'{value}' is no time to run in; write 90s, 45m, 24h, 2d or 1h30m"


def _slurm(at: Path, options: Slurm) -> Found:
    for path, message in problems(options):
        yield (*at, "slurm", *path), message


def _command(at: Path, words: list[str], task: Task | None) -> Found:
    if not words:
        yield at, "a command needs at least one word"
    for name in placeholders(words):
        kind, _, rest = name.partition(".")
        if kind == "input" and rest:
            if task is not None and rest not in task.inputs:
                listed = ", ".join(task.inputs) or "none"
                yield at, f"unknown input '{rest}' in {{{name}}}; this task's inputs: {listed}"
        elif kind == "env" and rest:
            if not rest.isidentifier() or not rest.isascii():
                yield at, f"'{rest}' in {{{name}}} is no name of an environment variable"
        elif name not in PLACEHOLDERS or "." in name:
            yield (
                at,
                f"unknown placeholder {{{name}}}{nearest(name, PLACEHOLDERS)}; valid: {_VALID}",
            )
    for word in words:
        if "{options}" in word and word != "{options}":
            yield at, "{options} stands for any number of words and must be a word of its own"


def _variable(at: Path, value: str, task: Task | None) -> Found:
    if "{options}" in value:
        yield at, "{options} stands for any number of words; a variable has one"
    else:
        yield from _command(at, [value], task)


def _unused_options(e: Experiment, at: Path, task: Task) -> Found:
    """Options would be dropped in silence by a command that does not pass them on."""
    entries = models_of(e, task) if not task.once else [("", ModelCode(code=task.code or ""))]
    for model, entry in entries:
        code = e.codes.get(entry.code)
        words = task.command or (code.commands.get(task.kind) if code else None) or ["{options}"]
        if "{options}" in words:
            continue
        if task.options:
            yield (*at, "options"), "the command does not pass options on: it has no word {options}"
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
    """Seeds and flags that no word of a training's command carries would make the same run several times."""
    if task.kind is not TaskKind.TRAIN:
        return
    variants = [e.variants[v] for v in task.variants or ("default",) if v in e.variants]
    seeded = bool(task.seeds) or any(v.seed is not None for v in variants)
    codes = [task.code or ""] if task.once else [entry.code for _, entry in models_of(e, task)]
    for name in dict.fromkeys(codes):
        code = e.codes.get(name)
        words = task.command or (code.commands.get(task.kind) if code else None)
        if code is None or words is None:
            continue
        passed = "{options}" in words
        heard = (passed and code.seed_option) or "seed" in placeholders(words)
        if seeded and not heard and not any("DDQJOBS_SEED" in word for word in words):
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


def _products(at: Path, products: Mapping[str, str]) -> Found:
    """The job would refuse them too (ddqjobs.detect.product), after all its work."""
    for name, pattern in products.items():
        if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            yield (
                (*at, name),
                f"'{pattern}' leads out of the work_dir; a product is a glob below it, without ..",
            )


def _cycles(e: Experiment) -> Found:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> Found:
        if name in above:
            ring = " -> ".join((*above[above.index(name) :], name))
            yield ("tasks", name, "inputs"), f"tasks need each other in a circle: {ring}"
            return
        if name in done or name not in e.tasks:
            return
        for text in e.tasks[name].inputs.values():
            upstream, _ = split_input(text)
            if upstream:
                yield from visit(upstream, (*above, name))
        done.add(name)

    for name in e.tasks:
        yield from visit(name, ())


def _below(at: Path, text: str) -> Found:
    parts = PurePosixPath(text).parts
    if not parts or PurePosixPath(text).is_absolute() or ".." in parts:
        yield at, f"'{text}' must be a path below the folder it belongs to, without .."


def _datasets(e: Experiment) -> Found:
    for name, dataset in e.datasets.items():
        at: Path = ("datasets", name)
        if dataset.link:
            yield from _below((*at, "link"), dataset.link)
        for i, code in enumerate(dataset.codes or ()):
            yield from _reference((*at, "codes", i), "code", code, e.codes)
        for split, declared in dataset.splits.items():
            yield from _below((*at, "splits", split, "annotations"), declared.annotations)
            yield from _below((*at, "splits", split, "images"), declared.images)
        for other, second in e.datasets.items():
            if other == name:
                break
            if dataset.link and dataset.link == second.link and _share(e, dataset, second):
                yield (*at, "link"), f"data sets '{other}' and '{name}' want the same link in one code tree"


def _share(e: Experiment, one: Dataset, other: Dataset) -> bool:
    codes = [n for n, c in e.codes.items() if c.path]
    return any(d in (one.codes or codes) and d in (other.codes or codes) for d in codes)


def _weights(e: Experiment) -> Found:
    seen: dict[str, str] = {}
    for name, weight in e.weights.items():
        at: Path = ("weights", name)
        file = PurePosixPath(urlparse(weight.url).path).name
        if weight.url and (urlparse(weight.url).scheme not in ("http", "https") or not file):
            yield (*at, "url"), f"'{weight.url}' is no http(s) URL of a file; others are brought by hand"
        elif not weight.url and not weight.path:
            yield at, "name a url, or the path where runs look for them, or both"
        target = PurePosixPath(weight.path or file).name
        if target in seen:  # their checksums are kept under this name
            yield at, f"weights '{seen[target]}' and '{name}' have files of the same name {target}"
        seen[target] = name
        for i, model in enumerate(weight.models):
            yield from _reference((*at, "models", i), "model", model, e.models)
    if any(not w.path for w in e.weights.values()):
        sections: tuple[tuple[str, Mapping[str, Code | Task]], ...] = (("codes", e.codes), ("tasks", e.tasks))
        for kind, parts in sections:
            for name, part in parts.items():
                if "TORCH_HOME" in part.variables:
                    words = "TORCH_HOME is the site's (key `weights:`) where an experiment declares weights"
                    yield (kind, name, "variables", "TORCH_HOME"), words
