"""Find the configuration that a run's command loads, and its options, for a check. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.data.weights import file_of
from ddqjobs.spec.code import parts_of, variable
from ddqjobs.spec.dataset import Dataset
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run, TaskKind

_FLAGS = ("--cfg-options", "--options")
_OF_CODE = re.compile(r"\{code\}/configs/[\w./+@-]+\.py")

_OF_PROJECT = "{code}/{config}"


class Configuration(Frozen, frozen=True, kw_only=True):
    """A request of :mod:`ddqjobs.detect.check`."""

    config: str
    options: tuple[str, ...] = ()
    kind: str = ""
    variables: dict[str, str] = msgspec.field(default_factory=dict)
    own: tuple[str, ...] = ()
    declared: bool = False
    registers: bool = False
    metric: str = ""
    processes: int = 0
    of_tree: bool = False
    weights: tuple[str, ...] = ()


class Loads(Frozen, frozen=True, kw_only=True):
    """The configuration that a command loads, in words of the experiment."""

    config: str
    options: tuple[tuple[str, bool], ...]  # (word, whether it may have placeholders)


class Source(Frozen, frozen=True, kw_only=True):
    """The places of a run's configuration for its job: its code's tree, the project's folder or, where the
    command does not name it, in either."""

    tree: bool
    project: bool


def source(run: Run) -> Source:
    """Return where a run's configuration must be. A command runs in its code's tree, if there is one, and
    a path there is the tree's; ``{code}/`` begins one of the project's."""
    if not run.workdir:
        return Source(tree=False, project=True)
    in_tree = any("{config}" in word.replace(_OF_PROJECT, "") for word in run.command)
    in_project = any(_OF_PROJECT in word for word in run.command)
    return Source(tree=in_tree or not in_project, project=not in_tree)


def loads(run: Run, flag: str) -> Loads | None:
    """Return what a run's command loads; None if it names no configuration. ``flag`` comes before the
    code's options."""
    # A program may lie below the same folder: the word that can be nothing else comes first.
    own = "{config}" if "{config}" in run.command else None
    config = own or next((word for word in run.command if _OF_CODE.fullmatch(word)), None)
    if config is None or (config == "{config}" and not run.config):
        return None
    return Loads(config=config, options=tuple(_options(run, flag)))


def of(run: Run, experiment: Experiment, results: str, project: str) -> Configuration | None:
    """Return what a run loads; None if its command names no configuration. ``results`` is the folder of the
    experiment's results, ``project`` that of the project; paths are absolute."""
    loaded = loads(run, experiment.codes[run.code].option_flag)
    if loaded is None:
        return None
    inputs = {
        role: _path(value.run, value.artifact, value.path, results, project) for role, value in run.inputs
    }
    known = {
        **{f"input.{role}": path for role, path in inputs.items()},
        "checkpoint": inputs.get("checkpoint", "/checkpoint"),
        "gpus": str(run.resources.gpus),
        "nodes": str(run.resources.nodes),
        "seed": "0",  # as of all seeds: one of them is checked
    }
    of_data = [_datasets(d, project) for d in experiment.datasets.values() if _reads(d, run)]
    return Configuration(
        config=run.config if loaded.config == "{config}" else loaded.config,
        options=tuple(_filled(word, known) if open_ else word for word, open_ in loaded.options),
        kind=run.kind.value,
        variables={
            **{f"DDQJOBS_INPUT_{variable(role)}": path for role, path in inputs.items()},
            **({"DDQJOBS_CONFIG": _absolute_config(run)} if run.config else {}),
            "DDQJOBS_MODEL": run.model,
            "DDQJOBS_GPUS": str(run.resources.gpus),
            "DDQJOBS_NODES": str(run.resources.nodes),
        },
        own=(*inputs.values(), *(path for paths in of_data for path in paths)),
        declared=bool(of_data) or any("data" in role for role in inputs),
        metric=run.metric,
        processes=0 if "--auto-scale-lr" in run.command else run.resources.nodes * run.resources.gpus,
        registers=not is_ours(run) or "--imports" in run.command,
        of_tree=not is_ours(run),
        weights=tuple(file_of(weight.url) for weight in experiment.weights.values() if not weight.path),
    )


