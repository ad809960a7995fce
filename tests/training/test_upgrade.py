"""A matrix that an older ddqjobs trained and tested is gone on with in today's environments."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.planning.filters import Filters
from ddqjobs.project import SubmitOptions, open_project
from ddqjobs.spec.model import Status

ALIGN = "p2-align.ddq-detr-r18"


def test_predictions_of_then_are_compared_today(upgraded: Path) -> None:
    """If task code has changed since, the user first accepts the old results."""
    project = open_project(upgraded)
    done = project.products("mine").keys()
    before = project.plan("mine")
    stale = [planned for planned in before.runs if planned.stale]
    if stale:
        accepted = project.accept(before, stale, "only the version of ddqjobs changed")
        assert [planned.stale for planned in accepted.runs] == [""] * len(stale)
    plan = project.wait("mine", Filters(runs=(ALIGN,)), SubmitOptions())
    assert [(planned.run.name, planned.status) for planned in plan.runs] == [(ALIGN, Status.DONE)]
    assert open_project(upgraded).products("mine").keys() == {*done, ALIGN}
