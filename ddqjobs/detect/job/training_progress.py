"""Hold how far a training is, as its logs tell. Jobs and the project use the same type. Standard library
only."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """The progress of a training; None where the log does not tell."""

    epoch: int | None = None  # None in iteration-based trainings
    iteration: int | None = None
    iterations: int | None = None  # per epoch; of all in iteration-based trainings
    eta_s: int | None = None
    loss: float | None = None
    ap: float | None = None  # last validation or test, in AP points
    epochs: int | None = None
    gpu_busy: float | None = None  # share of the time, 0 to 1
    gpu_hours: float | None = None  # so far, all attempts
    gpu_hours_to_come: float | None = None
