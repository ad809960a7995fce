"""Impossible statements of an experiment file: every problem at once, by line, with what is allowed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ddqjobs.spec import reader
from ddqjobs.spec.check.experiment import check
from ddqjobs.spec.experiment import Experiment

GOOD: dict[str, Any] = {
    "name": "e",
    "implementations": {"legacy": "Old", "new": "New"},
    "codes": {
        "c": {"environment": "env", "commands": {"train": ["train", "{config}", "{seed}"], "test": ["test"]}}
    },
    "models": {
        "m": {"implementations": {"new": {"code": "c", "checkpoint": "m.pth"}, "legacy": {"code": "c"}}},
        "n": {"implementations": {"new": {"code": "c"}}},
    },
    "phases": {"1": {}, "2": {"against": "1"}},
    "variants": {"s7": {"seed": 7}},
    "tasks": {
        "train": {"kind": "train", "implementation": "new", "phase": "1", "variants": ["default", "s7"]},
        "test": {"kind": "test", "implementation": "new", "inputs": {"checkpoint": "train.checkpoint"}},
        "align": {"kind": "align", "once": True, "code": "c", "command": ["sh"]},
        "once": {"kind": "smoke", "once": True, "code": "c", "command": ["sh"]},
    },
}


PQ = {"name": "PQ", "key": "PQ", "scale": 1}


def problems(*changes: tuple[str, Any]) -> list[str]:
    """Problems after changes of a good file, each without its place."""
    content = msgspec.json.decode(msgspec.json.encode(GOOD))
    for path, value in changes:
        *above, last = path.split("/")
        at = content
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    text = msgspec.json.format(msgspec.json.encode(content)).decode()
    parsed = reader.parse(text, "e.yaml", Experiment, lambda _base, _by: ("", ""))
    errors = check(parsed.value, parsed.line_of, ["env"])
    lines = text.splitlines()
    assert all(error.file == "e.yaml" and 0 < error.line <= len(lines) for error in errors)
    return [error.message for error in errors]


def test_a_tolerance_of_another_metric_than_the_models_have() -> None:
    (problem,) = problems(("metric", PQ), ("phases/1/tolerance", {"ap": 0.2}))
    assert problem == "ap is box AP, and its models are judged by PQ; write metric"


def test_a_good_file_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "codes/c/environment",
            "evn",
            "unknown environment 'evn'; did you mean 'env'?; declared: env; for one of your own, write "
            "envs/evn/env.yaml with its name and python",
        ),
        ("models/m/implementations/old", {"code": "c"}, "unknown implementation 'old'"),
        ("models/m/implementations/new/code", "x", "unknown code 'x'; declared: c"),
        ("models/m/hours", {"tran": 1}, "unknown task 'tran'; did you mean 'train'?"),
        (
            "models/m/reference",
            {"ap": 1, "task": "train"},
            "a reference is either a figure (ap, value)",
        ),
        ("models/m/reference", {"ap": 1, "value": 1}, "a reference is one figure: ap (of box AP) or value"),
        (
            "models/m",
            {**GOOD["models"]["m"], "metric": PQ, "reference": {"ap": 39.4}},
            "ap is box AP, and this model is judged by PQ; write value: 39.4",
        ),
        ("metric", {"name": "AP50", "key": "PQ"}, "'AP50' is the name of bbox_mAP_50; choose another one"),
        ("metric", {"scale": 1, "decimals": 3}, "box AP is logged as a fraction and judged in points; leave"),
        ("metric", {"name": "result"}, "'result' is the column of several metrics"),
        ("phases/2/tolerance", {"metric": 0.2}, "its models are judged by box AP; write ap"),
        (
            "models/m/reference",
            {"task": "align"},
            "task 'align' gives no AP: its kind is align; tasks that do: train, test",
        ),
        ("models/m/reference", {"ap": 0.49}, "0.49 is a fraction; write AP in points: 49"),
        ("models/m/reference", {"ap": 513}, "513 is not a valid AP; write AP in points, from 0 to 100"),
        (
            "phases/1/tolerance",
            {"ap": 0.002},
            "0.002 AP points is less than the last printed digit (0.1); for a fraction write 0.2, "
            "for equal figures 0",
        ),
        ("tasks/test/tolerance", {"ap": 0.005}, "0.005 AP points is less than the last printed digit"),
        (
            "tasks/once/command",
            ["{python}", "t.py", "{checkpoint}"],
            "the command has {checkpoint}, and no input is named checkpoint; inputs: none",
        ),
        ("tasks/train/products", {"masks": ""}, "'' names no file; a product is a glob below the work_dir"),
        ("variants/s7/models", ["x"], "unknown model 'x'; declared: m, n"),
        ("variants/s7/implementations", ["nwe"], "unknown implementation 'nwe'; did you mean 'new'?"),
        ("phases/2/against", "3", "unknown phase '3'; declared: reference, 1, 2"),
        ("phases/2/against", "2", "phase 2 cannot be compared with itself"),
        ("tasks/train/phase", "9", "unknown phase '9'"),
        ("tasks/train/implementation", "x", "unknown implementation 'x'"),
        ("tasks/train/implementation", None, "name an implementation; declared: legacy, new"),
        ("tasks/train/variants", ["s8"], "unknown variant 's8'"),
        ("tasks/train/seeds", [1, 1], "a seed is listed twice"),
        ("tasks/train/models", ["x"], "unknown model 'x'"),
        ("tasks/train/code", "c", "only tasks with `once: true` name a code"),
        ("tasks/train/resources", {"time": "1 day"}, "'1 day' is not a valid duration; use 90s"),
        ("tasks/train/resources", {"memory": "lots"}, "'lots' is not a valid size; use 500MB"),
        ("resources", {"time": "soon"}, "'soon' is not a valid duration"),
        ("resources", {"time": "0s"}, "'0s' is not a usable time limit; use 90s"),
        ("tasks/train/resources", {"time": "0.4s"}, "'0.4s' is not a usable time limit; use 90s"),
        ("codes/c/variables", {"PYTHONPATH": "/poison:{env.PYTHONPATH}"}, "PYTHONPATH may only name folders"),
        ("codes/c/variables", {"PYTHONPATH": "lib:../poison"}, "PYTHONPATH may only name folders"),
        ("codes/c/variables", {"LD_PRELOAD": "/x.so"}, "LD_PRELOAD cannot be declared"),
        ("tasks/train/variables", {"PYTHONPATH": "lib"}, "PYTHONPATH is declared by a code"),
        ("tasks/train/variables", {"LOCAL_RANK": "0"}, "LOCAL_RANK cannot be declared"),
        ("tasks/train/command", [], "a command needs at least one word"),
        ("tasks/train/command", ["{cfg}"], "unknown placeholder {cfg}"),
        ("tasks/train/command", ["{input.x}"], "unknown input 'x' in {input.x}; this task's inputs: none"),
        ("tasks/train/command", ["--{options}"], "{options} stands for any number of words"),
        (
            "tasks/train/command",
            ["{env.a-b}"],
            "'a-b' in {env.a-b} is not a valid name of an environment variable",
        ),
        (
            "tasks/test/inputs",
            {"checkpoint": "released"},
            "model 'n' declares no checkpoint for implementation",
        ),
        ("tasks/test/inputs", {"checkpoint": "path:"}, "path: needs a path behind it"),
        (
            "tasks/test/inputs",
            {"checkpoint": "what"},
            "'what' is not a valid input; use TASK.ARTIFACT, released, or",
        ),
        ("tasks/test/inputs", {"checkpoint": "tarin.log"}, "unknown task 'tarin'; did you mean 'train'?"),
        (
            "tasks/test/inputs",
            {"checkpoint": "train.chekpoint"},
            "unknown artifact of task train 'chekpoint'",
        ),
        ("tasks/test/inputs", {"checkpoint": "test.log"}, "tasks need each other in a circle: test -> test"),
        ("tasks/once/code", None, "a task with `once: true` belongs to no model and must name its code"),
        ("tasks/once/models", ["m"], "a task with `once: true` belongs to no model: leave out models"),
        ("tasks/once/command", None, "code 'c' has no command for smoke tasks: add codes.c.commands.smoke"),
        (
            "tasks/once/inputs",
            {"x": "train.log"},
            "task 'train' has a run per model, but this task has only one",
        ),
        (
            "tasks/p",
            {"kind": "prepare", "once": True, "code": "c", "command": ["x"]},
            "a prepare task must declare",
        ),
    ],
)
def test_each_problem_is_told_with_what_is_allowed(path: str, value: object, message: str) -> None:
    messages = problems((path, value))
    assert [m for m in messages if m.startswith(message)], messages


@pytest.mark.parametrize("kind", ["train", "test", "prepare", "smoke"])
def test_a_task_whose_log_may_hold_an_ap_is_a_reference(kind: str) -> None:
    task = {"kind": kind, "once": True, "code": "c", "command": ["sh"], "products": {"out": "out"}}
    assert problems(("tasks/source", task), ("models/m/reference", {"task": "source"})) == []


@pytest.mark.parametrize("at", ["tasks/once", "codes/c/canary"])
@pytest.mark.parametrize("pattern", ["../../x", "a/../../x", "..", "/abs", "/"])
def test_a_product_that_leads_out_of_the_work_dir_is_refused_before_any_job(at: str, pattern: str) -> None:
    assert problems((f"{at}/products", {"data": pattern})) == [
        f"'{pattern}' leads out of the work_dir; a product is a glob below it, without .."
    ]


@pytest.mark.parametrize("pattern", [".", "*.pth", "**/x", "a..b", "...", "~", "a/b"])
def test_any_other_glob_is_a_product(pattern: str) -> None:
    assert problems(("tasks/once/products", {"data": pattern})) == []


def test_folders_of_the_code_s_own_tree_are_a_python_path() -> None:
    path = "{env.HOME}/trees/one:{env.HOME}/trees/one/lib:relative:{env.PYTHONPATH}"
    assert problems(("codes/c/path", "~/trees/one"), ("codes/c/variables", {"PYTHONPATH": path})) == []
    outside, tilde = ({"PYTHONPATH": value} for value in ("{env.HOME}/trees/../x", "~/trees"))
    assert problems(("codes/c/path", "~/trees"), ("codes/c/variables", outside)) == [
        "PYTHONPATH may only name folders of the code's path, ~/trees: "
        "'{env.HOME}/trees/../x' is in no digest; set PYTHONPATH in `codes.c.variables`"
    ]
    assert problems(("codes/c/path", "~/trees"), ("codes/c/variables", tilde)) == [
        "no shell expands '~/trees' in a variable; write {env.HOME}/trees"
    ]


def test_a_name_that_is_declared_and_built_in_is_listed_once() -> None:
    messages = problems(("variants/default", {"seed": 7}), ("tasks/train/variants", ["x"]))
    assert messages == ["unknown variant 'x'; declared: default, s7"]


def test_a_task_whose_upstream_lacks_a_model_is_told_which() -> None:
    messages = problems(("tasks/train/models", ["m"]))
    assert messages == ["task 'train' makes no run for model 'n'"]


SEEDLESS = {"environment": "env", "commands": {"train": ["train", "{config}"], "test": ["test"]}}


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ({"seed": 7, "models": ["m"]}, 0),
        ({"seed": 7, "models": ["n"]}, 1),
        ({"seed": 7}, 1),
        ({"seed": 7, "implementations": ["legacy"]}, 0),
        ({"deterministic": True, "models": ["n"]}, 1),
        ({"deterministic": True, "implementations": ["legacy"]}, 0),
    ],
)
def test_a_code_needs_a_seed_option_only_for_the_models_of_a_seeded_variant(
    variant: dict[str, Any], count: int
) -> None:
    """Here model n has a code that takes no seed."""
    hearing = {"seed_option": "seed", "deterministic_option": "exact"}
    command = ["train", "{config}", "{options}"]
    messages = problems(
        ("codes/c", {"environment": "env", "commands": {"train": command, "test": ["test"]}, **hearing}),
        ("codes/d", SEEDLESS),
        ("models/n/implementations/new/code", "d"),
        ("variants/s7", variant),
    )
    assert sum("does not reach the training" in message and "'d'" in message for message in messages) == count


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    messages = problems(("codes/c/environment", "x"), ("phases/2/against", "9"), ("tasks/train/phase", "8"))
    assert [m.split("'")[1] for m in messages] == ["x", "9", "8"]


def test_environments_are_not_looked_for_where_nobody_knows_them() -> None:
    parsed = reader.parse(msgspec.json.encode(GOOD).decode(), "e.yaml", Experiment, lambda _b, _n: ("", ""))
    assert check(parsed.value, parsed.line_of, None) == []


def test_several_gpus_for_a_training_of_one_process() -> None:
    command = ["{python}", "-m", "ddqjobs.detect.train", "{config}", "{seed}"]
    changes: list[tuple[str, Any]] = [("codes/c/commands/train", command), ("resources/gpus", 8)]
    (problem,) = problems(*changes)
    assert problem.startswith(
        "it asks for 8 GPUs and its command starts one process: give code 'c' a launcher"
    )
    assert problems(*changes, ("codes/c/launcher", "torchrun")) == []
    assert problems(*changes, ("tasks/train/resources", {"gpus": 1})) == []
    assert len(problems(*changes, ("tasks/train/resources", {"gpus": 1}), ("variants/s7/gpus", 2))) == 1
