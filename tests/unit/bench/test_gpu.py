"""A measurement on a GPU that did not happen does not read as one that did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.gpu import __main__ as bench
from tests.bench.gpu import verdict
from tests.support.paths import ROOT


def _training(rows: int, code: int = 0, **changed: float) -> dict[str, Any]:
    """Return a training's result as ``train`` does; ``changed``: losses by iteration, as ``at3=...``."""
    losses = [changed.get(f"at{n + 1}", 10.0 - n) for n in range(rows)]
    return {"code": code, "rows": [{"loss": loss, "grad_norm": 1.0, "time": 0.1} for loss in losses]}


def test_two_whole_trainings_are_compared_to_the_last_bit() -> None:
    same = bench.compare(_training(5), _training(5), 5)
    assert same["bit_equal"] is True
    assert not bench.judge(same, True)
    other = bench.compare(_training(5), _training(5, at4=7.000000000000001), 5)
    assert (other["bit_equal"], other["first_difference"]) == (False, 4)
    assert bench.judge(other, True) == "differ from iteration 4"
    assert not bench.judge(other, False)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"code": 1}, {"code": 1}),
        (_training(5), {"code": 124}),
        (_training(3), _training(5)),
        (_training(3), _training(3)),
        (_training(6), _training(6)),
        (_training(5, code=1), _training(5)),
        ({"code": 0, "rows": [{"time": 1.0}] * 5}, {"code": 0, "rows": [{"time": 1.0}] * 5}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize("should", [True, False])
def test_a_failed_or_short_training_is_not_equal_to_anything(
    one: dict[str, Any], two: dict[str, Any], should: bool
) -> None:
    compared = bench.compare(one, two, 5)
    assert compared["bit_equal"] is False
    assert compared["incomplete"]
    assert bench.judge(compared, should).startswith("not compared: ")


def test_a_loss_that_is_no_number_is_a_difference() -> None:
    comparison = bench.compare(_training(2, at2=float("nan")), _training(2, at2=float("nan")), 2)
    assert (comparison["bit_equal"], comparison["first_difference"]) == (False, 2)


def test_a_training_without_all_its_iterations_is_incomplete() -> None:
    whole = {**_training(4), "seconds": [0.1] * 3}
    assert not bench.incomplete(whole, 4, -1)
    assert "of 5" in bench.incomplete(whole, 5, -1)
    assert bench.incomplete({**whole, "seconds": []}, 4, -1)
    assert bench.incomplete(whole, 4, 2) == "no profile"


def test_one_log_is_read_and_never_any_of_several(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 logs"):
        verdict.scalars(tmp_path)
    for name in ("1", "2"):
        folder = tmp_path / name / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text(json.dumps({"loss": 1.0}) + "\n")
        if name == "1":
            assert verdict.scalars(tmp_path) == [{"loss": 1.0}]
    with pytest.raises(ValueError, match="2 logs"):
        verdict.scalars(tmp_path)


def test_what_failed_is_a_line_each_and_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict.end([]) == 0
    assert verdict.end([("a", "left out: 3 s left"), ("b", "Traceback\n  x\nValueError: y")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "failed: a: left out: 3 s left",
        "failed: b: Traceback x ValueError: y",
    ]


def test_a_step_that_fails_fails_the_bench_and_leaves_no_older_result(tmp_path: Path) -> None:
    (tmp_path / "no_such_step.json").write_text("{}")
    argv = [sys.executable, "-m", "tests.bench.gpu", str(tmp_path), "no_such_step"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("failed: no_such_step: exit code 1: ")
    assert not (tmp_path / "no_such_step.json").exists()
