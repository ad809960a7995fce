"""The command line of ``sbatch``: who waits for whom becomes options. Pure.

Slurm's dependencies are the submission's, not the element's. Two shapes can be said exactly: all elements
wait for the same jobs (``afterok``), and element *i* waits for element *i* of another array (``aftercorr``).
What is neither waits for everything that any element waits for: later than it must, never too early.
"""

from __future__ import annotations

from collections.abc import Sequence

from ddqjobs.schedulers.base import Element, Submission
from ddqjobs.schedulers.slurm import options as slurm_options


def sbatch(submission: Submission) -> list[str]:
    """Return the command line that submits a submission."""
    words = [*options(submission.elements), *_exclude(submission)]
    return ["sbatch", "--parsable", *words, str(submission.script)]


def _exclude(submission: Submission) -> list[str]:
    """Nodes to keep away from. What stands on the command line replaces the script's line; and who names his
    nodes gets them."""
    named = slurm_options.of(submission.resources)
    if not submission.avoid or named.nodelist:
        return []
    return [f"--exclude={','.join([*submission.avoid, *filter(None, [named.exclude])])}"]


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
