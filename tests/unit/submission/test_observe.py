"""What a look records: submissions that were not answered, and nothing twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from ddqjobs.base.frozen import Owner
from ddqjobs.base.process import boot_id, myself
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.spec.model import FailureClass, JobState, Observation, Status
from ddqjobs.spec.site import Site
from ddqjobs.store.ledger import AnyRecord, Cancelled, Intent, Observed, Submitted, Voided
from ddqjobs.store.store import Store
from ddqjobs.submission import observe
from ddqjobs.submission.observe import Observer
from tests.support.trivial import EXPERIMENT, TrivialProject, an_intent


def intended(project: TrivialProject, owner: Owner, token: str = "20260101-000000-0badcafe") -> None:
    """A submission that got as far as its intent."""
    project.open().workspace(EXPERIMENT).store.ledger.append(
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
    workspace.store.claims.take("20260101-000000-0badcafe.0", "run\n4711\n")
    assert trivial.run("first").status is Status.ACTIVE
    assert [r.jobs for r in trivial.records() if isinstance(r, Submitted)] == [{"0": "4711"}]


def test_looking_twice_records_nothing_twice(trivial: TrivialProject) -> None:
    trivial.submit_all()
    before = trivial.records()
    assert trivial.plan() == trivial.plan()
    assert trivial.records() == before


# -- a scheduler that forgets, or that gives a number to another job --------------------------------------


class Says:
    """A scheduler's answers about jobs; it has no others, and finds no submission."""

    def __init__(self, **answers: Observation) -> None:
        self.answers = {name.removeprefix("job"): seen for name, seen in answers.items()}

    def query(self, jobs: Any) -> dict[str, Observation]:
        """The answers, for the jobs asked for."""
        return {job: seen for job, seen in self.answers.items() if job in jobs}

    def find(self, token: str) -> None:
        """None."""


FORGOTTEN = Observation(state=JobState.UNKNOWN, detail="nobody knows it", forgotten=True)
LONG_AGO = time.time() - 7200


def a_ticket(folder: Path, *records: AnyRecord) -> Store:
    """The store of one run, ``r``, that was submitted as job 7 two hours ago, and of what was recorded
    since."""
    store = Store(folder)
    store.ledger.append(an_intent("t1", "r", at=LONG_AGO), *records)
    return store


def look(store: Store, **answers: Observation) -> None:
    """One look at a scheduler that answers so."""
    site = Site(name="local", scheduler="local")
    scheduler = cast("Scheduler", Says(**answers))
    Observer(store, site, lambda _: scheduler, lambda _: Capabilities(), pytest.fail).refresh()


TAKEN = Submitted(token="t1", jobs={"0": "7"}, at=LONG_AGO)
ASKED_TO_END = Cancelled(tickets=["t1.0"], at=LONG_AGO + 1)
UNKNOWN = Observed(ticket="t1.0", state=JobState.UNKNOWN, detail="nobody knows it", at=LONG_AGO + 2)


def test_what_was_cancelled_and_then_forgotten_is_cancelled(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, TAKEN, ASKED_TO_END, UNKNOWN)
    look(store, job7=FORGOTTEN)
    story = store.history().of("r")
    assert [(f.failure, f.reason) for f in story.failures] == [
        (FailureClass.CANCELLED, "cancelled by the user; its scheduler does not know the job any more")
    ]
    assert not any(isinstance(record, Voided) for record in store.ledger.read())
    assert store.claims.holder("t1.0") == "void"


def test_what_was_cancelled_while_it_was_submitted_is_cancelled(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, ASKED_TO_END)
    look(store)
    assert [f.failure for f in store.history().of("r").failures] == [FailureClass.CANCELLED]
    assert store.claims.holder("t1.0") == "void"


def test_what_nobody_cancelled_is_void_once_it_is_forgotten(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, TAKEN, UNKNOWN)
    look(store, job7=FORGOTTEN)
    assert store.history().of("r").failures == []
    assert store.history().active() == []


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.ENDED])
def test_a_number_that_answers_with_another_token_is_of_another_job(tmp_path: Path, state: JobState) -> None:
    store = a_ticket(tmp_path, TAKEN)
    look(store, job7=Observation(state=state, failure=FailureClass.CODE, marks=("", "precious")))
    (ticket,) = store.history().active()
    assert (ticket.state, ticket.detail) == (JobState.UNKNOWN, "number 7 is now of another job")


def test_a_number_that_answers_with_its_token_is_believed(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, TAKEN)
    look(store, job7=Observation(state=JobState.RUNNING, marks=("", "t1")))
    assert [ticket.state for ticket in store.history().active()] == [JobState.RUNNING]


def test_a_new_cause_of_not_knowing_is_recorded_and_the_time_stays(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, TAKEN, UNKNOWN)
    look(store, job7=Observation(state=JobState.UNKNOWN, detail="the controller is down"))
    (ticket,) = store.history().active()
    assert (ticket.detail, ticket.since) == ("the controller is down", LONG_AGO + 2)
    look(store, job7=Observation(state=JobState.UNKNOWN, detail="the controller is down"))
    assert sum(isinstance(record, Observed) for record in store.ledger.read()) == 2


# -- many at once -------------------------------------------------------------------------------------------

ENDED = Observation(state=JobState.ENDED, failure=FailureClass.CANCELLED, detail="cancelled")


def test_an_interruption_among_many_ends_loses_no_more_than_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "_BATCH", 10)
    monkeypatch.setattr(observe, "_PATIENCE_S", -1.0)
    runs = [f"r{i}" for i in range(25)]
    store = Store(tmp_path)
    jobs = {str(i): f"{100 + i}" for i in range(25)}
    store.ledger.append(an_intent("t1", *runs, at=LONG_AGO), Submitted(token="t1", jobs=jobs, at=LONG_AGO))
    scheduler = cast("Scheduler", Says(**{f"job{job}": ENDED for job in jobs.values()}))
    told: list[str] = []

    def interrupt(text: str) -> None:
        told.append(text)
        if text.endswith(": 20 of 25"):
            raise KeyboardInterrupt

    site = Site(name="local", scheduler="local", grace="0s")
    observer = Observer(store, site, lambda _: scheduler, lambda _: Capabilities(), pytest.fail, interrupt)
    with pytest.raises(KeyboardInterrupt):
        observer.refresh()
    assert [ticket.run for ticket in store.history().active()] == runs[20:]
    assert told[-1] == "recording what has become of the jobs: 20 of 25"
    look(store, **{f"job{job}": ENDED for job in jobs.values()})
    assert store.history().active() == []
    assert {store.claims.holder(f"t1.{i}") for i in range(25)} == {"void"}
