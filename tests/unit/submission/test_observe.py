"""Records of a look: submissions that were not answered, and nothing twice."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from ddqjobs.base.errors import InputError, StateError
from ddqjobs.base.frozen import Member, Owner
from ddqjobs.base.process import boot_id, myself
from ddqjobs.schedulers.base import Capabilities, Scheduler
from ddqjobs.spec.model import FailureClass, JobState, Observation, Status
from ddqjobs.spec.site import Site
from ddqjobs.store.ledger import AnyRecord, Cancelled, Intent, Observed, Submitted, TakenOver, Voided
from ddqjobs.store.store import Store
from ddqjobs.submission import actions, observe
from ddqjobs.submission.members import Members
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
        self.answers = {name.removeprefix("job"): observation for name, observation in answers.items()}
        self.asked: list[str] = []

    def query(self, jobs: Any) -> dict[str, Observation]:
        """The answers, for the jobs asked for."""
        self.asked += jobs
        return {job: observation for job, observation in self.answers.items() if job in jobs}

    def find(self, token: str) -> None:
        """None."""
        self.asked.append(token)


FORGOTTEN = Observation(state=JobState.UNKNOWN, detail="nobody knows it", forgotten=True)
LONG_AGO = time.time() - 7200


def a_ticket(folder: Path, *records: AnyRecord, member: Member | None = None) -> Store:
    """The store of one run, ``r``, that was submitted as job 7 two hours ago, and of what was recorded
    since."""
    store = Store(folder)
    intent = msgspec.structs.replace(an_intent("t1", "r", at=LONG_AGO), member=member)
    store.ledger.append(intent, *records)
    return store


def here(cluster: str = "") -> Members:
    """We, on a cluster."""
    return Members(lambda _: cluster)


def look(store: Store, **answers: Observation) -> Says:
    """One look at a scheduler that answers so; it, with what it was asked."""
    return look_on("", store, **answers)


def look_on(cluster: str, store: Store, **answers: Observation) -> Says:
    """One look on a cluster of that name."""
    site = Site(name="local", scheduler="local")
    scheduler = Says(**answers)
    Observer(
        store,
        site,
        lambda _: cast("Scheduler", scheduler),
        lambda _: Capabilities(marks=True, numbers=True),
        here(cluster),
        pytest.fail,
    ).refresh()
    return scheduler


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


@pytest.mark.parametrize("state", [JobState.ENDED, JobState.UNKNOWN])
def test_the_holder_of_the_claim_is_the_job_of_the_run(tmp_path: Path, state: JobState) -> None:
    """A wrapper has submitted twice: job 7, which was recorded, came second and ended at once."""
    store = a_ticket(tmp_path, TAKEN)
    store.claims.take("t1.0", "run\n8\n")
    look(store, job7=Observation(state=state, marks=("", "t1")))
    (ticket,) = store.history().active()
    assert ticket.job == "8"
    look(store, job8=Observation(state=JobState.RUNNING, marks=("", "t1")))
    assert [ticket.state for ticket in store.history().active()] == [JobState.RUNNING]
    assert store.claims.job("t1.0") == "8"


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
    messages: list[str] = []

    def interrupt(text: str) -> None:
        messages.append(text)
        if text.endswith(": 20 of 25"):
            raise KeyboardInterrupt

    site = Site(name="local", scheduler="local", grace="0s")
    observer = Observer(
        store, site, lambda _: scheduler, lambda _: Capabilities(), here(), pytest.fail, interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        observer.refresh()
    assert [ticket.run for ticket in store.history().active()] == runs[20:]
    assert messages[-1] == "recording what has become of the jobs: 20 of 25"
    look(store, **{f"job{job}": ENDED for job in jobs.values()})
    assert store.history().active() == []
    assert {store.claims.holder(f"t1.{i}") for i in range(25)} == {"void"}


# -- whose a ticket is -----------------------------------------------------------------------------------

SOMEBODY = Member(uid=os.getuid() + 1, name="ada", host="login2", cluster="north")
OURSELVES = Member(uid=os.getuid(), cluster="north")


@pytest.mark.parametrize("taken", [True, False])
def test_what_we_do_not_see_of_another_member_s_job_proves_nothing(tmp_path: Path, taken: bool) -> None:
    recorded: list[AnyRecord] = [TAKEN, UNKNOWN] if taken else []
    store = a_ticket(tmp_path, *recorded, member=SOMEBODY)
    before = list(store.ledger.read())
    assert look(store, job7=FORGOTTEN).asked == []
    assert store.ledger.read() == before
    assert store.claims.holder("t1.0") == ""


def test_what_one_cluster_does_not_show_may_be_on_another(tmp_path: Path) -> None:
    store = a_ticket(tmp_path, TAKEN, UNKNOWN, member=OURSELVES)
    before = list(store.ledger.read())
    look_on("south", store, job7=FORGOTTEN)
    assert store.ledger.read() == before
    look_on("north", store, job7=FORGOTTEN)
    assert store.history().active() == []


@pytest.mark.parametrize(("code", "failures"), [(1, [FailureClass.CODE]), (143, [])])
def test_evidence_decides_about_another_member_s_run(
    tmp_path: Path, code: int, failures: list[FailureClass]
) -> None:
    """But not a script that a signal ended: its scheduler may start it once more."""
    store = a_ticket(tmp_path, TAKEN, member=SOMEBODY)
    attempt = store.run_dir("r") / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "started.json").write_text('{"ticket": "t1.0", "job": "7", "host": "n1", "pid": 1, "at": 1.0}')
    (attempt / "exit.json").write_text(f'{{"code": {code}, "product": 3, "at": 2.0}}')
    look(store)
    assert [f.failure for f in store.history().of("r").failures] == failures


def test_who_takes_a_run_over_answers_for_it(tmp_path: Path) -> None:
    mine = TakenOver(tickets=["t1.0"], member=OURSELVES, reason="ada has left")
    store = a_ticket(tmp_path, TAKEN, UNKNOWN, mine, member=SOMEBODY)
    look(store, job7=FORGOTTEN)
    assert store.history().active() == []
    assert store.claims.holder("t1.0") == "void"


def another_s(project: TrivialProject) -> None:
    """``first`` as another member's run."""
    me = myself()
    project.open().workspace(EXPERIMENT).store.ledger.append(
        Intent(token="t1", site="local", scheduler="local", runs=["first"], digests=["d"], host=me.host,
               pid=1, start=1, member=SOMEBODY),
        Submitted(token="t1", jobs={"0": "7"}),
        Observed(ticket="t1.0", state=JobState.RUNNING),
    )  # fmt: skip


