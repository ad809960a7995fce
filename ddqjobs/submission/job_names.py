"""The names of jobs in a scheduler's queue. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ddqjobs.spec.model import Run

_LONGEST = 100  # characters before the token: Slurm's accounting keeps 255 in all
_TASKS = 3  # of an array that its name has


def job_name(runs: Sequence[Run]) -> str:
    """Return a job's display name: the experiment, and the run or the tasks, as many as have room."""
    above = f"{runs[0].experiment}."
    if len(runs) == 1:
        return above + runs[0].name
    tasks = list(dict.fromkeys(run.task for run in runs))
    fitting = (n for n in range(_TASKS, 1, -1) if len(above + _first(tasks, n)) <= _LONGEST)
    return above + _first(tasks, next(fitting, 1))


def _first(tasks: Sequence[str], shown: int) -> str:
    """Return the first tasks and how many more there are, in characters that directive lines take.

    >>> _first(["a", "b", "c"], 3), _first(["a", "b", "c"], 2)
    ('a+b+c', 'a+b+1more')
    """
    more = len(tasks) - shown
    return "+".join([*tasks[:shown], *[f"{more}more"] * (more > 0)])


def with_token(name: str, token: str) -> str:
    """Return the name that the scheduler is told: by its end a submission is found again. ``djob`` knows no
    comment, and Slurm's accounting keeps comments only where it was told to."""
    return f"{name[:_LONGEST]}.{token}"
