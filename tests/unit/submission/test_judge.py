"""The end of tickets, judged from evidence and the scheduler's word together."""

from __future__ import annotations

import dataclasses

import pytest

from ddqjobs.base.process import myself
from ddqjobs.planning.failures import EXIT_CODES
from ddqjobs.spec.model import Attempt, FailureClass, JobState, Observation
from ddqjobs.store.history import Ticket
from ddqjobs.submission.judge import RULES, Case, failure_of, note_on_product, parting, rule_for, said_all

F = FailureClass
ENDED = Observation(state=JobState.ENDED, detail="exit 1")
QUEUED = Observation(state=JobState.QUEUED)
RUNNING = Observation(state=JobState.RUNNING)
UNKNOWN = Observation(state=JobState.UNKNOWN)
STARTED = Attempt(number=1)


def ended(failure: FailureClass, detail: str = "so it said") -> Observation:
    return Observation(state=JobState.ENDED, detail=detail, failure=failure)


def attempt(code: int | None, **keys: object) -> Attempt:
    return Attempt(number=1, exit_code=code, **keys)  # type: ignore[arg-type]


Row = tuple[Observation | None, Attempt | None, bool, bool, tuple[FailureClass, str] | None]
# What the scheduler says, the last attempt, whether the grace time is over, whether the user cancelled.
CASES: list[Row] = [
    # the script's own last word counts at once, unless the scheduler may start the job once more
    (ENDED, attempt(1), False, False, (F.CODE, "exit 1")),
    (RUNNING, attempt(1), False, False, None),
    (QUEUED, attempt(143), True, False, None),
    (UNKNOWN, attempt(143), True, False, None),
    (UNKNOWN, attempt(1, stopped=True), True, False, None),
    (UNKNOWN, attempt(1), False, False, (F.CODE, "exit 1")),
    (None, attempt(66, failure=F.DATA), False, False, (F.DATA, "an input is missing")),
    (None, attempt(66), False, False, (F.CODE, "exit 66")),  # the task's own
    (ENDED, attempt(77), False, False, (F.CODE, "exit 77")),
    (ENDED, attempt(255, stopped=True), False, True, (F.CANCELLED, "cancelled by the user")),
    (ENDED, attempt(71, failure=F.TIMEOUT), False, False,
     (F.TIMEOUT, "ended with code 75, and without a new checkpoint")),
    (ENDED, attempt(70, failure=F.NO_PRODUCT), False, False,
     (F.NO_PRODUCT, "it exited 0 without leaving its product")),
    (ENDED, attempt(71, failure=F.TIMEOUT, note="to be submitted again"), False, False,
     (F.TIMEOUT, "to be submitted again")),
    (ENDED, attempt(1, failure=F.HANG, note="no heartbeat"), False, False, (F.HANG, "no heartbeat")),
    (ENDED, attempt(143), False, True, (F.CANCELLED, "cancelled by the user")),
    (RUNNING, attempt(143), False, True, None),
    (ended(F.TIMEOUT, "2 s"), attempt(143), False, False, (F.TIMEOUT, "2 s")),
    (ended(F.PREEMPTED), attempt(1), False, False, (F.PREEMPTED, "so it said")),
    (ENDED, attempt(143, stopped=True), False, False,
     (F.TIMEOUT, "asked to stop, and ended by signal 15")),
    (ENDED, attempt(143), False, False, (F.UNKNOWN, "ended by signal 15")),
    (ENDED, attempt(1, stopped=True), False, False, (F.CODE, "exit 1")),
    # nothing is certain while the job may still run, or say more
    (RUNNING, STARTED, True, False, None),
    (UNKNOWN, STARTED, True, False, None),
    (None, STARTED, True, False, None),
    (RUNNING, attempt(0), True, False, None),
    (ENDED, STARTED, False, False, None),
    (ENDED, None, False, False, None),
    (ENDED, attempt(0), False, False, None),
    # what never started can leave nothing
    (ENDED, None, False, True, (F.CANCELLED, "cancelled by the user before it started")),
    (ended(F.CANCELLED), None, False, False, (F.CANCELLED, "cancelled by the user before it started")),
    (ended(F.DEPENDENCY), None, False, False, (F.DEPENDENCY, "so it said")),
    # after the grace time, absence counts
    (ENDED, STARTED, True, False, (F.NODE, "exit 1; its script was ended before it could say why")),
    (ENDED, STARTED, True, True, (F.CANCELLED, "cancelled by the user")),
    (ended(F.TIMEOUT), STARTED, True, False, (F.TIMEOUT, "so it said")),
    (ended(F.NODE), None, True, False, (F.NODE, "so it said")),
    (ENDED, attempt(None, marker=F.PREEMPTED, note="stopped by TERM"), True, False,
     (F.PREEMPTED, "stopped by TERM, and its job was not started again")),
    (ENDED, attempt(None, marker=F.TIMEOUT, note="stopped; requeued"), True, False,
     (F.TIMEOUT, "stopped, and its job was not started again")),
    (ENDED, attempt(None, marker=F.PREEMPTED, note="stopped by TERM"), True, True,
     (F.CANCELLED, "cancelled by the user")),
    (QUEUED, attempt(None, marker=F.PREEMPTED, note="stopped by TERM"), True, False, None),
    (ended(F.CANCELLED), attempt(None, marker=F.PREEMPTED), True, False, (F.CANCELLED, "so it said")),
    (ENDED, attempt(0), True, False, (F.NO_PRODUCT, "it ended well, but its product is not there")),
    (ENDED, None, True, False, (F.UNKNOWN, "exit 1; its script left nothing")),
    (Observation(state=JobState.ENDED), None, True, False,
     (F.UNKNOWN, "the scheduler says that it ended; its script left nothing")),
    (Observation(state=JobState.ENDED, exit_code=73), STARTED, True, False, EXIT_CODES[73]),
    (Observation(state=JobState.ENDED, exit_code=73), None, True, False, EXIT_CODES[73]),
    (Observation(state=JobState.ENDED, exit_code=73, failure=F.NODE), STARTED, True, False, EXIT_CODES[73]),
    (Observation(state=JobState.ENDED, exit_code=66), None, True, False, (F.DATA, "an input is missing")),
]  # fmt: skip


