"""Canaries: for each code with trainings one run of 20 iterations on one GPU, before many start. Pure.

A canary is a run as any other, with a name, a digest, attempts and a product; it belongs to the plan from the
moment it is submitted. It is made from the first training of its code that needs no other training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.spec.code import Canary
from ddqjobs.spec.experiment import CANARY, Experiment
from ddqjobs.spec.model import Plan, PlannedRun, Resources, Run, Status, TaskKind
from ddqjobs.spec.table import Scalar

ITERATIONS = 20
_OUR_TRAINING = "ddqjobs.detect.train"
_TIME_S = 1800


def canaries(experiment: Experiment, runs: Sequence[Run]) -> tuple[Run, ...]:
    """One run per code that has trainings and of which it is known how to end one early; ``runs`` come
    upstream first."""
    by_name = {run.name: run for run in runs}
    needs_training: set[str] = set()
    for run in runs:
        if any(up in needs_training or by_name[up].kind is TaskKind.TRAIN for up in run.upstream):
            needs_training.add(run.name)
    chosen: dict[str, Run] = {}
    for run in sorted(runs, key=lambda r: (r.name in needs_training, r.optional)):  # stable
        if run.kind is TaskKind.TRAIN:
            chosen.setdefault(run.code, run)
    candidates = (_canary(run, experiment.codes[code].canary) for code, run in chosen.items())
    return tuple(run for run in candidates if run is not None)


def _canary(run: Run, declared: Canary | None) -> Run | None:
    """None if nothing would end such a training early, or prove that it came so far."""
    declared = declared or Canary()
    command = tuple(declared.command or run.command)
    products = dict(declared.products)
    if _OUR_TRAINING in command:
        after = command.index(_OUR_TRAINING) + 1
        command = (*command[:after], "--iterations", str(ITERATIONS), *command[after:])
        products["canary"] = "canary.json"
    if not products:
        return None
    return msgspec.structs.replace(
        run,
        name=f"{CANARY}.{run.code}",
        task=CANARY,
        kind=TaskKind.SMOKE,
        phase="",
        command=command,
        options=_options(run.options, declared.options),
        products=tuple(products.items()),
        tolerances=(),
        resources=_on_one_gpu(run.resources),
        optional=True,
        comparable=False,
        hours=None,
    )


def _options(options: Iterable[str], more: Mapping[str, Scalar]) -> tuple[str, ...]:
    keys = {key.removeprefix("+") for key in more}
    kept = [word for word in options if word.partition("=")[0].removeprefix("+") not in keys]
    return (*kept, *(f"{key}={value}" for key, value in more.items()))


def _on_one_gpu(r: Resources) -> Resources:
    """A GPU's share of what the training asks for; a training without GPUs asks for as much as it does."""
    share = max(1, r.gpus)
    return Resources(
        gpus=min(1, r.gpus),
        cpus=-(-r.cpus // share),
        memory_mb=-(-r.memory_mb // share),
        time_s=min(r.time_s, _TIME_S),
        sections=r.sections,
    )


def needed(plan: Plan, wanted: Iterable[Run]) -> tuple[PlannedRun, ...]:
    """The canaries of the trainings among the wanted runs that are still to start; ``plan`` has them all.

    Raises InputError for codes that have none.
    """
    states = {planned.run.name: planned.status for planned in plan.runs}
    over = (Status.DONE, Status.ACTIVE)
    codes = dict.fromkeys(r.code for r in wanted if r.kind is TaskKind.TRAIN and states[r.name] not in over)
    there = {planned.run.code: planned for planned in plan.runs if planned.run.task == CANARY}
    missing = [code for code in codes if code not in there]
    if missing:
        code = missing[0]
        raise InputError(
            f"code {code} declares no canary; add codes.{code}.canary with options that stop a training "
            "after some iterations and products that prove it (`ddqjobs docs operations`), or omit --canary"
        )
    return tuple(there[code] for code in codes)
