"""Stale results that a user declares valid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.process import user
from ddqjobs.base.secrets import masked
from ddqjobs.planning import digest as digests
from ddqjobs.spec.model import Plan, PlannedRun
from ddqjobs.store.history import History
from ddqjobs.store.ledger import Accepted
from ddqjobs.submission.workspace import Workspace


def accept(workspace: Workspace, runs: Sequence[PlannedRun], because: str) -> Plan:
    """Declare the stale ones among runs valid as they are; return these as they are afterwards. Raise
    InputError without a reason."""
    if not because.strip():
        raise InputError("--because needs the reason why these results are still valid")
    plan = workspace.plan(refresh=False)
    names = {planned.run.name for planned in runs if planned.stale and not planned.gone}
    todo = names
    while todo:
        # Upstream first: what else changed in a run is known once what it was made from counts.
        stale = [planned for planned in plan.runs if planned.run.name in todo and planned.stale]
        now = [planned for planned in stale if todo.isdisjoint(planned.run.upstream)]
        history = workspace.store.history()
        workspace.store.ledger.append(*(_acceptance(planned, history, because) for planned in now))
        todo = {planned.run.name for planned in stale} - {planned.run.name for planned in now}
        plan = workspace.plan(refresh=False)
    return msgspec.structs.replace(
        plan, runs=tuple(planned for planned in plan.runs if planned.run.name in names)
    )


def _acceptance(planned: PlannedRun, history: History, because: str) -> Accepted:
    end = history.of(planned.run.name).done
    assert end is not None
    assert end.product is not None
    return Accepted(
        run=planned.run.name,
        ticket=end.ticket,
        digest=planned.run.digest,
        parts=list(digests.changed(end.product.digest, planned.run.digest)),
        because=masked(" ".join(because.split())),
        by=user(),
    )
