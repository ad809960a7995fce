"""Jobs that would stay in the queue for ever: which are let go, given up or cancelled, and which are not."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from ddqjobs.base.frozen import Member
from ddqjobs.schedulers.base import Scheduler, Unchained
from ddqjobs.spec.model import WAITS, FailureClass, JobState, Observation, PlannedRun, Status
from ddqjobs.store import evidence
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Observed, Submitted, TakenOver
from ddqjobs.store.store import Store
from ddqjobs.submission.follow import say_held
from ddqjobs.submission.members import Members
from ddqjobs.submission.stalls import Stalls, in_vain, superfluous
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run, an_end, an_intent

NOW = time.time()
UPSTREAM = {"first": (), "other": (), "second": ("first",), "third": ("first", "other")}
HELD = Observation(state=JobState.HELD, detail="launch failed requeued held", marks=("", "t1"))
FIRST = (an_intent("t1", "first", at=NOW - 900), Submitted(token="t1", jobs={"0": "1_0"}, at=NOW - 899))
DONE = an_end("first", "t1.0", NOW - 600)
AGAIN = an_end("first", "t3.0", NOW - 400, failure=FailureClass.CODE, reason="code: exit 1")


def waiting(
    run: str, state: JobState = JobState.QUEUED, detail: str = WAITS, at: float = 800
) -> list[AnyRecord]:
    """A job of a run, ``2_0``, that waits for others since ``at`` seconds ago."""
    taken = Submitted(token="t2", jobs={"0": "2_0"}, at=NOW - 850)
    observation = Observed(ticket="t2.0", state=state, detail=detail, at=NOW - at)
    return [an_intent("t2", run, at=NOW - 860), taken, observation]


@pytest.mark.parametrize(
    ("records", "tickets"),
    [
        ([*FIRST, DONE, *waiting("second")], ["t2.0"]),
        ([*FIRST, DONE, *waiting("second", detail=f"{WAITS} (DependencyNeverSatisfied)")], ["t2.0"]),
        ([*FIRST, DONE, *waiting("second", at=10)], []),  # it has only just said so
        ([*FIRST, an_end("first", "t1.0", NOW - 10), *waiting("second")], []),
        ([*FIRST, *waiting("second")], []),
        ([*FIRST, DONE, an_intent("t3", "first", at=NOW - 500), *waiting("second")], []),  # and runs again
        # done once, submitted anew, and failed
        ([*FIRST, DONE, an_intent("t3", "first", at=NOW - 500), AGAIN, *waiting("second")], []),
        ([*FIRST, DONE, *waiting("third")], []),
        ([*FIRST, DONE, *waiting("other")], []),  # what the user lets it wait for
        ([*FIRST, DONE, *waiting("second", detail="Priority")], []),
        ([*FIRST, DONE, *waiting("second", state=JobState.HELD)], []),
    ],
)  # fmt: skip
def test_only_what_waits_long_for_what_is_done_waits_in_vain(
    records: list[AnyRecord], tickets: list[str]
) -> None:
    assert [ticket.name for ticket in in_vain(History(records), UPSTREAM, NOW, 120)] == tickets


@pytest.mark.parametrize(
    ("records", "idle", "jobs"),
    [
        ([*FIRST, DONE], {"1_0": HELD}, ["1_0"]),
        ([*FIRST], {"1_0": HELD}, []),
        ([*FIRST, DONE], {"5": HELD}, []),  # our token on another number
        ([*FIRST, DONE], {"1_0": Observation(state=JobState.HELD, marks=("", "precious"))}, []),
        ([*FIRST, DONE], {"1_0": Observation(state=JobState.HELD)}, []),
        ([*FIRST, DONE, *waiting("second")], {"1_0": HELD}, []),  # Slurm would end the second with it
        ([*FIRST, DONE, *waiting("second", detail="")], {"1_0": HELD}, []),  # not looked at yet
        ([*FIRST, DONE, *waiting("second", state=JobState.HELD)], {"1_0": HELD}, []),
        ([*FIRST, DONE, *waiting("second")[:2]], {"1_0": HELD}, []),
        ([*FIRST, DONE, *waiting("second", detail="Priority")], {"1_0": HELD}, ["1_0"]),
        ([*FIRST, DONE, *waiting("second", state=JobState.RUNNING, detail="")], {"1_0": HELD}, ["1_0"]),
    ],
)
def test_only_jobs_that_have_no_right_to_run_are_superfluous(
    records: list[AnyRecord], idle: dict[str, Observation], jobs: list[str]
) -> None:
    assert superfluous(History(records), UPSTREAM, idle) == jobs


class Frees:
    """A scheduler that takes dependencies off, or says why not."""

    def __init__(self, why: str) -> None:
        self.why, self.freed, self.cancelled = why, dict[str, str](), list[str]()

    def unchain(self, jobs: Mapping[str, str], ours: Collection[str]) -> Unchained:
        """As it was told to."""
        assert set(ours) == {"1", "2"}
        self.freed |= jobs
        return Unchained([], dict.fromkeys(jobs, self.why)) if self.why else Unchained(list(jobs), {})

    def cancel(self, jobs: Collection[str]) -> None:
        """Note them."""
        self.cancelled += jobs


def look(store: Store, why: str = "") -> tuple[Frees, list[str]]:
    """One look at what waits in vain; the scheduler, and what was said."""
    frees, messages = Frees(why), list[str]()
    stalls = Stalls(
        store, lambda _: cast("Scheduler", frees), Members(lambda _: ""), 120, pytest.fail, messages.append
    )
    stalls.end(UPSTREAM, {"local": {"1_0": HELD}})
    return frees, messages


@pytest.fixture
def stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A run whose job waits for what is done."""
    store = Store(tmp_path)
    store.ledger.append(*FIRST, DONE, *waiting("second"))
    monkeypatch.setattr(evidence, "product", lambda folder: DONE.product if folder.name == "first" else None)
    return store


