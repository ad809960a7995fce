"""Find what an experiment or a site file says that is allowed, and surely not meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import SEEDS_APART, Run, TaskKind
from ddqjobs.spec.nodes import Path
from ddqjobs.spec.site import Site

LineOf = Callable[[Path], tuple[str, int]]
_ACTIVATES = re.compile(
    r"(?:^|&&|;|\|\|)\s*(?:(?:conda|mamba|micromamba)\s+activate|(?:source|\.)\s+(?:activate|\S*/bin/activate))"
    r"(?![\w/.-])",
    re.MULTILINE,
)  # at the beginning of a command


def hints(e: Experiment, runs: Sequence[Run], line_of: LineOf) -> list[str]:
    """Return a line for each, with the place where it stands; ``runs`` are the experiment's."""
    all_hints = (*_seeds(e), *_unseeded(e, runs), *_weights(e, line_of), *_shared(e, runs))
    return [f"{_place(line_of, path)}: {message}" for path, message in all_hints]


def hints_of_site(site: Site, line_of: LineOf, environments: Collection[str]) -> list[str]:
    """Return the same of a site, for runs in these environments: setup lines that would choose their
    Python, and do not."""
    lines = [n for n, line in enumerate(site.setup) if environments and _ACTIVATES.search(line)]
    message = (
        "a setup line that activates conda or a virtual environment does not choose the Python of runs in "
        f"{'environments' if len(environments) > 1 else 'environment'} {', '.join(environments)}; name the "
        "script that enters yours under `activate:`"
    )
    return [f"{_place(line_of, ('setup', number))}: {message}" for number in lines]


def _place(line_of: LineOf, path: Path) -> str:
    file, line = line_of(path)
    return f"{file}:{line}"


def _seeds(e: Experiment) -> Iterator[tuple[Path, str]]:
    for name, task in e.tasks.items():
        near = [pair for pair in pairwise(sorted(task.seeds or ())) if pair[1] - pair[0] < SEEDS_APART]
        if near and task.kind is TaskKind.TRAIN:
            first, second = near[0]
            yield (
                ("tasks", name, "seeds"),
                f"seeds {first} and {second} are closer than {SEEDS_APART:,}, so verdicts count only "
                "the first as independent; use for example [0, 1000, 2000]",
            )


def _unseeded(e: Experiment, runs: Sequence[Run]) -> Iterator[tuple[Path, str]]:
    """Find trainings that are compared with each other and would each draw a seed of their own."""
    trainings: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.kind is TaskKind.TRAIN:
            trainings.setdefault((run.task, run.model), []).append(run)
    tasks = {task for (task, _), group in trainings.items() if _draws_seeds(e, group)}
    for name in e.tasks:
        if name in tasks:
            yield (
                ("tasks", name, "grid" if e.tasks[name].grid else "variants"),
                f"the variants of task '{name}' are compared, and without seeds each training draws another, "
                "so that seeds are compared as well; add for example `seeds: [0, 1000, 2000]`",
            )


def _draws_seeds(e: Experiment, group: Sequence[Run]) -> bool:
    """Tell whether trainings of one task and model are compared, and some say nothing of a seed."""
    variants = {run.variant for run in group}
    compared = len(variants) > 1 and (any(run.grid for run in group) or e.baseline in variants)
    return compared and any(run.seed is None and not _sets_seed(e, run) for run in group)


def _sets_seed(e: Experiment, run: Run) -> bool:
    option = e.codes[run.code].seed_option
    words = (*run.options, *run.command)
    return any("{seed}" in word or (option and word.startswith(f"{option}=")) for word in words)


def _shared(e: Experiment, runs: Sequence[Run]) -> Iterator[tuple[Path, str]]:
    """Find runs that belong to no model, have one model's configuration, and are read by another model, too:
    it would begin with another detector's weights."""
    for run in runs:
        if run.model or not run.config:
            continue
        configs: dict[str, set[str]] = {}
        for reader in runs:
            if reader.model and reader.config and run.name in reader.upstream:
                configs.setdefault(reader.model, set()).add(reader.config)
        of_it = [model for model, own in configs.items() if run.config in own]
        others = [model for model, own in configs.items() if run.config not in own]
        if of_it and others:
            entries = e.models[of_it[0]].implementations.items()
            implementation = next((name for name, entry in entries if entry.code == run.code), "NAME")
            yield (
                ("models", others[0]),
                f"task '{run.task}' runs once, with the configuration of {of_it[0]}, and {others[0]} reads "
                f"its weights, too; with `once: false` and `implementation: {implementation}` in place of "
                "`code` and `config` it runs for each model",
            )


def _weights(e: Experiment, line_of: LineOf) -> Iterator[tuple[Path, str]]:
    """Find released weights whose path is not the one that `weights` declares: what is brought is read by
    nobody, and what is read is brought by nobody."""
    declared = {weight.path: name for name, weight in e.weights.items() if weight.path}
    read = {path: at for at, path in _checkpoints(e)}
    text = repr((e.tasks, e.codes, e.models))  # options, commands and inputs may name a path, too
    unused = {name: e.weights[name].models for path, name in declared.items() if path not in text}
    for path, at in read.items():
        name = _weights_of(str(at[1]), unused)
        if path in declared or name is None:
            continue
        place = _place(line_of, ("weights", name, "path"))
        yield (
            at,
            f"the checkpoint is not the path of weights.{name}, {e.weights[name].path} ({place}), which "
            "nothing in this file reads; write the same path in both",
        )


def _weights_of(model: str, unused: Mapping[str, Collection[str]]) -> str | None:
    """Return which of the weights (name -> models that need them, none: all) are surely meant for a model:
    those of its name, those that name it alone, or the only ones, if they are for all."""
    if model in unused or not unused:
        return model if unused else None
    own = [name for name, models in unused.items() if list(models) == [model]]
    if len(own) == 1:
        return own[0]
    (only, models), *others = unused.items()
    return only if not others and not models else None


def _checkpoints(e: Experiment) -> Iterator[tuple[Path, str]]:
    for model, section in e.models.items():
        for implementation, code in section.implementations.items():
            if code.checkpoint and _is_read(e, implementation):
                yield ("models", model, "implementations", implementation, "checkpoint"), code.checkpoint


def _is_read(e: Experiment, implementation: str) -> bool:
    tasks = (task for task in e.tasks.values() if task.implementation == implementation)
    return any("released" in task.inputs.values() for task in tasks)
