"""The filters that every command shares. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import msgspec

from ddqjobs.errors import MissingError, nearest
from ddqjobs.model import Frozen, Plan, PlannedRun


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
        """Whether anything is filtered at all."""
        return self != Filters()


_OF: dict[str, tuple[str, Callable[[PlannedRun], tuple[str, ...]]]] = {
    "phases": ("phase", lambda p: (p.run.phase,)),
    "models": ("model", lambda p: (p.run.model,)),
    "implementations": ("implementation", lambda p: (p.run.implementation,)),
    "tasks": ("task", lambda p: (p.run.task, p.run.kind.value)),
    "variants": ("variant", lambda p: (p.run.variant,)),
    "states": ("state", lambda p: (p.status.value, *(("stale",) if p.stale else ()))),
    "runs": ("run", lambda p: (p.run.name,)),
}


def select(plan: Plan, filters: Filters) -> tuple[PlannedRun, ...]:
    """The runs that pass. Raises MissingError for a filter that matches nothing, listing what there is."""
    kept: Iterable[PlannedRun] = plan.runs
    for field, (word, of) in _OF.items():
        patterns: tuple[str, ...] = getattr(filters, field)
        for pattern in patterns:
            if not any(matches(pattern, of(p)) for p in plan.runs):
                raise MissingError(
                    _nothing(word, pattern, sorted({v for p in plan.runs for v in of(p) if v}))
                )
        if patterns:
            kept = [p for p in kept if any(matches(pattern, of(p)) for pattern in patterns)]
    if filters.seeds:
        there = sorted({p.run.seed for p in plan.runs if p.run.seed is not None})
        for seed in filters.seeds:
            if seed not in there:
                raise MissingError(_nothing("seed", str(seed), [str(s) for s in there]))
        kept = [p for p in kept if p.run.seed in filters.seeds]
    kept = tuple(kept)
    if not kept:
        raise MissingError(
            f"no run of experiment {plan.experiment} passes all filters together; leave one out"
        )
    return kept


def without_states(filters: Filters) -> Filters:
    """The same filters but for states: a run changes its state while one waits for it."""
    return msgspec.structs.replace(filters, states=())


def with_upstream(plan: Plan, chosen: Iterable[PlannedRun]) -> frozenset[str]:
    """Names of the chosen runs and of everything that they need."""
    by_name = {p.run.name: p for p in plan.runs}
    todo, names = [p.run.name for p in chosen], set()
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += by_name[name].run.upstream
    return frozenset(names)


def matches(pattern: str, values: tuple[str, ...]) -> bool:
    """Whether one of the values is the pattern, or passes it as a glob."""
    return any(value and (value == pattern or fnmatchcase(value, pattern)) for value in values)


def _nothing(word: str, pattern: str, valid: list[str]) -> str:
    shown = ", ".join(valid[:20]) + (f" and {len(valid) - 20} more" if len(valid) > 20 else "")
    said = pattern if pattern.isprintable() else repr(pattern)[1:-1]  # one line, whatever was typed
    return f"no {word} matches '{said}'{nearest(pattern, valid)}; there are: {shown or 'none'}"