def test_a_dependency_on_what_is_done_is_taken_off_and_said(stalled: Store) -> None:
    frees, messages = look(stalled)
    assert frees.freed == {"2_0": "t2"}
    assert frees.cancelled == ["1_0"]
    reason = "its scheduler still waited for first, which is done"
    assert messages[0] == f"site local: second: {reason}; that dependency is taken off"
    (ticket,) = stalled.history().active()
    assert (ticket.state, ticket.detail) == (JobState.QUEUED, f"{reason}; taken off")
    assert look(stalled)[0].freed == {}  # not again before the patience is over


def test_what_cannot_be_taken_off_is_given_up(stalled: Store) -> None:
    frees, messages = look(stalled, why="Access denied")
    assert frees.cancelled == ["2_0", "1_0"]
    assert messages[0].endswith("that cannot be taken off (Access denied), so it is submitted anew")
    assert stalled.history().active() == []
    assert stalled.claims.holder("t2.0") == "void"


def test_what_has_started_meanwhile_is_not_given_up(stalled: Store) -> None:
    stalled.claims.take("t2.0", "run\n2_0\n")
    frees, _ = look(stalled, why="Access denied")
    assert frees.cancelled == []
    assert [ticket.name for ticket in stalled.history().active()] == ["t2.0"]


def test_another_member_s_job_stays_with_its_owner(stalled: Store) -> None:
    ada = Member(uid=os.getuid() + 1, name="ada")
    stalled.ledger.append(TakenOver(tickets=["t2.0"], member=ada, reason="hers"))
    frees, messages = look(stalled)
    assert (frees.freed, frees.cancelled, messages) == ({}, [], [])


def test_who_is_not_the_owner_only_says_so(trivial: TrivialProject) -> None:
    intent, *since = waiting("second")
    other = Member(uid=os.getuid() + 1, name="ada")
    theirs = msgspec.structs.replace(intent, member=other, digests=[trivial.run("second").run.digest])
    ledger = trivial.open().workspace(EXPERIMENT).store.ledger
    ledger.append(*FIRST, DONE, theirs, *since)
    before = trivial.records()
    reason = "at the owner's last look it waited for what is done, and the next lets it go on"
    assert trivial.run("second").reason.endswith(f"; {reason}")
    assert trivial.records() == before


def test_a_product_that_is_not_on_disk_lets_nothing_go(
    stalled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "product", lambda _: None)
    assert look(stalled)[0].freed == {}


def test_who_waits_hears_once_what_lets_a_held_run_start() -> None:
    held = [
        PlannedRun(
            run=a_run(name), status=Status.ACTIVE, state=JobState.HELD, reason="held; release it", owner=o
        )
        for name, o in (("r1", ""), ("r2", ""), ("r3", "ada"))
    ]
    announcements, messages = set[str](), list[str]()
    say_held(held[:1], announcements, messages.append)
    say_held(held, announcements, messages.append)
    say_held(held, announcements, messages.append)
    assert messages == ["r1: held; release it", "r2: held; release it"]
