"""Jobs to hold or to release -> the words that ``scontrol`` is given, one call each. Pure.

Elements of an array that still wait together are one record of the controller. To take some out it splits
them off one by one, which took 0.15 s each where it was measured (22.05), and it answers nobody meanwhile:
past the clients' patience (MessageTimeout, 10 s) the answer is lost. All of them at once cost nothing. So
an array is named as a whole where all that waits of it is meant, else page by page.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeVar

PAGE = 25  # elements of an array, or jobs that are no arrays
T = TypeVar("T")


def pages(jobs: Iterable[str], alike: Collection[str]) -> Iterator[str]:
    """Expressions such as ``20_[0-999]`` or ``3,4,5`` that together name ``jobs``. ``alike`` are all jobs in
    the queue that are in the same state."""
    single, chosen = _by_array(jobs)
    _, whole = _by_array(alike)
    for batch in _chunks(single):
        yield ",".join(batch)
    for array, indices in chosen.items():
        for part in [indices] if indices == whole.get(array) else _chunks(indices):
            yield f"{array}_[{ranges(part)}]"


def ranges(indices: Sequence[int]) -> str:
    """Ascending indices as Slurm writes them: ``0-3,7``."""
    parts = []
    for _, run in itertools.groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        parts.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(parts)


def _by_array(jobs: Iterable[str]) -> tuple[list[str], dict[str, list[int]]]:
    """(jobs that are no elements, array -> ascending indices)."""
    single: list[str] = []
    arrays: dict[str, list[int]] = {}
    for job in dict.fromkeys(jobs):
        array, _, index = job.partition("_")
        if index:
            arrays.setdefault(array, []).append(int(index))
        else:
            single.append(job)
    return single, {array: sorted(indices) for array, indices in arrays.items()}


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))
