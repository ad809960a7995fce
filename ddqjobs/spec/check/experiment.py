"""Find what an experiment file says that cannot be true: missing references, impossible combinations, cycles.

Types and keys were checked before (:mod:`ddqjobs.spec.reader`). Everything here is pure, and all problems of
a file are found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice

from ddqjobs.base.errors import MOST_PROBLEMS, Problem
from ddqjobs.spec.check import grids
from ddqjobs.spec.check.commands import command, products, value_of_variable
from ddqjobs.spec.check.datasets import datasets, weights
from ddqjobs.spec.check.figures import figures
from ddqjobs.spec.check.reference import Found, Path, reference
from ddqjobs.spec.check.tasks import released, tasks
from ddqjobs.spec.experiment import WITHOUT_AP, Experiment, upstream_of
from ddqjobs.spec.model import TaskKind

_MOST = 2 * MOST_PROBLEMS  # more than are shown, so that it is said that there are more


def check(
    experiment: Experiment, line_of: Callable[[Path], tuple[str, int]], environments: Iterable[str] | None
) -> list[Problem]:
    """All problems, by file and line. ``environments`` None: references to them are not checked."""
    known = None if environments is None else frozenset(environments)
    problems = chain(
        _codes(experiment, known),
        _models(experiment),
        _variants(experiment),
        grids.baseline(experiment),
        _phases(experiment),
        figures(experiment),
        tasks(experiment),
        released(experiment, line_of),
        _cycles(experiment),
        datasets(experiment),
        weights(experiment),
    )
    first = islice(problems, _MOST)
    return sorted({_problem(path, message, line_of) for path, message in first})


def _problem(path: Path, message: str, line_of: Callable[[Path], tuple[str, int]]) -> Problem:
    """Return a problem at its line. Where a base says what does not fit: at that of the entry by which the
    heir changes it, if there is one, else with the heir's name."""
    own, _ = line_of(())
    file, line = line_of(path)
    if file == own:
        return Problem(file, line, message)
    entry_file, entry_line = line_of(path[:2])
    if len(path) > 1 and entry_file == own:
        return Problem(own, entry_line, f"{message} ({file}:{line})")
    return Problem(file, line, f"{message} ({own} inherits this)")


def _codes(e: Experiment, environments: frozenset[str] | None) -> Found:
    for name, code in e.codes.items():
        at: Path = ("codes", name)
        if code.environment and environments is not None:
            remedy = f"for one of your own, write envs/{code.environment}/env.yaml with its name and python"
            known = sorted(environments)
            yield from reference((*at, "environment"), "environment", code.environment, known, remedy)
        for kind, arguments in code.commands.items():
            yield from command((*at, "commands", kind.value), arguments, None)
        for key, value in code.variables.items():
            yield from value_of_variable((*at, "variables", key), value, None, code.path)
        if code.canary is not None:
            yield from products((*at, "canary", "products"), code.canary.products)
            if code.canary.command is not None:
                yield from command((*at, "canary", "command"), code.canary.command, None)


def _models(e: Experiment) -> Found:
    for name, model in e.models.items():
        at: Path = ("models", name)
        for implementation, entry in model.implementations.items():
            here: Path = (*at, "implementations", implementation)
            yield from reference(here, "implementation", implementation, e.implementations)
            yield from reference((*here, "code"), "code", entry.code, e.codes)
            for task in entry.hours:
                yield from reference((*here, "hours", task), "task", task, e.tasks)
        if model.reference.task:
            yield from reference((*at, "reference", "task"), "task", model.reference.task, e.tasks)
            yield from _gives_ap((*at, "reference", "task"), model.reference.task, e)
        if model.reference.task and model.reference.figure is not None:
            yield (*at, "reference"), "a reference is either a figure (ap, value) or a task, not both"
        for task in model.hours:
            yield from reference((*at, "hours", task), "task", task, e.tasks)


def _gives_ap(at: Path, name: str, e: Experiment) -> Found:
    if name in e.tasks and e.tasks[name].kind in WITHOUT_AP:
        able = [n for n, task in e.tasks.items() if task.kind in (TaskKind.TEST, TaskKind.TRAIN)]
        hint = f"; tasks that do: {', '.join(able)}" if able else ""
        yield at, f"task '{name}' gives no AP: its kind is {e.tasks[name].kind.value}{hint}"


def _variants(e: Experiment) -> Found:
    for name, variant in e.variants.items():
        at: Path = ("variants", name)
        for i, model in enumerate(variant.models):
            yield from reference((*at, "models", i), "model", model, e.models)
        for i, implementation in enumerate(variant.implementations):
            yield from reference(
                (*at, "implementations", i), "implementation", implementation, e.implementations
            )


def _phases(e: Experiment) -> Found:
    for name, phase in e.phases.items():
        if phase.against == "reference":
            continue
        yield from reference(("phases", name, "against"), "phase", phase.against, ["reference", *e.phases])
        if phase.against == name:
            yield ("phases", name, "against"), f"phase {name} cannot be compared with itself"


def _cycles(e: Experiment) -> Found:
    done: set[str] = set()
    for first in e.tasks:
        # The way from the first task to the one that is looked at, with what is left to look at of each.
        way = {first: upstream_of(e.tasks[first])} if first not in done else {}
        while way:
            name = next(reversed(way))
            above = next(way[name], None)
            if above is None:
                del way[name]
                done.add(name)
            elif above in way:
                names = list(way)
                ring = " -> ".join((*names[names.index(above) :], above))
                yield ("tasks", above, "inputs"), f"tasks need each other in a circle: {ring}"
            elif above not in done and above in e.tasks:
                way[above] = upstream_of(e.tasks[above])
