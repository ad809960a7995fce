"""The expected cost of runs: learnt, declared or not known."""

from __future__ import annotations

from typing import Any

import pytest

from ddqjobs.planning.estimate import Estimate, estimates
from ddqjobs.spec.model import Resources
from ddqjobs.store.history import History
from tests.support.trivial import a_run, an_end

GPUS = Resources(gpus=4, nodes=2)


def costs(*ends: tuple[str, float], **keys: Any) -> Estimate:
    """The estimate of a run after others took so many hours."""
    keys = {"resources": GPUS, **keys}
    runs = [a_run(f"old{n}", resources=GPUS, model="m") for n in range(len(ends))]
    records = [
        an_end(f"old{n}", f"t{n}", n + 1, started_at=1000.0, ended_at=1000.0 + hours * 3600)
        for n, (_, hours) in enumerate(ends)
    ]
    return estimates([*runs, a_run("new", model=keys.pop("model", "m"), **keys)], History(records))["new"]


@pytest.mark.parametrize(
    ("ends", "keys", "expected"),
    [
        ((), {}, Estimate(gpu_hours=None)),
        ((), {"hours": 1.5}, Estimate(gpu_hours=12.0, source="declared")),
        ((("a", 1.0), ("b", 3.0)), {"hours": 100}, Estimate(gpu_hours=16.0, source="learnt")),
        ((("a", 1.0),), {"model": "other"}, Estimate(gpu_hours=None)),
        ((("a", 1.0),), {"task": "other"}, Estimate(gpu_hours=None)),
        ((("a", 1.0),), {"resources": Resources(gpus=1)}, Estimate(gpu_hours=None)),
        ((("a", 0.0),), {}, Estimate(gpu_hours=None)),
        ((), {"resources": Resources(), "hours": 3}, Estimate(gpu_hours=0.0)),
    ],
)
def test_a_run_costs_what_runs_like_it_took_else_what_is_declared(
    ends: tuple[tuple[str, float], ...], keys: dict[str, Any], expected: Estimate
) -> None:
    assert costs(*ends, **keys) == expected
