"""Decide whether a run that failed is started again, by the retry budget of its class of failure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ddqjobs.spec.model import FailureClass, Run, TaskKind
from ddqjobs.store.ledger import Finished

# How often a run is started again after failures of a class, beyond its first start. A class that says
# that the run itself is wrong (code, data, environment, ...) has none: a retry would only burn GPU hours.
BUDGETS: dict[FailureClass, int] = {
    FailureClass.PREEMPTED: 20,
    FailureClass.TIMEOUT: 10,
    FailureClass.NODE: 3,
    FailureClass.STORAGE: 3,
    FailureClass.NETWORK: 3,
    FailureClass.HANG: 2,
    FailureClass.LIMIT: 1,
    FailureClass.UNKNOWN: 1,
    FailureClass.OUT_OF_MEMORY: 0,
    FailureClass.ENVIRONMENT: 0,
    FailureClass.DATA: 0,
    FailureClass.CODE: 0,
    FailureClass.DIVERGED: 0,
    FailureClass.CANCELLED: 0,
    FailureClass.NO_PRODUCT: 0,
}


class Retry(NamedTuple):
    """The consequence of a run's failures, the reason, and the class of the last one."""

    allowed: bool
    reason: str
    failure: FailureClass


def after(run: Run, failures: Sequence[Finished]) -> Retry | None:
    """Return whether a run may be started again after its failures: while its last class has budget left, and
    only if there was progress; None for a run that has none."""
    own = [f for f in failures if f.failure is not FailureClass.DEPENDENCY]
    if not own:
        return None
    last = own[-1]
    kind = last.failure or FailureClass.UNKNOWN
    same = [f for f in own if f.failure is last.failure]
    budget = BUDGETS.get(kind, 0)
    # Progress is told by checkpoints, which trainings leave. Others begin anew: what a time limit was too
    # short for twice it is too short for.
    told = run.kind is TaskKind.TRAIN or kind is FailureClass.TIMEOUT
    stuck = told and len(same) > 1 and same[-1].progress <= same[-2].progress
    cause = last.reason if kind is FailureClass.CANCELLED else f"{kind.value}: {last.reason}"
    if len(same) <= budget and not stuck:
        return Retry(True, f"retry {len(same)} of {budget} after {cause}", kind)
    why = ""
    if stuck and budget:
        why = "; no progress since the failure before, so it is not retried"
    elif budget:
        why = f"; all {budget} retries are used up"
    return Retry(False, f"{cause}{why}", kind)
