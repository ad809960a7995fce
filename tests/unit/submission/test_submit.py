"""A plan that is out of date, and the names of submissions."""

from __future__ import annotations

import re
import time

import pytest

from ddqjobs.planning import plan as planning
from ddqjobs.schedulers.base import QueueFullError, RefusedError, Submission
from ddqjobs.schedulers.local.scheduler import LocalScheduler
from ddqjobs.spec.model import Plan
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Voided
from ddqjobs.submission.rendering import new_token
from ddqjobs.submission.round import moved_on
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run, an_end, an_intent, task

RUNS = (a_run("a"), a_run("b", "a"), a_run("c", "b"), a_run("extra", optional=True))


def plan(*records: AnyRecord) -> Plan:
    return planning.build(RUNS, History(records), experiment="e", site="local")


def test_a_run_has_moved_on_when_it_was_submitted_or_adopted_after_its_plan() -> None:
    submitted: list[AnyRecord] = [an_intent("t", "a", at=1)]
    old, story = plan().runs[0], History(submitted).of("a")
    assert moved_on(old, story)
    assert not moved_on(plan(*submitted).runs[0], story)
    assert moved_on(old, History([an_end("a", "adopted-a-1", 2)]).of("a"))
    assert not moved_on(old, History([]).of("a"))


def test_tokens_are_unique_and_sort_by_time() -> None:
    tokens = [new_token() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", token) for token in tokens)


def test_what_is_refused_for_good_is_asked_for_once_also_where_a_limit_was_seen(
    trivial: TrivialProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a batch is submitted in parts of 1, 2, 4, ... runs, which ask for the same."""
    trivial.tasks({"first": task(seeds=list(range(11)))})
    now = time.time()
    full = Voided(tickets=["t.0"], why=f"it {QueueFullError.WORDS}", at=now)
    workspace = trivial.open().workspace(EXPERIMENT)
    workspace.store.ledger.append(an_intent("t", "first.s0", at=now - 1), full)
    assert workspace.is_limited
    sizes: list[int] = []

    def refuse(_: object, submission: Submission) -> None:
        sizes.append(len(submission.elements))
        raise RefusedError("no such partition")

    monkeypatch.setattr(LocalScheduler, "submit", refuse)
    outcome = trivial.open().submit(EXPERIMENT)
    assert sizes == [1]
    assert set(outcome.never.values()) == {"no such partition"}
    assert len(outcome.never) == len(outcome.refused) == 11
