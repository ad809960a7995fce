"""The moment from which `submit --wait` waits for nothing any more."""

from __future__ import annotations

import pytest

from ddqjobs.planning import plan as planning
from ddqjobs.spec.model import FailureClass, Plan, PlannedRun
from ddqjobs.store.claims import BEING_SUBMITTED, SUBMITTED_MEANWHILE
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord
from ddqjobs.submission.round import Outcome
from ddqjobs.submission.standstill import Movement, Standstill, movement, waits_for
from tests.support.trivial import a_run, an_end, an_intent

FAILED = (an_intent("t", "a", at=1), an_end("a", "t.0", 2, failure=FailureClass.CODE, reason="why"))


def look(*records: AnyRecord, runs: str) -> tuple[Plan, list[PlannedRun]]:
    """A plan of a, b, which needs a, and c, which needs b; and those of them that are chosen."""
    every = (a_run("a"), a_run("b", "a"), a_run("c", "b"))
    plan = planning.build(every, History(records), experiment="e", site="local")
    return plan, [planned for planned in plan.runs if planned.run.name in runs]


FULL = frozenset({"a"})  # the queue has no room for it


@pytest.mark.parametrize(
    ("records", "runs", "outcome", "expected"),
    [
        ((), "a", Outcome(submitted={"a": "1"}), Movement.OWN),
        ((an_intent("t", "a", at=1),), "ab", Outcome(), Movement.OWN),
        ((an_intent("t", "a", at=1),), "b", Outcome(), Movement.UPSTREAM),
        (FAILED, "b", Outcome(), Movement.NONE),
        ((), "b", Outcome(), Movement.NONE),
        ((), "a", Outcome(no_room=FULL, queue_limit=3), Movement.ROOM),
        ((), "a", Outcome(no_room=FULL, queue_limit=0), Movement.FULL),
        ((), "a", Outcome(refused={"a": f"{BEING_SUBMITTED} 7 on h"}), Movement.MAKING),
        ((), "a", Outcome(refused={"a": SUBMITTED_MEANWHILE}), Movement.NONE),
    ],
)
def test_what_a_look_waits_for(
    records: tuple[AnyRecord, ...], runs: str, outcome: Outcome, expected: Movement
) -> None:
    assert movement(*look(*records, runs=runs), outcome, {*"ab"}) is expected


@pytest.mark.parametrize(("asked", "expected"), [("abc", Movement.UPSTREAM), ("ac", Movement.NONE)])
def test_a_run_in_between_must_have_been_asked_for(asked: str, expected: Movement) -> None:
    assert movement(*look(an_intent("t", "a", at=1), runs="c"), Outcome(), {*asked}) is expected


def test_what_has_to_end_first_is_said() -> None:
    plan, chosen = look(an_intent("t", "a", at=1), runs="bc")
    full = Outcome(no_room=frozenset({"b"}), queue_limit=3)
    said = {kind: waits_for(kind, plan, chosen, full, {*"bc"}) for kind in Movement}
    assert {kind: line for kind, line in said.items() if line} == {
        Movement.UPSTREAM: "b, c: waiting for a (active), submitted by another command",
        Movement.ROOM: "b: waiting for other jobs of yours to end: site limit 3 jobs in queue",
    }


@pytest.mark.parametrize("kind", list(Movement))
def test_how_long_one_waits(kind: Movement) -> None:
    """For ever, as long as the scheduler is given, or for one look more."""
    patient, hasty = Standstill(3600.0), Standstill(0.0)
    for _ in range(50):
        patient.look(kind)
        hasty.look(kind)
    ended = (patient.is_over(others=False), hasty.is_over(others=False))
    expected = {Movement.NONE: (True, True), Movement.FULL: (False, True), Movement.MAKING: (False, True)}
    assert ended == expected.get(kind, (False, False))


def test_others_get_a_few_looks_more() -> None:
    standstill = Standstill(3600.0)
    standstill.look(Movement.UPSTREAM)
    for _ in range(2):
        standstill.look(Movement.NONE)
    assert not standstill.is_over(others=False)
    for _ in range(10):
        standstill.look(Movement.NONE)
    assert standstill.is_over(others=True)
