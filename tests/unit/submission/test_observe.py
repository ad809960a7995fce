"""What a look records: submissions that were not answered, and nothing twice."""

from __future__ import annotations

from ddqjobs.base.frozen import Owner
from ddqjobs.base.process import boot_id, myself
from ddqjobs.spec.model import Status
from ddqjobs.store.ledger import Intent, Submitted, Voided
from tests.support.trivial import EXPERIMENT, TrivialProject


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
