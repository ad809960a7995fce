"""The command line of ``sbatch``: who waits for whom becomes options. Pure.

Slurm's dependencies are the submission's, not the element's. Two shapes can be said exactly: all elements
wait for the same jobs (``afterok``), and element *i* waits for element *i* of another array (``aftercorr``).
What is neither waits for everything that any element waits for: later than it must, never too early.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ddqjobs.schedulers.base import Element, Submission
from ddqjobs.schedulers.slurm import options as slurm_options
from ddqjobs.schedulers.slurm.answers import Row


def sbatch(submission: Submission) -> list[str]:
    """Return the command line that submits a submission."""
    arguments = [*options(submission.elements), *_exclude(submission)]
    return ["sbatch", "--parsable", *arguments, str(submission.script)]


def _exclude(submission: Submission) -> list[str]:
    """Nodes to keep away from. What stands on the command line replaces the script's line; and who names his
    nodes gets them."""
    named = slurm_options.of(submission.resources)
    if not submission.avoid or named.nodelist:
        return []
    return [f"--exclude={','.join([*submission.avoid, *filter(None, [named.exclude])])}"]


_SHOWN = re.compile(r"after(?:ok|corr):(\d+)(?:_[\d*]+)?(?:\(\w+\))?")  # of what sbatch was told above


def waits_only_for(shown: str, ours: Collection[str]) -> bool:
    """Return whether a dependency, as squeue shows it, is of the kinds that we ask for, on our jobs alone.

    >>> waits_only_for("aftercorr:1_*(unfulfilled),afterok:7(unfulfilled)", {"1", "7"})
    True
    >>> others = ("", "singleton", "afterok:1,afterok:9", "afterok:1(unfulfilled)?afterok:9", "afterok:1:9")
    >>> any(waits_only_for(shown, {"1"}) for shown in others)
    False
    """
    parts = [_SHOWN.fullmatch(part) for part in re.split(r",(?=[a-z])", shown)]
    return all(part is not None and part[1] in ours for part in parts)


def freeable(waiting: Mapping[str, Row], jobs: Mapping[str, str], ours: Collection[str]) -> list[str]:
    """Return those of the jobs (job -> token) that carry their token and wait for our jobs alone."""
    return [
        job
        for job, token in jobs.items()
        if (row := waiting.get(job)) and token in row.marks and waits_only_for(row.reason, ours)
    ]


def jobs_before(elements: Sequence[Element]) -> tuple[str, ...]:
    """All jobs that any element waits for, once each, in order."""
    return tuple(dict.fromkeys(job for element in elements for job in element.after))


def options(elements: Sequence[Element]) -> list[str]:
    """The words of the command line that say so; none if nothing is waited for."""
    before = jobs_before(elements)
    if not before:
        return []
    arrays = {array for job in before if "_" in job and (array := job.partition("_")[0])}
    matched = sorted((a for a in arrays if len(elements) > 1 and _corresponds(elements, a)), key=_number)
    rest = [job for job in before if job.partition("_")[0] not in matched]
    kinds = [f"afterok:{':'.join(rest)}"] if rest else []
    kinds += [f"aftercorr:{array}" for array in matched]
    # Without the second option an element whose dependency failed would stay in the queue for ever.
    return [f"--dependency={','.join(kinds)}", "--kill-on-invalid-dep=yes"]


def _number(job: str) -> tuple[int, str]:
    return len(job), job


def _corresponds(elements: Sequence[Element], array: str) -> bool:
    """Return whether each element waits for just its own index of that array. An index that the array has not
    got would simply run, so none may be without."""
    return all(
        [job for job in element.after if job.partition("_")[0] == array] == [f"{array}_{element.index}"]
        for element in elements
    )
