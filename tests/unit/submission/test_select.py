"""The runs that are picked, and those that fit a budget."""

from __future__ import annotations

import pytest

from ddqjobs.planning import plan as planning
from ddqjobs.planning.estimate import Estimate
from ddqjobs.spec.model import FailureClass, Plan, Run
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord
from ddqjobs.submission.select import Submitting, blocked, coming, pick
from tests.support.trivial import DIGEST, a_run, an_end, an_intent

RUNS = (a_run("a"), a_run("b", "a"), a_run("c", "b"), a_run("extra", optional=True))
ALL = frozenset(r.name for r in RUNS)


def plan(*records: AnyRecord, runs: tuple[Run, ...] = RUNS) -> Plan:
    return planning.build(runs, History(records), experiment="e", site="local")


def names(plan_: Plan, choice: Submitting, *, graph: bool = True) -> list[str]:
    return [planned.run.name for planned in pick(plan_, choice, graph=graph)[0]]


def test_with_a_graph_everything_is_picked_at_once_and_without_one_what_is_ready() -> None:
    assert names(plan(), Submitting(chosen=ALL)) == ["a", "b", "c"]
    assert names(plan(), Submitting(chosen=ALL), graph=False) == ["a"]


def test_optional_runs_are_picked_when_named_or_all_are_wanted() -> None:
    assert names(plan(), Submitting(chosen=ALL, optional=True)) == ["a", "b", "c", "extra"]
    assert names(plan(), Submitting(chosen=frozenset({"extra"}), named=frozenset({"extra"}))) == ["extra"]


def test_what_is_left_out_says_why_and_what_is_done_or_active_is_not_left_out() -> None:
    records = (an_intent("t", "a", at=1), an_end("a", "t.0", 2), an_intent("u", "b", at=3))
    _, omissions = pick(plan(*records), Submitting(chosen=ALL), graph=False)
    assert omissions == {"c": "needs b, which is active", "extra": "optional: name it, or add --optional"}


def test_a_failed_run_and_what_needs_it_are_left_out() -> None:
    failed = an_end("a", "t.0", 2, failure=FailureClass.CODE, reason="why")
    picks, omissions = pick(plan(an_intent("t", "a", at=1), failed), Submitting(chosen=ALL), graph=True)
    assert picks == ()
    assert omissions["a"] == "failed: code: why; `ddqjobs retry e a` makes it eligible again"
    assert omissions["b"] == "needs a, which failed (code)"


def test_of_a_failed_optional_run_it_is_not_said_that_naming_it_is_enough() -> None:
    failed = an_end("extra", "t.0", 2, failure=FailureClass.CODE, reason="why")
    _, omissions = pick(plan(an_intent("t", "extra", at=1), failed), Submitting(chosen=ALL), graph=True)
    assert omissions["extra"] == "failed: code: why; `ddqjobs retry e extra` makes it eligible again"


@pytest.mark.parametrize(
    ("budget", "kept", "left"),
    [
        (None, ["a", "b", "c"], []),
        (100.0, ["a", "c"], ["b"]),
        (3.0, ["a", "c"], ["b"]),
        (2.9, ["a"], ["b", "c"]),
        (0.0, [], ["a", "b", "c"]),
    ],
)
def test_runs_are_kept_in_order_while_they_fit(
    budget: float | None, kept: list[str], left: list[str]
) -> None:
    full_plan = plan(runs=(a_run("a"), a_run("b"), a_run("c")))
    costs = {"a": Estimate(gpu_hours=1), "b": Estimate(gpu_hours=None), "c": Estimate(gpu_hours=2)}
    picks, out = pick(
        full_plan, Submitting(chosen=frozenset("abc"), max_gpu_hours=budget), graph=True, costs=costs
    )
    assert ([planned.run.name for planned in picks], sorted(out)) == (kept, left)


def test_waiting_spends_the_budget_of_gpu_hours_once() -> None:
    choice = Submitting(chosen=frozenset("ab"), max_gpu_hours=3.0)
    assert choice.rest(2.0, ()).max_gpu_hours == 1.0
    assert choice.rest(2.0, ()).rest(2.0, ()).max_gpu_hours == 0.0


def test_a_stale_run_that_was_submitted_is_not_wanted_once_more() -> None:
    choice = Submitting(chosen=frozenset("ab"), stale=frozenset("ab"))
    assert choice.rest(0.0, ("a",)).stale == {"b"}


def test_what_waits_only_for_what_is_done_or_active_comes_and_nothing_else_does() -> None:
    runs = (*RUNS, a_run("left"), a_run("both", "b", "left"))
    records = (an_intent("t", "a", at=1), an_end("a", "t.0", 2), an_intent("u", "b", at=3))
    asked = frozenset({"a", "b", "c", "both"})
    assert coming(plan(runs=runs), asked) == frozenset()
    now = plan(*records, runs=runs)
    assert coming(now, asked) == {"b", "c"}
    assert coming(now, ()) == {"b"}  # nobody asked for c, so nobody submits it
    assert not blocked(now, Submitting(chosen=frozenset({"c", "both"})), asked)
    assert blocked(now, Submitting(chosen=frozenset({"both"})), asked)


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "stale"])
def test_what_needs_a_product_that_is_gone_or_stale_does_not_come(gone: bool) -> None:
    runs = (a_run("a"), a_run("b"), a_run("c", "a", "b"))
    end = an_end("a", "t.0", 2, digest=DIGEST if gone else DIGEST.replace("0", "1"))
    records = (an_intent("t", "a", at=1), end, an_intent("u", "b", at=3))
    missing = ["a"] if gone else []
    built = planning.build(runs, History(records), experiment="e", site="local", missing=missing)
    assert coming(built, {"a", "b", "c"}) == {"b"}
