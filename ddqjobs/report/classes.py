"""AP by class of the tests whose predictions were evaluated, and where two codes differ most. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ddqjobs.report.lookup import REFERENCE
from ddqjobs.report.recomputed import Recomputed
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import PlannedRun, Status, TaskKind


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """A class in a phase that is compared with another: AP of both in points, means over seeds."""

    phase: str
    against: str
    model: str
    variant: str
    name: str  # of the class
    ap: float
    other: float
    difference: float


def class_rows(
    experiment: Experiment, picked: Iterable[PlannedRun], found: Mapping[str, Recomputed]
) -> tuple[ClassRow, ...]:
    """Return a row per phase, model, variant and class that both sides have, the largest difference first."""
    sides: dict[tuple[str, str, str], list[Mapping[str, float]]] = {}
    for p in picked:
        run = p.run
        if run.kind is TaskKind.TEST and p.status is Status.DONE and run.name in found:
            sides.setdefault((run.phase, run.model, run.variant), []).append(found[run.name].classes)
    means = {place: _means(classes) for place, classes in sides.items()}
    return tuple(sorted(_rows(experiment, means), key=lambda row: -abs(row.difference)))


def _rows(
    experiment: Experiment, means: Mapping[tuple[str, str, str], Mapping[str, float]]
) -> Iterator[ClassRow]:
    for (phase, model, variant), ours in means.items():
        section = experiment.phases.get(phase)
        if section is None or section.against == REFERENCE:
            continue
        places = ((section.against, model, wanted) for wanted in (variant, "default"))
        theirs = next((means[place] for place in places if place in means), {})
        for name in ours:
            if name in theirs:
                yield ClassRow(
                    phase=phase,
                    against=section.against,
                    model=model,
                    variant=variant,
                    name=name,
                    ap=100 * ours[name],
                    other=100 * theirs[name],
                    difference=100 * (ours[name] - theirs[name]),
                )


def _means(classes: list[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each class that all have."""
    names = [name for name in classes[0] if all(name in each for each in classes)]
    return {name: sum(each[name] for each in classes) / len(classes) for name in names}
