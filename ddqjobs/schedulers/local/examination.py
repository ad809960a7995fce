"""Compare what the machine has for jobs with what runs ask for, for `ddqjobs doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddqjobs.base.findings import Line, error, ok
from ddqjobs.base.units import counted
from ddqjobs.schedulers.local import slots
from ddqjobs.schedulers.local.options import Local
from ddqjobs.spec.model import Run


def examine(local: Local, runs: Sequence[Run]) -> Iterator[Line]:
    """Yield the slots, or the runs that will never get theirs."""
    cpus, gpus = slots.cpus(local.cpus), len(slots.gpus(local.gpus))
    names = [run.name for run in runs if run.resources.gpus > gpus]
    if names:
        yield error(
            "slots",
            f"{counted(len(names), 'run')} with more GPUs than the {gpus} here, first {names[0]}",
            "choose another --site, or leave these runs out",
        )
    else:
        yield ok("scheduler", f"this machine has {cpus} CPUs and {gpus} GPUs for jobs")
