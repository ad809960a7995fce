"""Nodes that are avoided: two different runs were lost or hung there, not long ago."""

from __future__ import annotations

import pytest

from ddqjobs.planning.bad_nodes import bad_nodes
from ddqjobs.spec.model import FailureClass as F
from ddqjobs.spec.model import JobState
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Observed
from tests.support.trivial import an_end, an_intent


def failures(*ends: tuple[str, str, F, float]) -> dict[str, tuple[str, ...]]:
    """Return the bad nodes at 1,000 s, with a memory of 100 s, after these: (run, node, class, time)."""
    records: list[AnyRecord] = []
    for n, (run, node, failure, at) in enumerate(ends):
        records += [
            an_intent(f"t{n}", run, at=1),
            Observed(ticket=f"t{n}.0", state=JobState.RUNNING, node=node, at=2),
            an_end(run, f"t{n}.0", at, failure=failure),
        ]
    return bad_nodes(History(records).tickets.values(), now=1000.0, window_s=100.0)


@pytest.mark.parametrize("failure", [F.NODE, F.HANG])
def test_two_runs_make_a_node_bad(failure: F) -> None:
    assert failures(("a", "n1", failure, 990), ("b", "n1", failure, 995)) == {"n1": ("a", "b")}


@pytest.mark.parametrize(
    "second",
    [
        ("a", "n1", F.NODE, 995),  # the same run: perhaps it is at fault
        ("b", "n2", F.NODE, 995),  # elsewhere
        ("b", "n1", F.CODE, 995),  # its own fault
        ("b", "n1", F.TIMEOUT, 995),
        ("b", "n1", F.NODE, 850),  # long ago
        ("b", "n[1-2]", F.NODE, 995),  # one of two nodes: who knows which
        ("b", "n1(8)", F.NODE, 995),  # some scheduler's way to write something more
        ("b", "", F.NODE, 995),
    ],
)
def test_anything_else_does_not(second: tuple[str, str, F, float]) -> None:
    assert failures(("a", "n1", F.NODE, 990), second) == {}