def a_case(observation: Observation | None, last: Attempt | None, grace_over: bool, cancelled: bool) -> Case:
    ticket = Ticket("a.0", "a", 0, "r", "d", "local", 1.0, myself(), cancelled=cancelled)
    return Case(ticket, observation, last, grace_over)


@pytest.mark.parametrize(("observation", "last", "grace_over", "cancelled", "expected"), CASES)
def test_a_ticket_has_failed_when_that_is_certain(
    observation: Observation | None,
    last: Attempt | None,
    grace_over: bool,
    cancelled: bool,
    expected: tuple[FailureClass, str] | None,
) -> None:
    assert failure_of(a_case(observation, last, grace_over, cancelled)) == expected
    assert expected is None or ":" not in expected[1]  # the one that is shown stands before it


@pytest.mark.parametrize("has_code", [True, False])  # whether the scheduler tells the exit code
def test_a_script_that_made_no_attempt_has_its_own_last_words(has_code: bool) -> None:
    ends = {}
    for code, reason in {69: "ddqjobs: setup line 2 of this site ended with code 1", 1: "no licence"}.items():
        case = a_case(
            Observation(state=JobState.ENDED, exit_code=code if has_code else None), None, True, False
        )
        output = parting(f"hello\n{reason}\n" + f"ddqjobs: exit {code}\n" * 2)
        ends[code] = failure_of(dataclasses.replace(case, parting=output))
    assert ends[69] == (F.ENVIRONMENT, "setup line 2 of this site ended with code 1")
    assert ends[1] == (
        F.UNKNOWN, "the scheduler says that it ended; its script left nothing, and said last no licence"
    )  # fmt: skip


def test_what_a_start_printed_is_not_why_a_later_one_ended() -> None:
    observation = Observation(state=JobState.ENDED, failure=F.NODE, detail="Slurm says NODE_FAIL")
    case = dataclasses.replace(a_case(observation, None, True, False), parting=parting("ddqjobs: exit 73\n"))
    assert failure_of(case) == (F.NODE, "Slurm says NODE_FAIL")


def test_each_rule_decides_a_case_and_gives_its_reason() -> None:
    reasons = [rule.reason for rule in RULES]
    assert len(set(reasons)) == len(reasons)
    assert {rule_for(a_case(*row[:4])).reason for row in CASES} == set(reasons)


@pytest.mark.parametrize(
    ("last", "observation", "grace_over", "expected"),
    [
        (attempt(0), RUNNING, False, True),
        (STARTED, RUNNING, True, False),
        (STARTED, ENDED, False, False),
        (STARTED, ENDED, True, True),
        (STARTED, UNKNOWN, False, True),
        (STARTED, None, False, True),
        (None, RUNNING, False, True),
    ],
)
def test_a_product_is_recorded_when_its_script_has_said_all(
    last: Attempt | None, observation: Observation | None, grace_over: bool, expected: bool
) -> None:
    assert said_all(last, observation, grace_over) is expected


def test_a_process_out_of_memory_beside_a_whole_product_is_a_note() -> None:
    note = "the product is whole although a process of its job ran out of memory"
    assert note_on_product(attempt(0), ended(F.OUT_OF_MEMORY)) == note
    assert note_on_product(attempt(0, note="13 rows twice"), ENDED) == "13 rows twice"
    assert note_on_product(attempt(0), ENDED) == ""
    assert note_on_product(attempt(None), ENDED).endswith("ended before its last word")
