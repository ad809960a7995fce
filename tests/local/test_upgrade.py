"""Results that an older ddqjobs made are planned, reported and continued; what was done stays done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ddqjobs.planning.filters import Filters
from ddqjobs.project import Project, SubmitOptions, open_project
from ddqjobs.spec.model import PlannedRun, Status, TaskKind
from ddqjobs.store.ledger import Intent, Ledger
from tests.support.upgrade import ARCHIVES

LEFT = {"p2-align.ddq-detr-r18", "p2-capture-legacy.ddq-detr-r18", "p2-capture-new.ddq-detr-r18"} | {
    "p2-modules.ddq-detr-r18"
}


def by_name(project: Project, experiment: str) -> dict[str, PlannedRun]:
    return {planned.run.name: planned for planned in project.plan(experiment).runs}


def submissions(folder: Path, experiment: str) -> Counter[str]:
    """Count the submissions of each run."""
    records = Ledger(folder / "results" / experiment / "ledger").read()
    return Counter(run for record in records if isinstance(record, Intent) for run in record.runs)


def test_there_is_a_recording() -> None:
    assert ARCHIVES


def test_the_nano_plan_keeps_its_done_runs(upgraded: Path) -> None:
    plan = by_name(open_project(upgraded), "mine")
    assert {name for name, planned in plan.items() if planned.status is not Status.DONE} == LEFT
    assert not [name for name, planned in plan.items() if planned.gone]


def test_stale_runs_are_explained(upgraded: Path) -> None:
    """Only a change of what decides a result makes a done run stale, and the plan names it."""
    project = open_project(upgraded)
    plan = project.plan("mine")
    stale = {planned.run.name for planned in plan.runs if planned.stale}
    explained = {run for change in project.changes(plan) for run in change.runs}
    assert explained == stale


def test_the_report_has_the_recorded_numbers(upgraded: Path) -> None:
    project = open_project(upgraded)
    table = project.results("mine").set_index("run")
    tests = {
        name: result for name, result in project.products("mine").items() if result.kind is TaskKind.TEST
    }
    assert len(tests) == 4
    for name, product in tests.items():
        recorded = product.metrics["bbox_mAP"]
        assert recorded is not None
        assert table.loc[name, "AP"] == pytest.approx(100 * recorded)
    # Task code that has changed since makes a done run stale; it stays done.
    missing = [row for row in project.report("mine").missing if row.what != "done but stale"]
    assert {run for row in missing for run in row.runs} <= LEFT


def test_the_rest_is_run_and_nothing_is_repeated(upgraded: Path) -> None:
    project = open_project(upgraded)
    before = by_name(project, "steps")
    assert {name: planned.status for name, planned in before.items()} == {
        "first": Status.DONE, "second": Status.DONE, "third": Status.ELIGIBLE,
    }  # fmt: skip
    assert not [planned.stale for planned in before.values() if planned.stale]
    submitted = submissions(upgraded, "steps")
    project.wait("steps", Filters(), SubmitOptions())
    after = by_name(open_project(upgraded), "steps")
    assert {planned.status for planned in after.values()} == {Status.DONE}
    assert submissions(upgraded, "steps") - submitted == Counter(["third"])
    product = upgraded / "results/steps/runs/third/artifacts/out"
    assert product.read_text().split() == ["one", "two", "three"]
