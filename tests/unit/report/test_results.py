"""One row per run, with numbers where there are numbers and reasons where there are none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ddqjobs.detect.job.training_progress import Progress
from ddqjobs.report.columns import COLUMNS
from ddqjobs.report.results import (
    Score,
    frame,
    rows,
    say,
    score,
)
from ddqjobs.spec import experiment as e
from ddqjobs.spec.model import Plan, PlannedRun, Product, Run, Status, TaskKind

EXPERIMENT = e.Experiment(name="x", implementations={}, codes={}, models={}, tasks={})


def run(name: str, kind: TaskKind = TaskKind.TEST, **more: object) -> Run:
    values = {"name": name, "experiment": "x", "task": "t", "kind": kind, "phase": "1", "model": "m"}
    return Run(**{**values, **more})  # type: ignore[arg-type]


def product(name: str, kind: TaskKind = TaskKind.TEST, **metrics: float | None) -> Product:
    return Product(run=name, digest="made", kind=kind, attempt=2, metrics=metrics)


def plan(*planned: PlannedRun) -> Plan:
    return Plan(experiment="x", site="local", runs=planned)


def done(name: str, kind: TaskKind = TaskKind.TEST, **more: object) -> PlannedRun:
    return PlannedRun(run=run(name, kind, **more), status=Status.DONE, reason="product", attempts=2)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"bbox_mAP": 0.513}, Score(quanta=513)),
        ({"bbox_mAP": 0.5}, Score(quanta=500)),
        ({"bbox_mAP": None}, Score(note="nan")),
        ({"bbox_mAP": float("nan")}, Score(note="nan")),
        ({"bbox_mAP": -1.0}, Score(note="no such objects")),
        ({"bbox_mAP": -0.5}, Score(note="missing")),
        ({}, Score(note="missing")),
    ],
)
def test_scores(metrics: dict[str, float | None], expected: Score) -> None:
    assert score(product("a", TaskKind.TEST, **metrics)) == expected


def test_a_row_has_points_quanta_and_notes() -> None:
    row = rows(
        EXPERIMENT, plan(done("a")), {"a": product("a", bbox_mAP=0.513, bbox_mAP_s=-1.0, bbox_mAP_50=None)}
    )[0]
    assert (row.AP, row.ap_quanta, row.AP50, row.APs) == (51.3, 513, None, None)
    assert row.metric_notes == "AP50: nan; AP75: missing; APs: no such objects; APm: missing; APl: missing"
    assert (row.attempts, row.attempt, row.digest, row.says) == (2, 2, "made", "done")


def test_only_a_done_run_s_product_counts() -> None:
    failed = PlannedRun(run=run("a"), status=Status.FAILED, reason="exit 1")
    row = rows(EXPERIMENT, plan(failed), {"a": product("a", bbox_mAP=0.5)})[0]
    assert (row.AP, row.says) == (None, "failed: unknown")


def test_a_lost_product_is_said() -> None:
    assert rows(EXPERIMENT, plan(done("a")), {})[0].says == "product missing"


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, "running"),
        (Progress(), "running"),
        (Progress(iteration=40), "running (iteration 40)"),
        (Progress(epoch=3), "running (epoch 3)"),
        (Progress(epoch=3, epochs=12), "running (epoch 3/12)"),
    ],
)
def test_running_says_how_far(progress: Progress | None, text: str) -> None:
    from ddqjobs.spec.model import JobState

    planned = PlannedRun(run=run("a"), status=Status.ACTIVE, reason="", state=JobState.RUNNING)
    assert say(planned, progress) == text


def test_the_frame_sorts_as_the_report_and_has_nullable_integers() -> None:
    experiment = e.Experiment(
        name="x",
        implementations={"new": "", "legacy": ""},
        codes={},
        models={"z": e.Model(implementations={}), "a": e.Model(implementations={})},
        phases={"1": e.Phase()},
        tasks={},
    )
    table = frame(
        experiment,
        plan(
            done("r1", model="a", implementation="legacy", seed=7),
            done("r2", model="z", implementation="new"),
        ),
        {"r1": product("r1", bbox_mAP=0.5), "r2": product("r2", bbox_mAP=None)},
    )
    assert tuple(table.columns) == COLUMNS
    assert list(table.sort_values("model")["run"]) == ["r2", "r1"]
    assert table["ap_quanta"].sum() == 500
    assert table["seed"].isna().tolist() == [False, True]
    assert table["AP"].isna().tolist() == [False, True]
    assert table["metric_notes"][1].startswith("AP: nan")


def test_an_empty_plan_makes_an_empty_frame() -> None:
    experiment = e.Experiment(name="x", implementations={}, codes={}, models={}, tasks={})
    assert frame(experiment, plan(), {}).empty


def test_pandas_is_imported_by_the_frame_only() -> None:
    code = "import ddqjobs.report.results, ddqjobs.report.formats, sys; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
