"""Find what an experiment file says that is allowed, and surely not meant. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise

from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import SEEDS_APART, TaskKind
from ddqjobs.spec.nodes import Path

LineOf = Callable[[Path], tuple[str, int]]


def hints(e: Experiment, line_of: LineOf) -> list[str]:
    """Return a line for each, with the place where it stands."""
    return [f"{_place(line_of, path)}: {message}" for path, message in (*_seeds(e), *_weights(e, line_of))]


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
