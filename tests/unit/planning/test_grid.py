"""Grids: their variants have readable, stable names and reach the runs that follow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddqjobs.planning.matrix import expand
from ddqjobs.spec import grid
from ddqjobs.spec.check.experiment import check
from ddqjobs.spec.experiment import Task
from ddqjobs.spec.model import Run, TaskKind
from tests.unit.planning.test_matrix import TRAIN, experiment

LR, DECAY = "optim_wrapper.optimizer.lr", "optim_wrapper.optimizer.weight_decay"
FOLLOWS = {"kind": "test", "implementation": "new", "inputs": {"checkpoint": "t.checkpoint"}}


def runs(tasks: dict[str, Any], **keys: Any) -> dict[str, Run]:
    return {run.name: run for run in expand(experiment(tasks, **keys)) if run.model == "m1"}


def problems(task: dict[str, Any], **keys: Any) -> list[str]:
    grid_experiment = experiment({"t": {**TRAIN, "command": ["train", "{options}"], **task}}, **keys)
    return [problem.message for problem in check(grid_experiment, lambda _: ("e.yaml", 1), None)]


def test_values_of_a_grid_and_seeds_make_runs_whose_tests_follow_them() -> None:
    matrix = runs({"t": {**TRAIN, "grid": {LR: [1e-4, 2e-5]}, "seeds": [0, 1000]}, "v": FOLLOWS})
    names = [f"m1.lr-{rate}.s{seed}" for rate in ("0.0001", "2e-5") for seed in (0, 1000)]
    assert list(matrix) == [f"t.{name}" for name in names] + [f"v.{name}" for name in names]
    trained, tested = matrix["t.m1.lr-2e-5.s1000"], matrix["v.m1.lr-2e-5.s1000"]
    assert trained.options == tested.options == (f"{LR}=2e-05", "seed=1000")
    assert trained.grid == tested.grid == (("lr", 2e-5),)
    assert tested.upstream == (trained.name,)


def test_keys_are_as_long_as_it_takes_and_grids_stand_on_variants() -> None:
    keys = {LR: [0.1], DECAY: [0.05], "backbone.lr": [True]}
    matrix = runs({"t": {**TRAIN, "grid": keys, "variants": ["only1", "default"]}})
    combination = "optimizer.lr-0.1_weight_decay-0.05_backbone.lr-true"
    assert list(matrix) == [f"t.m1.only1_{combination}", f"t.m1.{combination}"]
    assert matrix[f"t.m1.only1_{combination}"].resources.gpus == 4
    assert matrix[f"t.m1.only1_{combination}"].options[0] == "lr=0.1"  # the variant's own


def test_codes_that_name_an_option_differently_share_their_variants() -> None:
    old = {**TRAIN, "grid": {"optimizer.lr": [0.1]}}
    matrix = runs({"t": old, "u": {**TRAIN, "grid": {LR: [0.1]}}, "v": FOLLOWS})
    assert [run.options for run in matrix.values()] == [
        ("optimizer.lr=0.1",),
        (f"{LR}=0.1",),
        ("optimizer.lr=0.1",),
    ]
    assert {run.variant for run in matrix.values()} == {"lr-0.1"}


def test_a_comparison_with_a_code_without_the_grid_is_of_the_baseline_only() -> None:
    tasks: dict[str, Any] = {"t": {**TRAIN, "grid": {LR: [1, 2]}}, "u": TRAIN,
             "v": {"kind": "align", "implementation": "new", "command": ["x"],
                   "inputs": {"old": "u.log", "new": "t.log"}}}  # fmt: skip
    assert [name for name in runs(tasks, baseline="lr-2") if name.startswith("v")] == ["v.m1.lr-2"]
    assert [name for name in runs(tasks) if name.startswith("v")] == []
    tasks["u"] = {**TRAIN, "grid": {"lr": [1, 2]}}
    assert [name for name in runs(tasks) if name.startswith("v")] == ["v.m1.lr-1", "v.m1.lr-2"]
    tasks["w"] = {**tasks["v"], "kind": "smoke", "inputs": {"new": "t.log", "data": "d.log"}}
    matrix = runs({**tasks, "d": TRAIN})
    assert matrix["w.m1.lr-2"].upstream == ("t.m1.lr-2", "d.m1")


def test_only_the_baseline_of_a_grid_is_compared_with_the_published_figure() -> None:
    task = {"t": {**TRAIN, "grid": {LR: [1, 2]}}}
    assert [run.comparable for run in runs(task).values()] == [False, False]
    assert [run.comparable for run in runs(task, baseline="lr-2").values()] == [False, True]


@given(
    st.lists(st.one_of(st.text(), st.floats(allow_nan=False), st.integers(), st.booleans()), unique_by=repr)
)
def test_names_are_safe_and_do_not_depend_on_the_other_values(values: list[Any]) -> None:
    whole = [point.name for point in grid.points(Task(kind=TaskKind.TRAIN, grid={"a.b": values}))]
    alone = [next(grid.points(Task(kind=TaskKind.TRAIN, grid={"a.b": [value]}))).name for value in values]
    assert whole == alone
    assert all(name.replace("-", "").replace(".", "").replace("_", "").isalnum() for name in whole)
    assert len({repr(v) for v in values if isinstance(v, str)}) == len(
        {name for name, v in zip(whole, values, strict=True) if isinstance(v, str)}
    )


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        ({"grid": {LR: []}}, {}, "a grid needs at least one value for each key"),
        ({"grid": {"seed": [1, 2]}}, {}, "list seeds under `seeds`, not in a grid"),
        ({"grid": {LR: [0.5, 5e-1]}}, {}, "two combinations would have the name 'lr-0.5'"),
        ({"grid": {LR: list(range(101)), "a": list(range(100))}}, {}, "10,100 combinations"),
        ({"grid": {f"key{i}.{'x' * 30}": ["y"] for i in range(3)}}, {}, "and has at most 80"),
        ({"grid": {"": [1]}}, {}, "the name '-1' of 2 characters; a name begins with a letter"),
        ({"grid": {LR: [1]}, "command": ["train"]}, {}, "it has no word {options}"),
        ({"grid": {LR: [1]}}, {"baseline": "lr-2"}, "unknown variant 'lr-2'; did you mean 'lr-1'?"),
        ({"grid": {LR: [1]}}, {"variants": {"lr-1": {}}}, "the name of variant 'lr-1'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_grid_is_said(task: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    messages = problems(task, **keys)
    assert any(message in problem for problem in messages), messages


def test_a_key_with_and_without_its_plus_is_one_key() -> None:
    assert problems({"grid": {"lr": [1, 2], "+lr": [1, 2]}})[0] == (
        "'lr' has values in this grid already; name it once"
    )
