"""How tickets end: what evidence and the scheduler's word say together."""

from __future__ import annotations

import pytest

from ddqjobs.base.frozen import Owner
from ddqjobs.base.process import boot_id, myself
from ddqjobs.spec.model import Attempt, FailureClass, JobState, Observation, Status
from ddqjobs.store.claims import create_exclusively
from ddqjobs.store.history import Ticket
from ddqjobs.store.ledger import Intent, Submitted, Voided
from ddqjobs.submission.workspace import judge_failure, said_all
from tests.support.trivial import EXPERIMENT, TrivialProject

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


@pytest.mark.parametrize(
    ("seen", "last", "grace_over", "cancelled", "expected"),
    [
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
    ],
)  # fmt: skip
def test_a_ticket_has_failed_when_that_is_certain(
    seen: Observation | None,
    last: Attempt | None,
    grace_over: bool,
    cancelled: bool,
    expected: tuple[FailureClass, str] | None,
) -> None:
    ticket = Ticket("a.0", "a", 0, "r", "d", "local", 1.0, myself(), cancelled=cancelled)
    assert judge_failure(ticket, seen, last, grace_over, "") == expected


@pytest.mark.parametrize(
    ("last", "seen", "grace_over", "expected"),
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
    last: Attempt | None, seen: Observation | None, grace_over: bool, expected: bool
) -> None:
    assert said_all(last, seen, grace_over) is expected


def intended(project: TrivialProject, owner: Owner, token: str = "20260101-000000-0badcafe") -> None:
    """A submission that got as far as its intent."""
    project.open().workspace(EXPERIMENT).ledger.append(
        Intent(token=token, site="local", scheduler="local", runs=["first"], digests=["d"],
               host=owner.host, pid=owner.pid, start=owner.start, boot=owner.boot)
    )  # fmt: skip


DEAD = Owner(host=myself().host, pid=1, start=1, boot=boot_id())


def test_a_submission_that_the_scheduler_never_got_is_void(trivial: TrivialProject) -> None:
    intended(trivial, DEAD)
    assert trivial.run("first").status is Status.ELIGIBLE
    assert [r.tickets for r in trivial.records() if isinstance(r, Voided)] == [["20260101-000000-0badcafe.0"]]


def test_a_submission_that_another_host_is_making_is_left_to_it(trivial: TrivialProject) -> None:
    intended(trivial, Owner(host="elsewhere", pid=1, start=1))
    first = trivial.run("first")
    assert (first.status, first.reason) == (
        Status.ACTIVE,
        "submission not confirmed: its process has not finished",
    )


def test_a_job_that_started_although_nobody_recorded_it_is_found_by_its_claim(
    trivial: TrivialProject,
) -> None:
    intended(trivial, DEAD)
    workspace = trivial.open().workspace(EXPERIMENT)
    create_exclusively(workspace.claims.path("20260101-000000-0badcafe.0"), b"run\n4711\n")
    assert trivial.run("first").status is Status.ACTIVE
    assert [r.jobs for r in trivial.records() if isinstance(r, Submitted)] == [{"0": "4711"}]


def test_looking_twice_records_nothing_twice(trivial: TrivialProject) -> None:
    trivial.submit_all()
    before = trivial.records()
    assert trivial.plan() == trivial.plan()
    assert trivial.records() == before


def test_products_are_what_the_ledger_recorded(trivial: TrivialProject) -> None:
    trivial.submit_all()
    products = trivial.open().products(EXPERIMENT)
    assert {(name, *p.artifacts.items()) for name, p in products.items()} == {
        (name, ("out", "attempts/1/work_dir/out.txt")) for name in ("first", "second")
    }


def test_a_line_of_the_ledger_that_is_no_record_is_named_and_keeps_nobody_from_waiting(
    trivial: TrivialProject,
) -> None:
    trivial.local_site(submit_timeout="0s")  # the time for which a silent scheduler is waited for
    trivial.cli("submit", EXPERIMENT, "first")
    segment = next((trivial.results / "ledger").glob("*.jsonl"))
    number = segment.read_bytes().count(b"\n") + 1
    with segment.open("ab") as file:
        file.write(b'{"record":"of a newer version"}\n')
    said = f"{segment.name}:{number}: this version cannot read it as a record"
    waited = trivial.cli("submit", EXPERIMENT, "--wait")
    assert (waited.code, waited.stdout.count(said)) == (0, 1), waited
    assert trivial.executions() == {"first": 1, "second": 1}
    looked = trivial.cli("status", EXPERIMENT)
    assert (looked.code, looked.stderr.count(said)) == (3, 1), looked
