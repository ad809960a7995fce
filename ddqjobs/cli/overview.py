"""Open `plan` and `status`: tasks by state, with the GPU hours to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ddqjobs.base.narrow import stacked
from ddqjobs.base.text import GAP, widths
from ddqjobs.base.units import counted
from ddqjobs.cli.output import table

if TYPE_CHECKING:
    from ddqjobs.cli.selection import Selection
    from ddqjobs.planning.estimate import Estimate
    from ddqjobs.spec.model import PlannedRun

RUNS = Annotated[
    bool, typer.Option("--runs", help="List every run; with a filter the selected runs are always listed.")
]
HOW_TO_LIST = "--runs lists every run, a filter those that it leaves"
# The order in which a run moves through them, as far as there is one.
_ORDER = (
    "done", "active", "running", "stopped", "ended", "held", "queued", "unknown", "eligible", "waiting",
    "failed", "cancelled", "optional",
)  # fmt: skip


class Hours(NamedTuple):
    """GPU hours that are still to come, and how many runs nothing is known of."""

    known: float = 0.0
    unknown: int = 0

    def __str__(self) -> str:
        """``12.5``, ``12.5 + 2 runs``, or nothing."""
        runs = counted(self.unknown, "run") if self.unknown else ""
        return " + ".join(filter(None, (f"{self.known:.1f}" if self.known else "", runs)))

    @property
    def sentence(self) -> str:
        """``12.5 GPU hours, and 2 runs of unknown duration``."""
        more = f", and {counted(self.unknown, 'run')} of unknown duration" if self.unknown else ""
        return f"{self.known:.4g} GPU hours{more}"


def lists_runs(selection: Selection, runs: bool) -> bool:
    """Return whether the list is asked for: by ``--runs`` or by a filter."""
    return runs or selection.filters.any


def state(planned: PlannedRun) -> str:
    """Return a run's state in one word: of its job while it is active."""
    return (
        planned.state.value
        if planned.state is not None and planned.status.value == "active"
        else planned.word
    )


def to_come(
    runs: Sequence[PlannedRun], costs: Mapping[str, Estimate], going: Mapping[str, float] | None = None
) -> Hours:
    """Return what these runs still take. Optional runs that nobody submitted take nothing; ``going`` has the
    GPU hours that running ones say themselves."""
    known, unknown = 0.0, 0
    for planned in runs:
        if planned.status.value == "done" or _not_asked(planned):
            continue
        hours = (going or {}).get(planned.run.name, costs[planned.run.name].gpu_hours)
        unknown += hours is None
        known += hours or 0.0
    return Hours(known, unknown)


def overview(
    runs: Sequence[PlannedRun],
    costs: Mapping[str, Estimate],
    word: Callable[[PlannedRun], str],
    going: Mapping[str, float] | None = None,
    *,
    width: int | None,
) -> str:
    """Return a row per task and one for all. Columns are the states that occur; where a terminal is too
    narrow for them, each task has its states in words."""
    tasks: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        tasks.setdefault(planned.run.task, []).append(planned)
    named = [*tasks.items(), *([("all", list(runs))] if len(tasks) > 1 else [])]
    counted_runs = {task: _counts(several, word) for task, several in named}
    costly = any(planned.run.resources.gpus for planned in runs)
    hours = {task: (str(to_come(several, costs, going)),) if costly else () for task, several in named}
    cost = ("GPU H TO COME",) if costly else ()
    states = sorted(
        {name for counts in counted_runs.values() for name in counts},
        key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER),
    )
    header = ("TASK", *(name.upper() for name in states), *cost)
    rows = [
        (task, *(str(counts.get(name, "")) for name in states), *hours[task])
        for task, counts in counted_runs.items()
    ]
    if width is None or sum(widths(header, rows)) + len(GAP) * (len(header) - 1) <= width:
        return table(header, rows, align="l" + "r" * (len(header) - 1))
    phrases = {
        task: ", ".join(f"{counts[name]} {name}" for name in states if name in counts)
        for task, counts in counted_runs.items()
    }
    narrow = [("", task, *hours[task], phrase) for task, phrase in phrases.items()]
    return stacked(("", "TASK", *cost, "STATES"), narrow, width=width, align="llr" if costly else "lll")


def _counts(runs: Sequence[PlannedRun], word: Callable[[PlannedRun], str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for planned in runs:
        name = "optional" if _not_asked(planned) else word(planned)
        counts[name] = counts.get(name, 0) + 1
    return counts


def _not_asked(planned: PlannedRun) -> bool:
    """Return whether a run is optional and nobody submitted it."""
    return planned.run.optional and planned.status.value in ("eligible", "waiting")
