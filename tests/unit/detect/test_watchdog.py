"""The watchdog against hangs, on the local site with real processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ddqjobs.detect import watchdog
from ddqjobs.spec.model import FailureClass, Status
from tests.support.trivial import TrivialProject, until


def with_limit(trivial: TrivialProject, limit: str) -> TrivialProject:
    path = trivial.root / "templates" / "local" / "site.yaml"
    trivial.write("templates/local/site.yaml", {**json.loads(path.read_text()), "hang": limit})
    return trivial


@pytest.mark.slow
def test_a_task_that_hangs_is_ended_with_all_its_processes_and_may_be_retried(
    trivial: TrivialProject,
) -> None:
    project = with_limit(trivial, "2s")
    # A worker in a session of its own, which does not listen to TERM: as launchers of several processes make.
    worker = "setsid sh -c 'trap \"\" TERM; while :; do sleep 300; done' &"
    tasks = {"first": {"kind": "smoke", "once": True, "code": "shell", "products": {"out": "out.txt"}}}
    project.tasks(tasks, work=f"echo begun; {worker} sleep 300")
    assert project.open().submit("trivial").submitted
    planned = project.until_over()["first"]
    assert planned.status is Status.ELIGIBLE
    assert "retry 1 of 2" in planned.reason
    assert "no new log line and no progress for 2 s" in planned.reason
    (attempt,) = project.open().attempts(project.plan(), "first")
    assert attempt.failure is FailureClass.HANG
    until(lambda: not watchdog.processes(project.results / "runs" / "first" / "attempts" / "1"))


@pytest.mark.slow
def test_a_task_that_is_slow_but_says_so_is_left_alone(trivial: TrivialProject) -> None:
    project = with_limit(trivial, "2s")
    slow = 'for i in 1 2 3 4; do sleep 1; echo $i; done; echo done > out.txt; cp out.txt "$DDQJOBS_WORK_DIR"'
    tasks = {"first": {"kind": "smoke", "once": True, "code": "shell", "products": {"out": "out.txt"}}}
    project.tasks(tasks, work=slow)
    assert project.submit_all()["first"].status is Status.DONE


def test_progress_without_a_log_line_is_a_sign_of_life(tmp_path: Path) -> None:
    (tmp_path / "work_dir" / "20260101_000000" / "vis_data").mkdir(parents=True)
    signs = {watchdog.signs(tmp_path)}
    for name in ("stdout.log", "work_dir/progress.json", "work_dir/20260101_000000/vis_data/scalars.json"):
        (tmp_path / name).write_text("1\n")
        assert watchdog.signs(tmp_path) not in signs
        signs.add(watchdog.signs(tmp_path))


def test_it_ends_with_the_task(tmp_path: Path) -> None:
    gone = os.spawnlp(os.P_WAIT, sys.executable, sys.executable, "-c", "")
    assert gone == 0
    assert not watchdog.stands_still(tmp_path, task=1 << 30, limit=0.1)
