"""A renamed experiment keeps its results, whatever is killed; a renamed task's results are taken over."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError, MissingError, StateError
from ddqjobs.planning.filters import Filters
from ddqjobs.spec.model import Status
from ddqjobs.submission import renaming
from tests.support.trivial import EXPERIMENT, TrivialProject, end_of, fork, task
from tests.unit.submission.test_removal import finished, leave

__all__ = ["finished"]


def statuses(project: TrivialProject, experiment: str) -> dict[str, str]:
    plan = project.open().plan(experiment, refresh=False)
    return {planned.run.name: "gone" if planned.gone else planned.word for planned in plan.runs}


def named(project: TrivialProject) -> None:
    """Write the experiment as a user does: one key on a line."""
    path = project.root / f"experiments/{EXPERIMENT}.yaml"
    content = json.loads(path.read_text())
    lines = [f"{key}: {json.dumps(value)}" for key, value in content.items()]
    path.write_text("\n".join(["# mine", *lines]) + "\n")


def test_a_renamed_experiment_keeps_its_results(finished: TrivialProject) -> None:
    named(finished)
    finished.write("experiments/child.yaml", {"name": "child"})
    (finished.root / "experiments/child.yaml").write_text(f"base: {EXPERIMENT}\nname: child\n")
    assert finished.open().rename(EXPERIMENT, "new") == ["child"]
    assert statuses(finished, "new") == {"first": "done", "second": "done"}
    assert (finished.root / "experiments/new.yaml").read_text().startswith("# mine\nname: new\n")
    assert not (finished.root / f"experiments/{EXPERIMENT}.yaml").exists()
    assert sorted(path.name for path in (finished.root / "results").iterdir() if path.is_dir()) == ["new"]


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_the_folder() -> None:
    Path.rename = kill  # type: ignore[assignment,method-assign]


def _after_the_folder() -> None:
    renaming._undo_if_submitted = kill  # type: ignore[assignment]


@pytest.mark.parametrize("die", [_before_the_folder, _after_the_folder])
def test_a_rename_that_is_killed_is_finished_by_the_next(
    finished: TrivialProject, die: Callable[[], None]
) -> None:
    named(finished)

    def killed() -> None:
        die()
        finished.open().rename(EXPERIMENT, "new")

    assert end_of(fork(killed)) == -signal.SIGKILL
    finished.open().rename(EXPERIMENT, "new")
    assert statuses(finished, "new") == {"first": "done", "second": "done"}
    with pytest.raises(MissingError, match=f"unknown experiment '{EXPERIMENT}'"):
        finished.open().rename(EXPERIMENT, "new")


def test_what_cannot_be_renamed_stays_as_it_is(finished: TrivialProject) -> None:
    named(finished)
    front = finished.open()
    with pytest.raises(InputError, match="'a/b' is not a valid name"):
        front.rename(EXPERIMENT, "a/b")
    with pytest.raises(InputError, match="an experiment mini ships with ddqjobs"):
        front.rename(EXPERIMENT, "mini")
    with pytest.raises(MissingError, match="nano is not an experiment of this project"):
        front.rename("nano", "new")
    (finished.root / "results/new").mkdir()
    with pytest.raises(StateError, match="already exists; choose another name"):
        front.rename(EXPERIMENT, "new")
    leave(finished, "third", "t3", at=50.0, ended=False)
    with pytest.raises(StateError, match="third is active; wait for it, or cancel it"):
        finished.open().rename(EXPERIMENT, "other")
    assert statuses(finished, EXPERIMENT) == {"first": "done", "second": "done"}
    assert [path.name for path in (finished.root / "experiments").iterdir()] == [f"{EXPERIMENT}.yaml"]


def test_results_of_a_renamed_task_are_taken_over(finished: TrivialProject) -> None:
    finished.tasks({"one": task(), "second": task(inputs={"before": "one.out"})})
    assert statuses(finished, EXPERIMENT) == {"one": "eligible", "second": "done"}
    ran = finished.cli("adopt", EXPERIMENT, "--from", EXPERIMENT)
    line = f"adopted run one from run first of experiment {EXPERIMENT} ("
    assert ran.stdout.startswith(line), ran.stderr
    named(finished)
    finished.open().rename(EXPERIMENT, "new")  # its links lead on
    plan = finished.open().plan("new", refresh=False)
    assert [planned.status for planned in plan.runs] == [Status.DONE, Status.DONE]
    out = finished.root / "results/new/runs/one/artifacts/out"
    assert out.read_text() == "done"
    with pytest.raises(StateError, match="first was adopted by one"):
        finished.open().removals("new", Filters(runs=("first",)))
