"""Ledger records as the story of each run's tickets."""

from __future__ import annotations

import itertools

import pytest

from ddqjobs.spec.model import FailureClass, JobState
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Cancelled, Observed, Retried, Submitted, Voided
from tests.support.trivial import an_end, an_intent

INTENT = an_intent("a", "r", "s", at=1)
NODE = FailureClass.NODE


def test_a_ticket_knows_its_submission_before_the_scheduler_answered() -> None:
    ticket = History([INTENT]).of("s").active
    assert ticket is not None
    assert (ticket.name, ticket.index, ticket.run, ticket.job, ticket.state) == ("a.1", 1, "s", "", None)


def test_each_element_gets_its_own_job() -> None:
    history = History([INTENT, Submitted(token="a", jobs={"0": "7_0", "1": "7_1"}, at=2)])
    assert [t.job for t in history.active()] == ["7_0", "7_1"]


@pytest.mark.parametrize(
    "order",
    list(itertools.permutations([INTENT, Submitted(token="a", jobs={"0": "7"}), Voided(tickets=["a.1"])])),
)
def test_what_is_said_of_a_submission_may_come_before_its_intent(order: tuple[AnyRecord, ...]) -> None:
    history = History(order)
    assert [t.name for t in history.active()] == ["a.0"]
    assert history.tickets["a.0"].job == "7"


def test_the_last_observation_counts() -> None:
    observations = [
        Observed(ticket="a.0", state=JobState.QUEUED, detail="waits", at=2),
        Observed(ticket="a.0", state=JobState.RUNNING, node="n1", at=3),
    ]
    ticket = History([INTENT, *observations]).tickets["a.0"]
    assert (ticket.state, ticket.detail, ticket.node, ticket.since) == (JobState.RUNNING, "", "n1", 3)


def test_a_run_that_ended_before_anybody_asked_has_its_node_from_its_own_word() -> None:
    assert History([INTENT, an_end("r", "a.0", 2, node="n2")]).tickets["a.0"].node == "n2"
    observation = Observed(ticket="a.0", state=JobState.RUNNING, node="n1", at=2)
    assert (
        History([INTENT, observation, an_end("r", "a.0", 3, node="n1.cluster")]).tickets["a.0"].node == "n1"
    )


def test_records_of_tickets_that_nobody_intended_change_nothing() -> None:
    strangers: list[AnyRecord] = [
        Submitted(token="x", jobs={"0": "1"}),
        Voided(tickets=["x.0"]),
        Observed(ticket="x.0", state=JobState.ENDED),
        Cancelled(tickets=["x.0"]),
    ]
    history, alone = History([INTENT, *strangers]), History([INTENT])
    assert (history.runs, history.tickets) == (alone.runs, alone.tickets)


def test_a_product_ends_the_ticket_and_makes_the_run_done_for_good() -> None:
    history = History([INTENT, an_end("r", "a.0", 2), an_end("r", "a.0", 3, failure=NODE)])
    story = history.of("r")
    assert story.active is None
    assert story.done is not None
    assert story.failures == []


def test_a_product_that_shows_after_its_ticket_was_given_up_still_counts() -> None:
    story = History([INTENT, an_end("r", "a.0", 2, failure=NODE), an_end("r", "a.0", 3)]).of("r")
    assert story.done is not None
    assert story.failures == []


def test_an_adopted_product_needs_no_submission() -> None:
    story = History([an_end("r", "adopted-r-1", 2)]).of("r")
    assert story.done is not None
    assert story.tickets == []


def test_a_retry_forgives_what_failed_before_and_nothing_after() -> None:
    records: list[AnyRecord] = [INTENT, an_end("r", "a.0", 2, failure=NODE), Retried(runs=["r"], at=3)]
    assert History(records).of("r").failures == []
    again: list[AnyRecord] = [an_intent("b", "r", at=4), an_end("r", "b.0", 5, failure=NODE)]
    assert [f.ticket for f in History([*records, *again]).of("r").failures] == ["b.0"]


def test_a_retry_stands_though_a_second_terminal_records_the_same_failure_after_it() -> None:
    failure = an_end("r", "a.0", 2, failure=NODE)
    late = an_end("r", "a.0", 4, failure=NODE)
    assert History([INTENT, failure, Retried(runs=["r"], at=3), late]).of("r").failures == []


def test_a_cancelled_ticket_is_active_until_it_has_ended() -> None:
    history = History([INTENT, Cancelled(tickets=["a.0"], at=2)])
    assert [(t.name, t.cancelled) for t in history.active()] == [("a.0", True), ("a.1", False)]


def test_a_run_that_was_never_submitted_has_an_empty_story() -> None:
    story = History([INTENT]).of("other")
    assert (story.tickets, story.active, story.done, story.failures) == ([], None, None, [])
