"""Find what an experiment or a site file says that is allowed, and surely not meant. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from ddqjobs.base.errors import nearest
from ddqjobs.base.units import counted, seconds
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import SEEDS_APART, SEEDS_OF_TEST, Run, TaskKind
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
    of_variants = (*_unseeded(e, runs), *_few_seeds(e, runs, line_of), *_baseline(e, runs))
    all_hints = (*_seeds(e), *of_variants, *_weights(e, line_of), *_shared(e, runs, line_of))
    return [f"{_place(line_of, path)}: {message}" for path, message in all_hints]


def hints_of_site(
    site: Site, line_of: LineOf, environments: Collection[str], declared: Collection[str]
) -> list[str]:
    """Return the same of a site, for runs in ``environments``, of those that are ``declared``."""
    all_hints = (*_setup(site, environments), *_misspelt(site, declared))
    return [f"{_place(line_of, path)}: {message}" for path, message in all_hints]


def cut_times(e: Experiment, runs: Sequence[Run], site: Site, line_of: LineOf) -> list[str]:
    """Return a line for each time that these runs ask for and that the site cuts to its limit."""
    limit_s = seconds(site.limits.time) if site.limits.time else math.inf
    kinds: dict[Path, set[TaskKind]] = {}
    for run in runs:
        task = e.tasks.get(run.task)
        if task is not None and run.resources.time_s > limit_s:
            path = ("tasks", run.task, "resources", "time") if task.resources.time else ("resources", "time")
            kinds.setdefault(path, set()).add(run.kind)
    return [
        f"{_place(line_of, path)}: {_time(e, path)} is longer than `limits.time` of site {site.name}, so "
        f"jobs get {site.limits.time}; {_longer(of)}"
        for path, of in kinds.items()
    ]


def _time(e: Experiment, path: Path) -> str:
    asked = e.tasks[str(path[1])].resources if path[0] == "tasks" else e.resources
    return asked.time or ""


def _longer(kinds: Collection[TaskKind]) -> str:
    """Return what becomes of runs of these kinds that take longer than a job may."""
    if TaskKind.TRAIN not in kinds:
        return "a run that takes longer times out"
    another = ", another run times out" if len(kinds) > 1 else ""
    return f"a training that takes longer goes on from its last checkpoint in further jobs{another}"


def _setup(site: Site, environments: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Find setup lines that would choose the Python of the runs, and do not."""
    entered = set(environments) <= set(site.activate)
    remedy = "remove the line" if entered else "name the script that enters yours under `activate:`"
    message = (
        "a setup line that activates conda or a virtual environment does not choose the Python of runs in "
        f"{'environments' if len(environments) > 1 else 'environment'} {', '.join(environments)}; {remedy}"
    )
    for number, line in enumerate(site.setup):
        if environments and _ACTIVATES.search(line):
            yield ("setup", number), message