def contradictions(run: Run, flag: str) -> Iterator[dict[str, str]]:
    """Yield as findings of a check where a run's command does not do what the experiment says of the run: a
    word that sets one of its options once more, later and otherwise; a test without its checkpoint."""
    loaded = loads(run, flag)
    by_key: dict[str, str] = {}
    for word, of_command in loaded.options if loaded else ():
        key = word.partition("=")[0]
        if of_command and by_key.get(key, word) != word:
            text = f"option {key}: the command sets {word} after {by_key[key]}; take it out of the command"
            yield {"level": "error", "kind": "option", "key": key, "text": text}
        by_key[key] = word
    tested = [(role, value) for role, value in run.inputs if value.run and value.artifact == "checkpoint"]
    for role, value in tested if run.kind is TaskKind.TEST and loaded else ():
        named = f"{{input.{role}}}", f"DDQJOBS_INPUT_{variable(role)}", "{checkpoint}"
        command_text = "\n".join([*run.command, *run.options, *(text for _, text in run.variables)])
        if not any(name in command_text for name in named):
            text = f"the command does not name {named[0]}, the checkpoint of {value.run}: is it tested?"
            yield {"level": "warning", "kind": "checkpoint", "key": "", "text": text}


def _filled(word: str, known: Mapping[str, str]) -> str:
    """Return an option of a command, with a path for what only the job knows."""
    return "".join(text or known.get(name, f"/{name}") for text, name in parts_of(word))


def is_ours(run: Run) -> bool:
    """Tell whether a run's program is one of ours: another may register types by itself."""
    return any("ddqjobs.detect." in word for word in run.command)


def _absolute_config(run: Run) -> str:
    """Return a configuration as jobs have it: ``./`` stands for the folder in which the command runs."""
    return run.config if "::" in run.config or run.config.startswith("/") else f"./{run.config}"


def _path(upstream: str, artifact: str, path: str, results: str, project: str) -> str:
    if upstream:
        return f"{results}/runs/{upstream}/artifacts/{artifact}"
    return path if path.startswith(("/", "~", "$")) else f"{project}/{path}"


def _reads(dataset: Dataset, run: Run) -> bool:
    return dataset.codes is None or run.code in dataset.codes


def _datasets(dataset: Dataset, project: str) -> Sequence[str]:
    """Return where a data set lies, and the link to it in a code's tree, which a command runs in."""
    return [path for path in (_path("", "", dataset.path, "", project), dataset.link) if path]


def _options(run: Run, flag: str) -> Iterator[tuple[str, bool]]:
    """Yield the options that the command ends up with, in its order, and whether they may have
    placeholders."""
    flags = {*_FLAGS, flag} - {""}
    inside = False
    for word in run.command:
        if word == "{options}":
            yield from ((option, False) for option in run.options)
            inside = inside or bool(run.options)
        elif word.startswith("-"):
            inside = word in flags
        elif inside and "=" in word:
            yield word, True


def without_seed(run: Run, seed_option: str) -> Run:
    """Return a run as all its seeds have it, those that its inputs come from included: one of them is checked
    for all."""
    start, end = f"{seed_option}=", f".s{run.seed}"
    options = (f"{start}0" if seed_option and o.startswith(start) else o for o in run.options)
    inputs = ((role, msgspec.structs.replace(i, run=i.run.removesuffix(end))) for role, i in run.inputs)
    return msgspec.structs.replace(run, options=tuple(options), inputs=tuple(inputs))


def places(run: Run, experiment: Experiment, key: str) -> Iterator[tuple[str, ...]]:
    """Yield where the experiment may say an option of a run, the last word first."""
    code = experiment.codes[run.code]
    task = experiment.tasks.get(run.task)
    model = experiment.models.get(run.model)
    entry = model.implementations.get(run.implementation) if model else None
    variant = experiment.variants.get(run.variant)
    said: list[tuple[tuple[str, ...], Mapping[str, object]]] = [
        (("variants", run.variant, "options"), variant.options if variant else {}),
        (("tasks", run.task, "options"), task.options if task else {}),
        (
            ("models", run.model, "implementations", run.implementation, "options"),
            entry.options if entry else {},
        ),
    ]
    for place, options in [*_grids(experiment, run), *said]:
        yield from ((*place, name) for name in (key, f"+{key}") if name in options)
    for name in ("seed_option", "deterministic_option"):
        if getattr(code, name) == key:
            yield ("codes", run.code, name)
    if task is not None:
        yield ("tasks", run.task)


def _grids(experiment: Experiment, run: Run) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    """Yield the grids that may have given a run its variant, its own task's first."""
    names = sorted(experiment.tasks, key=lambda name: name != run.task)  # stable
    yield from ((("tasks", name, "grid"), experiment.tasks[name].grid) for name in names if run.grid)
