"""Give the machine's resources to jobs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.local.records import Settings, Slots
from ddqjobs.spec.model import Resources

_DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each


def cpus(declared: int) -> int:
    """CPU slots: as declared, else as many as we may run on."""
    return declared or len(os.sched_getaffinity(0))


def gpus(declared: int) -> tuple[int, ...]:
    """Indices of the GPUs that jobs may use: what nvidia-smi finds, within CUDA_VISIBLE_DEVICES, and the
    first ``declared`` of them if that is not 0. Empty without nvidia-smi.
    Raises SchedulerError if that fails."""
    answer = process.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], timeout=60)
    if answer.code == process.NOT_STARTED:
        return ()
    numbers = answer.stdout.split()
    if answer.timed_out or answer.code or not all(number.isdigit() for number in numbers):
        said = (answer.stderr or answer.stdout).strip() or "nothing"
        raise SchedulerError(f"nvidia-smi ended with exit code {answer.code} and said: {said}")
    indices = _visible([int(number) for number in numbers])
    return tuple(indices[:declared] if declared else indices)


def gpu_type() -> str:
    """Return the name of the first GPU, as nvidia-smi has it; empty if there is none."""
    answer = process.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], timeout=60)
    return next(iter(answer.stdout.splitlines()), "").strip() if not answer.code else ""


def seen(declared: int) -> int | None:
    """Return how many GPUs :func:`gpus` would find, from the driver's files alone; None if they do not
    tell, as in some containers."""
    if shutil.which("nvidia-smi") is None:
        return 0
    there = len(list(_DRIVER.glob("*")))
    if not there:
        return None
    count = len(_visible(list(range(there))))
    return min(declared, count) if declared else count


def _visible(indices: list[int]) -> list[int]:
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return indices
    named = [device.strip() for device in wanted.split(",") if device.strip()]
    devices = list(takewhile(lambda device: device != "-1", named))  # CUDA sees none behind it
    if not all(device.isdigit() for device in devices):  # UUIDs name no index
        return indices
    return [index for index in indices if str(index) in devices]


class Free:
    """Slots nobody occupies. CPUs are counted, GPUs are named."""

    def __init__(self, settings: Settings, occupied: Iterable[Slots]) -> None:
        taken = list(occupied)
        used = {index for slots in taken for index in slots.gpus}
        self._all = settings
        self.cpus = settings.cpus - sum(slots.cpus for slots in taken)
        self.gpus = [index for index in settings.gpus if index not in used]

    def take(self, asked: Resources) -> Slots | None:
        """Slots for a start, or None if they are not free now.

        More CPUs than the machine has are as many as it has: the work is done, only slower.
        """
        cpu_count = max(1, min(asked.cpus, self._all.cpus))
        if cpu_count > self.cpus or asked.gpus > len(self.gpus):
            return None
        self.cpus -= cpu_count
        taken, self.gpus = self.gpus[: asked.gpus], self.gpus[asked.gpus :]
        return Slots(cpus=cpu_count, gpus=tuple(taken))