def test_another_member_s_run_stays_with_its_owner(trivial: TrivialProject) -> None:
    another_s(trivial)
    first = trivial.run("first")
    assert (first.status, first.owner) == (Status.ACTIVE, "ada on login2")
    assert re.fullmatch(
        r"another member's \(ada on login2\), running since [-0-9]+ [:0-9]+; the owner's `ddqjobs status` "
        "knows more",
        first.reason,
    )
    outcome = trivial.open().submit(EXPERIMENT)
    assert (outcome.submitted, outcome.left) == (
        {}, {"second": "needs first, which is another member's (ada on login2)"},
    )  # fmt: skip


def test_what_is_refused_leaves_no_trace(trivial: TrivialProject) -> None:
    another_s(trivial)
    project = trivial.open()
    before = trivial.records()
    plan = project.plan(EXPERIMENT)
    with pytest.raises(StateError, match="first was submitted by ada on login2; only the owner may"):
        project.cancel(plan, plan.runs)
    workspace = project.workspace(EXPERIMENT)
    with pytest.raises(InputError, match="needs a reason"):
        actions.take_over(workspace, plan.runs, " ")
    assert trivial.records() == before
    assert actions.take_over(workspace, plan.runs, "ada has left") == {"first": "ada on login2"}
    assert [r.reason for r in trivial.records() if isinstance(r, TakenOver)] == ["ada has left"]
    assert trivial.run("first").owner == ""
