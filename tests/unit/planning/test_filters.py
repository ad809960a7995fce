"""Filters: kinds narrow each other, words of a kind are alternatives, and what matches nothing says so."""

from __future__ import annotations

from typing import Any

import pytest

from ddqjobs.base.errors import MissingError
from ddqjobs.planning.filters import Filters, select, with_upstream
from ddqjobs.spec.model import Plan, PlannedRun, Status, TaskKind
from tests.support.trivial import a_run

RUNS = (
    a_run(
        "p1.a", phase="1", model="ddq-a", implementation="legacy", task="p1-test", kind=TaskKind.TEST, seed=7
    ),
    a_run("p1.b", phase="1", model="ddq-b", implementation="new", task="p1-test", kind=TaskKind.TEST),
    a_run(
        "p3.a",
        "p1.a",
        phase="3",
        model="ddq-a",
        implementation="new",
        task="p3",
        kind=TaskKind.TRAIN,
        variant="det",
    ),
    a_run("all", "p3.a", "p1.b"),
)
PLAN = Plan(
    experiment="e",
    site="s",
    runs=tuple(
        PlannedRun(run=run, status=status, reason="", stale=stale)
        for run, status, stale in zip(
            RUNS,
            (Status.DONE, Status.FAILED, Status.DONE, Status.WAITING),
            ("", "", "stale: x", ""),
            strict=True,
        )
    ),
)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["p1.a", "p1.b", "p3.a", "all"]),
        ({"phases": ("1",)}, ["p1.a", "p1.b"]),
        ({"phases": ("1", "3")}, ["p1.a", "p1.b", "p3.a"]),
        ({"phases": ("1",), "models": ("ddq-a",)}, ["p1.a"]),
        ({"models": ("ddq-*",)}, ["p1.a", "p1.b", "p3.a"]),
        ({"implementations": ("new",)}, ["p1.b", "p3.a"]),
        ({"tasks": ("p1-test",)}, ["p1.a", "p1.b"]),
        ({"tasks": ("train",)}, ["p3.a"]),
        ({"variants": ("det",)}, ["p3.a"]),
        ({"seeds": (7,)}, ["p1.a"]),
        ({"states": ("failed", "waiting")}, ["p1.b", "all"]),
        ({"states": ("stale",)}, ["p3.a"]),
        ({"runs": ("p?.a", "all")}, ["p1.a", "p3.a", "all"]),
    ],
)
def test_filters_leave(filters: dict[str, Any], names: list[str]) -> None:
    assert [planned.run.name for planned in select(PLAN, Filters(**filters))] == names


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"models": ("ddq-c",)}, "no model matches 'ddq-c'; did you mean 'ddq-b'?; there are: ddq-a, ddq-b"),
        ({"phases": ("1", "9")}, "no phase matches '9'; there are: 1, 3"),
        ({"seeds": (8,)}, "no seed matches '8'; there are: 7"),
        ({"states": ("runing",)}, "no state matches 'runing'; did you mean 'running'?"),
        ({"runs": ("p9*",)}, "no run matches 'p9*'"),
        ({"phases": ("3",), "models": ("ddq-b",)}, "no run of experiment e matches all filters together"),
    ],
)
def test_a_filter_that_matches_nothing_says_what_there_is(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingError) as error:
        select(PLAN, Filters(**filters))
    assert str(error.value).startswith(message)


def test_a_long_list_is_cut_and_counted() -> None:
    runs = tuple(PlannedRun(run=a_run(f"r{n:02}"), status=Status.DONE, reason="") for n in range(30))
    with pytest.raises(MissingError, match=r"r19 and 10 more$"):
        select(Plan(experiment="e", site="s", runs=runs), Filters(runs=("x",)))


def test_upstream_is_followed_to_its_end() -> None:
    assert with_upstream(PLAN, [PLAN.runs[2]]) == {"p3.a", "p1.a"}
    assert with_upstream(PLAN, [PLAN.runs[3]]) == {"all", "p3.a", "p1.a", "p1.b"}


def test_a_state_that_no_run_is_in_leaves_none_and_is_no_mistake() -> None:
    assert select(PLAN, Filters(states=("queued",))) == ()
