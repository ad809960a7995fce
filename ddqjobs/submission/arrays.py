"""Group the runs that share a submission, as elements of one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddqjobs.schedulers.base import Capabilities
from ddqjobs.spec.model import PlannedRun, Resources, Run
from ddqjobs.spec.site import Site
from ddqjobs.submission.script import on_site

MOST_APART = 4  # times the shortest run of an array that its longest may take: one waits for all of an array
_LEAST_HOURS = 0.25  # shorter runs are alike, however short
Place = tuple[str, int]  # (array, index) of a run in the queue or about to be; -1 where it is no array


def batches(
    picks: Sequence[PlannedRun],
    site: Site,
    able: Capabilities,
    jobs: Mapping[str, str] | None = None,
) -> list[tuple[Resources, list[Run]]]:
    """Runs of one submission each: same depth below the picks, same resources, hours of a kind
    (:func:`as_long`), at most an array's size, and dependencies that the scheduler can say of an array
    (:func:`alike`). ``jobs`` are in the queue already."""
    depth: dict[str, int] = {}
    groups: dict[tuple[int, Resources], list[Run]] = {}
    for planned in picks:
        run = planned.run
        depth[run.name] = 1 + max((depth[up] for up in run.upstream if up in depth), default=-1)
        groups.setdefault((depth[run.name], on_site(run.resources, site)), []).append(run)
    size = (site.limits.array_size or 1000) if able.arrays else 1
    places = {run: _place(job) for run, job in (jobs or {}).items()}
    submissions: list[tuple[Resources, list[Run]]] = []
    for (_, resources), runs in sorted(groups.items(), key=lambda item: item[0][0]):
        parts = (
            [runs] if able.own_dependencies else [part for r in as_long(runs) for part in alike(r, places)]
        )
        for similar in parts:
            for start in range(0, len(similar), size):
                batch = similar[start : start + size]
                first = 0 if able.own_dependencies else _first(batch, places)
                places.update(
                    (run.name, (f"new {len(submissions)}", i)) for i, run in enumerate(batch, first)
                )
                submissions.append((resources, batch))
    return submissions


def _place(job: str) -> Place:
    array, _, index = job.rpartition("_")
    return (array, int(index)) if array and index.isdecimal() else (job, -1)


def first_index(runs: Sequence[Run], jobs: Mapping[str, str]) -> int:
    """Return the index of a submission's first element: that of the jobs in the queue which the elements wait
    for one by one, so that a scheduler can say so of the array; else 0."""
    return _first(runs, {run: _place(job) for run, job in jobs.items()})


def _first(runs: Sequence[Run], places: Mapping[str, Place]) -> int:
    if len(runs) < 2:
        return 0  # no array: nothing tells its script an index
    before = [_before(run, places) for run in runs]
    arrays, first = before[0]
    follows = all(known == (arrays, first + i) for i, known in enumerate(before))
    return max(first, 0) if arrays and follows else 0


def _before(run: Run, places: Mapping[str, Place]) -> tuple[tuple[str, ...], int]:
    """Return the arrays that a run waits for, and the index that all of them share; -1 if they share none."""
    before = [places[up] for up in run.upstream if up in places]
    indices = {index for _, index in before}
    return tuple(array for array, _ in before), indices.pop() if len(indices) == 1 else -1


def as_long(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs parted so that the hours of none are more than four times those of another, as far as they are
    declared; in the order given, within a part and of the parts."""
    known = sorted({max(run.hours, _LEAST_HOURS) for run in runs if run.hours is not None})
    shortest: dict[float, float] = {}  # hours -> the shortest of its part
    for hours in known:
        first = next(reversed(shortest.values()), hours)
        shortest[hours] = hours if hours > MOST_APART * first else first
    parts: dict[float | None, list[Run]] = {}
    for run in runs:
        part = None if run.hours is None else shortest[max(run.hours, _LEAST_HOURS)]
        parts.setdefault(part, []).append(run)
    return list(parts.values())


def alike(runs: Sequence[Run], places: Mapping[str, Place]) -> list[list[Run]]:
    """Runs parted so that within a part either all wait for the same runs, or one after the other for
    elements of another array whose indices follow each other, from whichever on. A scheduler says
    dependencies of a whole array: one that mixes others would let each element wait for all, and fail with
    any.

    ``places`` says where the runs are that are in the queue, or submitted just before. Whatever else a run
    needs is done.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(up for up in run.upstream if up in places), []).append(run)
    parts: list[list[Run]] = []
    corresponding: dict[tuple[str, ...], dict[int, Run]] = {}
    for members in groups.values():
        arrays, index = _before(members[0], places)
        part = corresponding.setdefault(arrays, {})
        if len(members) == 1 and index >= 0 and index not in part:
            part[index] = members[0]
        else:
            parts.append(members)
    return [*(stretch for part in corresponding.values() for stretch in _stretches(part)), *parts]


def _stretches(by_index: Mapping[int, Run]) -> list[list[Run]]:
    """Return the runs in parts whose indices follow each other without a gap."""
    stretches: list[list[Run]] = []
    for index in sorted(by_index):
        if index - 1 not in by_index:
            stretches.append([])
        stretches[-1].append(by_index[index])
    return stretches
