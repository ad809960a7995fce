"""Commands as jobs of a site: the scripts for each scheduler, and jobs that end without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.errors import SchedulerError
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.registry import make_scheduler
from ddqjobs.spec.model import Resources
from ddqjobs.spec.shipped import shipped_root
from ddqjobs.submission import environment_node
from ddqjobs.submission.environment_node import NodeJob, run
from ddqjobs.submission.script import Context, Renderer
from tests.support import shellcheck
from tests.support.trivial import TrivialProject


@pytest.mark.parametrize(
    ("site", "lines"),
    [
        ("local", []),
        ("slurm", ["#SBATCH --gres=gpu:1", "#SBATCH --comment=t1", "#SBATCH --time=0-04:00:00"]),
        ("bscc", ["#DSUB -n ddqjobs.env.t1"]),
    ],
)
def test_scripts(site: str, lines: list[str], tmp_path: Path) -> None:
    declared = Catalog(tmp_path).site(site)
    renderer = Renderer([shipped_root() / "templates"])
    context = Context(results="/base/.jobs", project="/it's/a project", code="", token="t1", user="me")
    argv = ["python", "-m", "ddqjobs", "env", "build", "$(touch no)"]
    text = renderer.node_command(declared, context, Resources(gpus=1, cpus=8, time_s=14400), "env", argv)
    head = text.splitlines()
    assert head[0] == "#!/usr/bin/env bash"
    for line in lines:
        assert line in head, text
    assert "python -m ddqjobs env build '$(touch no)'" in head
    path = tmp_path / "job.sh"
    path.write_text(text)
    assert shellcheck.problems(path) == ""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[TrivialProject]:
    made = TrivialProject(tmp_path / "project")
    yield made
    made.close()


def job(project: TrivialProject, *argv: str) -> NodeJob:
    return NodeJob(argv, "a test", Resources(), project.root, project.root / ".jobs", "t1", "me")


def test_output_and_exit_code_are_handed_on(project: TrivialProject) -> None:
    site = Catalog(project.root).site("local")
    said: list[str] = []
    renderer = Renderer([shipped_root() / "templates"])
    words = job(project, "bash", "-c", "pwd; echo second >&2; exit 7")
    assert run(make_scheduler(site, project.root), site, renderer, words, said.append) == 7
    assert said[0].startswith("job ")
    assert [line for line in said[1:] if not line.startswith("job ")] == [str(project.root), "second"]


def test_a_job_that_is_cancelled(project: TrivialProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_node, "_GRACE_S", 0.2)
    monkeypatch.setattr(environment_node, "_ASK_EVERY_S", 0.1)
    site = Catalog(project.root).site("local")
    scheduler = make_scheduler(site, project.root)

    def say(line: str) -> None:
        if line.endswith("/out"):
            scheduler.cancel([line.split()[1]])

    with pytest.raises(SchedulerError, match=r"job \S+ ended without saying how \(.+\); see .*/out$"):
        run(scheduler, site, Renderer([shipped_root() / "templates"]), job(project, "sleep", "600"), say)