def _misspelt(site: Site, declared: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Find names that are nearly an environment's. Others may be of other projects."""
    for key in ("activate", "environment_modules"):
        names = getattr(site, key)
        for name in names:
            meant = "" if name in declared else nearest(name, [n for n in declared if n not in names])
            if meant:
                message = f"`{key}` names environment '{name}', which no envs/{name}/env.yaml declares{meant}"
                yield (key, name), message


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


def _few_seeds(e: Experiment, runs: Sequence[Run], line_of: LineOf) -> Iterator[tuple[Path, str]]:
    """Find trainings of two phases that are compared, of which only one has the seeds for a test of
    equivalence."""
    seeds: dict[tuple[str, str], dict[int | None, str]] = {}  # phase, model -> seed -> task
    for run in runs:
        if run.kind is TaskKind.TRAIN:
            seeds.setdefault((run.phase, run.model), {}).setdefault(run.seed, run.task)
    hinted: set[tuple[str, str]] = set()
    for (phase, model), own in seeds.items():
        other = seeds.get((e.phases[phase].against, model), {}) if phase else {}
        few, many = sorted((own, other), key=len)
        if not few or not len(few) < SEEDS_OF_TEST <= len(many):
            continue
        lacks, has = next(iter(few.values())), next(iter(many.values()))
        if (lacks, has) not in hinted:
            hinted.add((lacks, has))
            place, _ = _own(line_of, [("tasks", lacks, "seeds"), ("tasks", has, "seeds")])
            yield (
                place,
                f"task '{lacks}' is compared with task '{has}' and has {counted(len(few), 'seed')} where "
                f"that has {len(many)}; a test of equivalence needs {SEEDS_OF_TEST} or more of each",
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


def _baseline(e: Experiment, runs: Sequence[Run]) -> Iterator[tuple[Path, str]]:
    """Find a baseline that is declared and never run: the report would have no table of variants."""
    if e.baseline is not None and all(run.variant != e.baseline for run in runs):
        yield (
            ("baseline",),
            f"no run has the variant '{e.baseline}', so nothing is compared with it; add it to the "
            "`variants` of a task",
        )


def _shared(e: Experiment, runs: Sequence[Run], line_of: LineOf) -> Iterator[tuple[Path, str]]:
    """Find tasks with a configuration of their own whose weights a model loads that has another: it would
    test, or begin with, another detector's weights."""
    by_name = {run.name: run for run in runs}
    readers: dict[str, dict[str, list[Run]]] = {}  # task -> model -> its runs that load its weights
    for run in runs:
        if not run.model or not run.config or e.tasks[run.task].config:
            continue  # what a task says itself is meant
        for source in _loaded(run, by_name):
            if e.tasks[source.task].config:
                readers.setdefault(source.task, {}).setdefault(run.model, []).append(run)
    for task, models in readers.items():
        config = e.tasks[task].config
        others = [model for model in models if config not in _configs(e, model)]
        if others:
            place, stands = _own(line_of, [("tasks", task, "config"), ("tasks", task), ("models", others[0])])
            first = models[others[0]][0]
            yield (
                place,
                f"{first.name} has {first.config} and loads the weights of task '{task}', whose "
                f"configuration is {config}{stands}; write "
                f"{_own_weights(e, task, list(models), first)} under `tasks`",
            )


def _loaded(run: Run, runs: Mapping[str, Run]) -> Iterator[Run]:
    """Yield the runs whose weights must fit a run's configuration: of a test the training that it tests, if
    no conversion is between them, and of a training what its ``--init`` names."""
    initial = {word for flag, word in pairwise(run.command) if flag == "--init"}
    for role, source in run.inputs:
        above = runs.get(source.run)
        tests = run.kind is TaskKind.TEST and role == "checkpoint"
        if above is None:
            continue
        if (tests and above.kind is TaskKind.TRAIN) or f"{{input.{role}}}" in initial:
            yield above


def _configs(e: Experiment, model: str) -> set[str]:
    return {entry.config for entry in e.models[model].implementations.values()}


def _own_weights(e: Experiment, name: str, models: Sequence[str], reader: Run) -> str:
    """Return what makes a task's weights those of each model that reads them, as an entry of `tasks`."""
    task = e.tasks[name]
    if not task.once:
        return f"`{name}: {{config: null}}`"
    entries = e.models[reader.model].implementations.items()
    implementation, config = next(
        ((key, entry.config) for key, entry in entries if entry.code == task.code), ("NAME", reader.config)
    )
    if len(models) == 1:
        return f"`{name}: {{config: {config}}}`"
    return f"`{name}: {{once: false, code: null, config: null, implementation: {implementation}}}`"


def _own(line_of: LineOf, paths: Sequence[Path]) -> tuple[Path, str]:
    """Return the first path that stands in the experiment's own file, else the first one; and where the first
    stands, in brackets, if that is another place."""
    file, _ = line_of(())
    own = next((path for path in paths if line_of(path)[0] == file), paths[0])
    return own, "" if own == paths[0] else f" ({_place(line_of, paths[0])})"


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
