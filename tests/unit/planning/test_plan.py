"""The plan: every run's status and the reason, from its history."""

from __future__ import annotations

import msgspec
import pytest

from ddqjobs.planning import digest as digests
from ddqjobs.planning import plan as planning
from ddqjobs.planning.retries import BUDGETS
from ddqjobs.spec.model import WAITS, FailureClass, JobState, Plan, PlannedRun, Run, Status, TaskKind
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Cancelled, Observed, Retried, Submitted
from tests.support.trivial import DIGEST, a_run, an_end, an_intent

RUNS = (a_run("up"), a_run("down", "up"))
SUBMITTED: tuple[AnyRecord, ...] = (an_intent("a", "up", at=1), Submitted(token="a", jobs={"0": "7"}, at=2))


def plan(*records: AnyRecord, runs: tuple[Run, ...] = RUNS, missing: tuple[str, ...] = ()) -> Plan:
    return planning.build(runs, History(records), experiment="e", site="local", missing=missing)


def first(*records: AnyRecord, runs: tuple[Run, ...] = RUNS, missing: tuple[str, ...] = ()) -> PlannedRun:
    return plan(*records, runs=runs, missing=missing).runs[0]


def failures(*ends: tuple[FailureClass, int]) -> list[AnyRecord]:
    """A submission and a failure with that progress, one after the other."""
    records: list[AnyRecord] = []
    for n, (kind, progress) in enumerate(ends):
        end = an_end("up", f"t{n}.0", 2 * n + 2, failure=kind, reason="why", progress=progress)
        records += [an_intent(f"t{n}", "up", at=2 * n + 1), end]
    return records


def test_a_run_without_needs_is_eligible_and_what_comes_after_it_waits() -> None:
    up, down = plan().runs
    assert (up.status, up.reason) == (Status.ELIGIBLE, "ready: needs no earlier run")
    assert (down.status, down.reason) == (Status.WAITING, "needs up, which is eligible")


def test_a_run_whose_needs_are_done_is_eligible() -> None:
    down = plan(*SUBMITTED, an_end("up", "a.0", 3)).runs[1]
    assert (down.status, down.reason) == (Status.ELIGIBLE, "ready: all earlier runs it needs are done")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (SUBMITTED[:1], "submission not confirmed: its process has not finished"),
        (SUBMITTED, "submitted; the scheduler has not been asked yet"),
        ((*SUBMITTED, Observed(ticket="a.0", state=JobState.QUEUED, detail="waits", at=3)), "queued: waits"),
        ((*SUBMITTED, Observed(ticket="a.0", state=JobState.RUNNING, node="n1", at=3)), "running on n1"),
        ((*SUBMITTED, Observed(ticket="a.0", state=JobState.STOPPED, at=3)), "suspended by the scheduler"),
        (
            (*SUBMITTED, Observed(ticket="a.0", state=JobState.HELD, detail="JobHeldAdmin", at=3)),
            "held; `ddqjobs release` lets it start: JobHeldAdmin",
        ),
        (
            (*SUBMITTED, Observed(ticket="a.0", state=JobState.ENDED, at=3)),
            "ended; waiting for its evidence to appear",
        ),
        (
            (
                *SUBMITTED,
                Observed(ticket="a.0", state=JobState.RUNNING, at=3),
                Cancelled(tickets=["a.0"], at=4),
            ),
            "cancel requested; running",
        ),
    ],
)
def test_an_active_run_says_where_it_is(records: tuple[AnyRecord, ...], reason: str) -> None:
    planned = first(*records)
    assert (planned.status, planned.reason) == (Status.ACTIVE, reason)


def test_a_job_in_the_queue_names_the_runs_that_it_waits_for() -> None:
    records = (
        *SUBMITTED,
        an_intent("b", "down", at=3),
        Submitted(token="b", jobs={"0": "8"}, at=4),
        Observed(ticket="b.0", state=JobState.QUEUED, detail=f"{WAITS}; restart 1", at=5),
    )
    assert plan(*records).runs[1].reason == "queued: waits for up; restart 1"
    alone = plan(*records, an_end("up", "a.0", 6)).runs[1]
    assert alone.reason == f"queued: {WAITS}; restart 1"


def test_an_unknown_answer_says_since_when_and_why() -> None:
    planned = first(
        *SUBMITTED, Observed(ticket="a.0", state=JobState.UNKNOWN, detail="no answer", at=86400 * 30)
    )
    assert planned.status is Status.ACTIVE
    assert planned.reason.startswith("unknown since 1970-01-3")
    assert planned.reason.endswith(", no answer")
    assert planned.reason.count(":") == 1  # of the time


