"""The matrix: tasks, models, variants and seeds as runs with stable, unique names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.base.errors import InputError
from ddqjobs.planning.matrix import UnmatchedError, expand
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Input, Resources, Run

TEST = {"kind": "test", "implementation": "new", "inputs": {"checkpoint": "released"}}
TRAIN = {"kind": "train", "implementation": "new"}


def experiment(tasks: dict[str, Any], **keys: Any) -> Experiment:
    code = {"commands": {"test": ["test"], "train": ["train"], "smoke": ["sh"]}, "seed_option": "seed",
            "deterministic_option": "det", "variables": {"A": "code", "B": "code"}}  # fmt: skip
    models = {
        name: {"implementations": {"new": {"code": "c", "config": f"{name}.py", "checkpoint": f"{name}.pth"}}}
        for name in ("m1", "m2")
    }
    variants = {
        "s7": {"seed": 7},
        "det": {"seed": 7, "deterministic": True},
        "only1": {"models": ["m1"], "gpus": 4, "reference": False, "options": {"lr": 0.1}},
    }
    base = {"name": "e", "implementations": {"new": "New"}, "codes": {"c": code}, "models": models,
            "phases": {"1": {"tolerance": {"ap": 0.1}}}, "variants": variants}  # fmt: skip
    return msgspec.convert({**base, "tasks": tasks, **keys}, Experiment)


def runs(tasks: dict[str, Any], **keys: Any) -> dict[str, Run]:
    return {run.name: run for run in expand(experiment(tasks, **keys))}


def test_a_task_makes_a_run_per_model_and_variant_and_seed() -> None:
    matrix = runs({"t": {**TEST, "variants": ["default", "s7"], "seeds": [1, 2]}})
    assert list(matrix) == [
        f"t.{m}{v}.s{s}" for m in ("m1", "m2") for v in ("", ".s7") for s in (1, 2)
    ]  # fmt: skip


def test_a_task_that_runs_once_belongs_to_no_model() -> None:
    assert list(runs({"t": {"kind": "smoke", "once": True, "code": "c"}})) == ["t"]


def test_a_variant_only_makes_runs_where_it_applies() -> None:
    matrix = runs({"t": {**TEST, "variants": ["default", "only1"]}})
    assert list(matrix) == ["t.m1", "t.m1.only1", "t.m2"]
    assert matrix["t.m1.only1"].resources.gpus == 4
    assert matrix["t.m1.only1"].options == ("lr=0.1",)
    assert (matrix["t.m1"].comparable, matrix["t.m1.only1"].comparable) == (True, False)


def test_runs_come_after_what_they_need_whatever_the_order_in_the_file() -> None:
    names = list(runs({"z": {**TEST, "inputs": {"checkpoint": "a.checkpoint"}}, "a": TRAIN}))
    assert names == ["a.m1", "a.m2", "z.m1", "z.m2"]


@pytest.mark.parametrize(
    ("upstream", "down", "expected"),
    [
        ({"variants": ["default", "s7"]}, "t.m1.s7", "a.m1.s7"),
        ({}, "t.m1.s7", "a.m1"),
        ({"variants": ["s7"]}, "t.m1", "a.m1.s7"),
    ],
)
def test_a_run_reads_the_upstream_run_of_its_own_model_variant_and_seed(
    upstream: dict[str, Any], down: str, expected: str
) -> None:
    tasks = {
        "a": {**TRAIN, **upstream},
        "t": {**TEST, "variants": ["default", "s7"], "inputs": {"checkpoint": "a.checkpoint"}},
    }
    assert runs(tasks)[down].inputs == (("checkpoint", Input(artifact="checkpoint", run=expected)),)


@pytest.mark.parametrize(
    ("down", "message"),
    [
        (
            {"seeds": [5], "inputs": {"checkpoint": "a.checkpoint"}},
            "task 't' reads 'a', and of the 2 runs of 'a' (a.m1.s1, a.m1.s2) none has seed 5; give it "
            "variants and seeds that 'a' has, or none, and it follows 'a'",
        ),
        (
            {"inputs": {"checkpoint": "a.checkpoint", "other": "b.checkpoint"}},
            "task 't' pairs runs of 'b' with runs of 'a', and of the 2 runs of 'b' (b.m1.s3, b.m1.s4) none "
            "has seed 1; give both the same variants and seeds, or remove the task with `t: null`",
        ),
        (
            {"once": True, "code": "c", "inputs": {"checkpoint": "a.checkpoint"}},
            "task 't' runs once and reads 'a', which has 2 runs (a.m1.s1, a.m1.s2); let it run for each of "
            "them, with `once: false` and an `implementation`",
        ),
    ],
)
def test_an_upstream_run_that_cannot_be_told_is_refused(down: dict[str, Any], message: str) -> None:
    tasks = {
        "a": {**TRAIN, "models": ["m1"], "seeds": [1, 2]},
        "b": {**TRAIN, "models": ["m1"], "seeds": [3, 4]},
        "t": {**TEST, "models": ["m1"], **down},
    }
    with pytest.raises(UnmatchedError) as refused:
        runs(tasks)
    assert str(refused.value) == message


def test_a_task_that_lists_no_variants_and_seeds_follows_those_of_its_inputs() -> None:
    tasks = {
        "a": {**TRAIN, "variants": ["s7"], "seeds": [1, 2]},
        "t": {**TEST, "inputs": {"checkpoint": "a.checkpoint"}},
    }
    matrix = runs(tasks)
    assert {name: run.upstream for name, run in matrix.items() if name.startswith("t.m1")} == {
        f"t.m1.s7.s{seed}": (f"a.m1.s7.s{seed}",) for seed in (1, 2)
    }


def test_two_tasks_that_make_one_name_are_refused() -> None:
    tasks = {"t": TEST, "t.m1": {"kind": "smoke", "once": True, "code": "c"}}
    with pytest.raises(InputError, match=r"both make a run named 't\.m1'"):
        runs(tasks)


def test_a_seed_reaches_the_code_by_its_option_and_determinism_by_its_own() -> None:
    matrix = runs({"t": {**TEST, "variants": ["default", "s7", "det"]}})
    assert matrix["t.m1"].options == ()
    assert matrix["t.m1.s7"].options == ("seed=7",)
    assert matrix["t.m1.det"].options == ("seed=7", "det=True")
    assert (matrix["t.m1.det"].seed, matrix["t.m1.det"].deterministic) == (7, True)


def test_what_is_said_closer_to_the_run_counts() -> None:
    run = runs(
        {"t": {**TEST, "variables": {"B": "task"}, "hours": 1, "resources": {"gpus": 2, "time": "1h"}}},
        resources={"gpus": 8, "cpus": 3, "time": "2d", "memory": "16GB"},
    )["t.m1"]
    assert dict(run.variables) == {"A": "code", "B": "task"}
    assert run.resources == Resources(gpus=2, cpus=3, time_s=3600, memory_mb=16000)
    assert run.gpu_hours == 2


def test_runs_of_models_that_are_not_required_are_optional_and_so_is_what_needs_them() -> None:
    tasks = {"a": {**TRAIN, "required": ["m1"]}, "t": {**TEST, "inputs": {"checkpoint": "a.checkpoint"}}}
    assert {name: run.optional for name, run in runs(tasks).items()} == {
        "a.m1": False, "a.m2": True, "t.m1": False, "t.m2": True,
    }  # fmt: skip


def test_a_phase_gives_its_tolerance_and_a_task_may_have_its_own() -> None:
    tasks = {"a": {**TEST, "phase": "1"}, "b": {**TEST, "phase": "1", "tolerance": {"ap": 0.5, "box": 1}}}
    matrix = runs(tasks)
    assert (dict(matrix["a.m1"].tolerances), dict(matrix["b.m1"].tolerances)) == (
        {"ap": 0.1},
        {"ap": 0.5, "box": 1},
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 50), unique=True, max_size=4),
    st.lists(st.sampled_from(["default", "s7", "det", "only1"]), unique=True, min_size=1),
    st.lists(st.sampled_from(["m1", "m2"]), unique=True),
)
def test_names_are_unique_and_do_not_change_when_the_matrix_grows(
    seeds: list[int], variants: list[str], models: list[str]
) -> None:
    task = {**TEST, "seeds": seeds, "variants": variants, "models": models}
    matrix = expand(experiment({"t": task}))
    assert len({run.name for run in matrix}) == len(matrix)
    assert expand(experiment({"t": task})) == matrix
    more = runs({"before": TRAIN, "t": {**task, "models": []}, "after": TRAIN})
    assert {run.name: run for run in matrix}.items() <= more.items()
