"""Environments entered in a container image. No Apptainer can be had here: a stand-in logs its arguments and
runs the Python of the tests in place of the image's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.spec.model import FailureClass, Status
from tests.support import shellcheck
from tests.support.hostile import HOSTILE
from tests.support.trivial import EXPERIMENT, TrivialProject, task

NAME = "modern-cpu"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> {log}
env >> {log}.env
[ "$1" = exec ] || exit 64
while [ "$1" != /opt/environment/bin/python ]; do shift; done
shift
exec {python} "$@"
"""
LEAVE = (
    "import os, pathlib; pathlib.Path(os.environ['DDQJOBS_WORK_DIR'], 'out.txt').write_text('made inside')"
)


@pytest.fixture
def boxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrivialProject:
    """A project whose local site enters `modern-cpu` through what `env export --apptainer` wrote."""
    project = TrivialProject(tmp_path / "it's boxed")
    tools, log = tmp_path / "tools", tmp_path / "log"
    tools.mkdir()
    stand_in = tools / "apptainer"
    stand_in.write_text(STAND_IN.format(log=log, python=sys.executable))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    arguments = ["env", "export", NAME, "--apptainer", "--out", "images", "-C", str(project.root)]
    done = process.run([sys.executable, "-m", "ddqjobs", *arguments], timeout=60, cwd=project.root)
    assert done.code == 0, done.stderr
    assert f"activate: {{{NAME}: {project.root}/images/{NAME}/bin/activate}}" in done.stdout + done.stderr
    project.local_site(activate={NAME: f"images/{NAME}/bin/activate"})
    code = {"environment": NAME, "commands": {"smoke": ["{python}", "-c", LEAVE]}}
    project.tasks({"inside": task(code="boxed")}, codes={"boxed": code})
    return project


def test_runs_work_inside_the_image_and_have_nothing_of_a_hostile_shell_there(
    boxed: TrivialProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, f"/poison/venv/bin:{os.environ['PATH']}" if name == "PATH" else value)
    image = boxed.root / "images" / f"{NAME}.sif"
    image.touch()
    assert boxed.submit_all()["inside"].status is Status.DONE
    results = boxed.root / "results" / EXPERIMENT
    assert (results / "runs" / "inside" / "artifacts" / "out").read_text() == "made inside"
    calls = (tmp_path / "log").read_text().splitlines()
    task_call = next(call for call in calls if "made inside" in call)
    assert f"{image} /opt/environment/bin/python -c" in task_call
    assert f"--bind {results} " in task_call  # the run, its claim and the code that was submitted
    variables = (tmp_path / "log.env").read_text()
    assert "DDQJOBS_RUN_DIR=" in variables
    assert [line for line in variables.splitlines() if "poison" in line] == []
    ranks = ("RANK=", "WORLD_SIZE=", "PYTHONOPTIMIZE=", "OMP_NUM_THREADS=9")
    assert not [line for line in variables.splitlines() if line.startswith(ranks)]


def test_a_missing_image_is_a_fault_of_the_environment(boxed: TrivialProject) -> None:
    ended = boxed.submit_all()["inside"]
    assert ended.status is Status.FAILED
    assert ended.failure is FailureClass.ENVIRONMENT
    log = boxed.root / "results" / EXPERIMENT / "runs" / "inside" / "attempts" / "1" / "stdout.log"
    assert f"{NAME}.sif is missing; apptainer build" in log.read_text()


def test_what_enters_passes_shellcheck(boxed: TrivialProject) -> None:
    folder = boxed.root / "images" / NAME / "bin"
    assert os.access(folder / "python", os.X_OK)
    scripts = (folder / "python", folder / "activate")
    assert shellcheck.problems(*scripts, options=("--shell=bash",)) == ""