@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        ([(FailureClass.CODE, 0)], Status.FAILED, "code: why"),
        ([(FailureClass.NO_PRODUCT, 0)], Status.FAILED, "no product: why"),
        ([(FailureClass.CANCELLED, 0)], Status.FAILED, "why"),
        ([(FailureClass.NODE, 0)], Status.ELIGIBLE, "retry 1 of 3 after node: why"),
        ([(FailureClass.NODE, 1), (FailureClass.NODE, 2)], Status.ELIGIBLE, "retry 2 of 3 after node: why"),
        (
            [(FailureClass.NODE, 2), (FailureClass.NODE, 2)],
            Status.FAILED,
            "node: why; no progress since the failure before, so it is not retried",
        ),
        (
            [(FailureClass.NODE, n) for n in range(4)],
            Status.FAILED,
            "node: why; all 3 retries are used up",
        ),
        ([(FailureClass.NODE, 1), (FailureClass.HANG, 1)], Status.ELIGIBLE, "retry 1 of 2 after hang: why"),
        (
            [(FailureClass.PREEMPTED, n) for n in range(20)],
            Status.ELIGIBLE,
            "retry 20 of 20 after preempted: why",
        ),
        (
            [(FailureClass.PREEMPTED, 0), (FailureClass.PREEMPTED, 0)],
            Status.FAILED,
            "preempted: why; no progress since the failure before, so it is not retried",
        ),
        ([(FailureClass.DEPENDENCY, 0)] * 5, Status.ELIGIBLE, "ready: needs no earlier run"),
    ],
)
def test_each_class_of_failure_has_its_budget_and_none_without_progress(
    ends: list[tuple[FailureClass, int]], status: Status, reason: str
) -> None:
    training = a_run("up", kind=TaskKind.TRAIN)
    planned = first(*failures(*ends), runs=(training,))
    assert (planned.status, planned.reason) == (status, reason)


def test_what_leaves_no_checkpoints_is_retried_within_its_budget() -> None:
    assert first(*failures(*[(FailureClass.NODE, 0)] * 3)).status is Status.ELIGIBLE
    assert first(*failures(*[(FailureClass.NODE, 0)] * 4)).status is Status.FAILED


def test_a_time_limit_that_was_too_short_twice_is_not_tried_a_third_time() -> None:
    assert first(*failures((FailureClass.TIMEOUT, 0))).status is Status.ELIGIBLE
    planned = first(*failures(*[(FailureClass.TIMEOUT, 0)] * 2))
    assert planned.status is Status.FAILED
    assert planned.reason == "timeout: why; no progress since the failure before, so it is not retried"


@pytest.mark.parametrize("kind", [k for k in FailureClass if k is not FailureClass.DEPENDENCY])
def test_no_class_is_retried_more_often_than_its_budget(kind: FailureClass) -> None:
    budget = BUDGETS[kind]
    last = first(*failures(*((kind, n) for n in range(budget + 1))))
    assert last.status is Status.FAILED
    if budget:
        assert first(*failures(*((kind, n) for n in range(budget)))).status is Status.ELIGIBLE


def test_a_retry_gives_the_whole_budget_back() -> None:
    records = [*failures((FailureClass.CODE, 0)), Retried(runs=["up"], at=50)]
    assert first(*records).status is Status.ELIGIBLE


def test_what_comes_after_a_failed_run_waits_and_has_not_failed() -> None:
    dead = an_end("down", "b.0", 5, failure=FailureClass.DEPENDENCY, reason="up failed")
    down = plan(*failures((FailureClass.CODE, 0)), an_intent("b", "down", at=4), dead).runs[1]
    assert (down.status, down.reason) == (Status.WAITING, "needs up, which failed (code)")


def test_a_done_run_stays_done_and_says_what_vanished() -> None:
    planned = first(*SUBMITTED, an_end("up", "a.0", 3), missing=("up",))
    assert planned.status is Status.DONE
    assert planned.reason.startswith("product missing")


@pytest.mark.parametrize(
    ("part", "name"),
    [(0, "definition"), (1, "config"), (2, "code"), (3, "environment"), (4, "data"), (5, "upstream")],
)
def test_a_done_run_is_stale_when_something_that_decides_its_result_changed(part: int, name: str) -> None:
    parts = DIGEST.split("-")
    parts[part] = "f" * 12
    planned = first(*SUBMITTED, an_end("up", "a.0", 3, digest="-".join(parts)))
    assert planned.status is Status.DONE
    assert planned.stale == f"stale: {name} changed since it ran"


FORMER = "-".join(
    ["0" * 12, "1" * 12, "2" * 12, "0" * 12, "0" * 12, "3" * 12]
)  # of format 1, which says none
NOTE = "recorded in digest format 1: config, code, upstream not compared"


