"""The filters that every command shares. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from ddqjobs.base.errors import MissingError, nearest
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.text import clean
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Run, Status


class Filters(Frozen, frozen=True, kw_only=True):
    """Words of each kind are alternatives (globs are allowed); kinds narrow each other."""

    phases: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    implementations: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()  # a task's name or its kind
    variants: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    states: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Return whether anything is filtered at all."""
        return self != Filters()


_OF: dict[str, tuple[str, Callable[[PlannedRun], tuple[str, ...]]]] = {
    "phases": ("phase", lambda planned: (planned.run.phase,)),
    "models": ("model", lambda planned: (planned.run.model,)),
    "implementations": ("implementation", lambda planned: (planned.run.implementation,)),
    "tasks": ("task", lambda planned: (planned.run.task, planned.run.kind.value)),
    "variants": ("variant", lambda planned: (planned.run.variant,)),
    "states": ("state", lambda planned: _states(planned)),
    "runs": ("run", lambda planned: (planned.run.name,)),
}


_STATES = tuple(
    dict.fromkeys([*(s.value for s in Status), "cancelled", "stale", *(s.value for s in JobState)])
)


def _states(planned: PlannedRun) -> tuple[str, ...]:
    """A run's status, what the scheduler says of it, and whether it is stale."""
    job = (planned.state.value,) if planned.state is not None and planned.status is Status.ACTIVE else ()
    return planned.word, *job, *(("stale",) if planned.stale else ())


def values(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Return filter -> everything that it may say of these runs, in their order."""
    planned_runs = [PlannedRun(run=run, status=Status.WAITING, reason="") for run in runs]
    there = {
        word: list(dict.fromkeys(value for planned in planned_runs for value in of(planned) if value))
        for word, of in _OF.values()
    }
    return {**there, "state": list(_STATES)}


def select(plan: Plan, filters: Filters) -> tuple[PlannedRun, ...]:
    """The runs that pass; none only where a state is asked for that no run is in.

    Raises MissingError for any other filter that matches nothing, listing what there is.
    """
    kept: Iterable[PlannedRun] = plan.runs
    for field, (word, of) in _OF.items():
        patterns: tuple[str, ...] = getattr(filters, field)
        for pattern in patterns:
            there = (
                sorted({v for planned in plan.runs for v in of(planned) if v})
                if field != "states"
                else _STATES
            )
            if not any(matches(pattern, (value,)) for value in there):
                raise MissingError(_nothing(word, pattern, list(there)))
        if patterns:
            passes = _passing(patterns)
            kept = [planned for planned in kept if passes(of(planned))]
    if filters.seeds:
        seeds = sorted({planned.run.seed for planned in plan.runs if planned.run.seed is not None})
        for seed in filters.seeds:
            if seed not in seeds:
                raise MissingError(_nothing("seed", str(seed), [str(s) for s in seeds]))
        kept = [planned for planned in kept if planned.run.seed in filters.seeds]
    kept = tuple(kept)
    if not kept and not filters.states:
        raise MissingError(f"no run of experiment {plan.experiment} matches all filters together; remove one")
    return kept


def with_upstream(plan: Plan, chosen: Iterable[PlannedRun]) -> frozenset[str]:
    """Names of the chosen runs and of everything that they need."""
    by_name = {planned.run.name: planned for planned in plan.runs}
    todo, names = [planned.run.name for planned in chosen], set()
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += by_name[name].run.upstream
    return frozenset(names)


def _passing(patterns: tuple[str, ...]) -> Callable[[tuple[str, ...]], bool]:
    """Return a function that tells whether values pass one of the patterns. Thousands of runs have the same
    ones: each is tried once."""
    return functools.cache(lambda values: any(matches(pattern, values) for pattern in patterns))


def matches(pattern: str, values: tuple[str, ...]) -> bool:
    """Return whether one of the values is the pattern, or passes it as a glob."""
    return any(value and (value == pattern or fnmatchcase(value, pattern)) for value in values)


def _nothing(word: str, pattern: str, valid: list[str]) -> str:
    shown = ", ".join(valid[:20]) + (f" and {len(valid) - 20} more" if len(valid) > 20 else "")
    text = pattern if pattern.isprintable() else repr(pattern)[1:-1]  # one line, whatever was typed
    return f"no {word} matches '{text}'{nearest(pattern, valid)}; there are: {shown or 'none'}"


def one_run(plan: Plan, name: str) -> PlannedRun:
    """Return the run with this name. Raise MissingError with the nearest one."""
    by_name = {planned.run.name: planned for planned in plan.runs}
    if name not in by_name:
        raise MissingError(
            f"experiment {plan.experiment} has no run '{clean(name)}'{nearest(name, by_name)}; "
            f"`ddqjobs plan {plan.experiment}` lists them"
        )
    return by_name[name]
