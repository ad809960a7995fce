"""AP by class of the tests whose predictions were evaluated, and where two codes differ most. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ddqjobs.report.lookup import REFERENCE, Desk, Place
from ddqjobs.report.recomputed import Recomputed
from ddqjobs.spec.model import PlannedRun, Status, TaskKind


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """A class in a phase that is compared with another: AP of both in points, means over seeds."""

    phase: str
    """Name of the phase. Example: '4'"""
    implementation: str
    """Name of the implementation. Example: new"""
    task: str
    """Name of the test task. Example: p4-test"""
    against: str
    """Name of the phase that it is compared with. Example: '3'"""
    model: str
    """Name of the model. Example: ddq-detr-4scale"""
    variant: str
    """Name of the variant; `default` if the experiment declares none. Example: default"""
    name: str
    """Name of the class. Example: person"""
    ap: float
    """AP of the class in this phase, in points, mean over seeds. Example: 55.1"""
    other: float
    """AP of the class in the other phase, in points, mean over seeds. Example: 55.4"""
    difference: float
    """`ap` minus `other`, in points. Example: -0.3"""


def class_rows(
    desk: Desk, picked: Iterable[PlannedRun], recomputed: Mapping[str, Recomputed]
) -> tuple[ClassRow, ...]:
    """Return a row per cell of the AP table and class that both sides have, the largest difference first."""
    ours: dict[tuple[Place, str], list[PlannedRun]] = {}
    for planned in picked:
        run = planned.run
        place = (run.phase, run.implementation, run.model, run.variant)
        ours.setdefault((place, run.task), []).append(planned)
    rows = [row for (place, task), runs in ours.items() for row in _rows(desk, place, task, runs, recomputed)]
    return tuple(sorted(rows, key=lambda row: -abs(row.difference)))


def _rows(
    desk: Desk, place: Place, task: str, runs: Iterable[PlannedRun], recomputed: Mapping[str, Recomputed]
) -> Iterator[ClassRow]:
    phase, implementation, model, variant = place
    section = desk.experiment.phases.get(phase)
    if section is None or section.against == REFERENCE:
        return
    mine = _means(runs, recomputed)
    theirs = _means(desk.opposite(place, section.against, task), recomputed) if mine else {}
    for name in mine:
        if name in theirs:
            yield ClassRow(
                phase=phase,
                implementation=implementation,
                task=task,
                against=section.against,
                model=model,
                variant=variant,
                name=name,
                ap=100 * mine[name],
                other=100 * theirs[name],
                difference=100 * (mine[name] - theirs[name]),
            )


def _means(runs: Iterable[PlannedRun], recomputed: Mapping[str, Recomputed]) -> dict[str, float]:
    """Return the mean of each class that all tests have of which classes are known."""
    tests = [
        planned.run.name
        for planned in runs
        if planned.run.kind is TaskKind.TEST and planned.status is Status.DONE
    ]
    classes = [known for name in tests if name in recomputed and (known := recomputed[name].classes)]
    names = [name for name in classes[0] if all(name in each for each in classes)] if classes else []
    return {name: sum(each[name] for each in classes) / len(classes) for name in names}