def of_today(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """The same runs with digests of the format that this version makes, as a Digester leaves them."""
    runs_by_name: dict[str, Run] = {}
    for run in runs:
        digest = f"{digests.FORMAT}:{DIGEST}"
        known = {name: upstream.digest for name, upstream in runs_by_name.items()}
        runs_by_name[run.name] = digests.with_upstream(msgspec.structs.replace(run, digest=digest), known)
    return tuple(runs_by_name.values())


def test_a_result_of_a_former_digest_format_stays_done_and_says_what_is_not_compared() -> None:
    former = (an_end("up", "a.0", 3, digest=FORMER), an_end("down", "b.0", 4, digest=FORMER))
    for planned in plan(*former, runs=of_today(RUNS)).runs:
        assert (planned.status, planned.stale, planned.notes) == (Status.DONE, "", (NOTE,))


def test_of_a_former_digest_format_too_what_surely_changed_makes_a_result_stale() -> None:
    digest = FORMER.replace("0" * 12, "f" * 12, 1)
    planned = first(an_end("up", "a.0", 3, digest=digest), runs=of_today(RUNS))
    assert (planned.stale, planned.notes) == ("stale: definition changed since it ran", ())


def test_what_was_made_from_results_of_a_former_digest_format_is_not_stale() -> None:
    up, down, last = of_today((*RUNS, a_run("last", "down")))
    made_down = digests.with_upstream(down, {"up": FORMER})
    made_last = digests.with_upstream(last, {"down": made_down.digest})
    ends = [an_end("up", "a.0", 3, digest=FORMER), an_end("down", "b.0", 4, digest=made_down.digest)]
    ends.append(an_end("last", "c.0", 5, digest=made_last.digest))
    assert [planned.stale for planned in plan(*ends, runs=(up, down, last)).runs] == ["", "", ""]
    again = an_end("up", "d.0", 6, digest=up.digest)
    stale = [planned.stale for planned in plan(*ends, again, runs=(up, down, last)).runs]
    assert stale == ["", *["stale: upstream changed since it ran"] * 2]


def test_a_repeat_that_failed_is_a_note_on_the_done_run() -> None:
    again: list[AnyRecord] = [
        an_intent("b", "up", at=4),
        an_end("up", "b.0", 5, failure=FailureClass.CODE, reason="why"),
    ]
    planned = first(*SUBMITTED, an_end("up", "a.0", 3, note="the product is whole although it died"), *again)
    assert planned.status is Status.DONE
    assert planned.notes == ("the product is whole although it died", "a later repeat failed: why")


def test_an_adopted_run_says_where_it_is_from() -> None:
    end = an_end("up", "adopted-up-1", 3)
    assert end.product is not None
    adopted = an_end("up", "adopted-up-1", 3, product=type(end.product)(
        run="up", digest=DIGEST, kind=end.product.kind, attempt=1, adopted_from="/old"))  # fmt: skip
    assert first(adopted).reason == "adopted from /old"


def test_what_needs_an_optional_run_says_so() -> None:
    runs = (a_run("up", optional=True), a_run("down", "up", optional=True))
    assert [planned.reason for planned in plan(runs=runs).runs] == [
        "optional: submitted only when named",
        "needs up, which is optional and not submitted",
    ]


def test_a_blocked_run_waits_with_its_reason_and_is_not_submitted() -> None:
    blocked_plan = planning.build(
        RUNS, History(()), experiment="e", site="s", blocked={"up": "no configuration"}
    )
    assert (blocked_plan.runs[0].status, blocked_plan.runs[0].reason) == (Status.WAITING, "no configuration")
    assert planning.submittable(blocked_plan, {"up", "down"}, graph=True) == ()


STALE = "-".join(["f" * 12] * 6)


@pytest.mark.parametrize(
    ("records", "chosen", "graph", "stale", "names"),
    [
        ((), {"up", "down"}, True, False, ["up", "down"]),
        ((), {"up", "down"}, False, False, ["up"]),
        ((), {"down"}, True, False, []),
        (SUBMITTED, {"up", "down"}, True, False, ["down"]),
        (SUBMITTED, {"up", "down"}, False, False, []),
        ((*SUBMITTED, an_end("up", "a.0", 3)), {"up", "down"}, False, False, ["down"]),
        ((an_end("up", "x", 3, digest=STALE),), {"up"}, True, False, []),
        ((an_end("up", "x", 3, digest=STALE),), {"up"}, True, True, ["up"]),
        ((an_end("up", "x", 3, digest=STALE),), {"down"}, True, True, []),
        ((an_end("up", "x", 3, digest=STALE),), {"up", "down"}, True, False, []),
        ((an_end("up", "x", 3, digest=STALE),), {"up", "down"}, True, True, ["up", "down"]),
        ((an_end("up", "x", 3), an_end("down", "y", 3)), {"up", "down"}, True, True, []),
        (
            (an_end("up", "x", 3, digest=STALE), an_end("down", "y", 3, digest=STALE)),
            {"up", "down"},
            True,
            True,
            ["up", "down"],
        ),
        (
            (an_end("up", "x", 3, digest=STALE), an_end("down", "y", 3, digest=STALE)),
            {"up", "down"},
            False,
            True,
            ["up"],
        ),
        (tuple(failures((FailureClass.CODE, 0))), {"up", "down"}, True, False, []),
    ],
)
def test_what_may_be_submitted(
    records: tuple[AnyRecord, ...], chosen: set[str], graph: bool, stale: bool, names: list[str]
) -> None:
    picks = planning.submittable(plan(*records), chosen, graph=graph, stale=chosen if stale else ())
    assert [planned.run.name for planned in picks] == names
