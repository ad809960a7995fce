"""Configurations are checked by one job of a real Slurm, which leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.support import checks
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import EXPERIMENT, until


def test_a_check_is_one_helper_job_in_the_run_s_environment(lab: Lab, tmp_path: Path) -> None:
    project = SlurmProject(tmp_path / "project")
    project.site(activate=checks.entered(project))
    checks.detector(project)
    done = project.cli("check", EXPERIMENT)
    why = "ModuleNotFoundError: No module named 'torch'"  # the node's Python has none
    assert (done.code, done.stderr.splitlines()) == (2, [f"error: not checked in environment tiny: {why}"])
    until(lambda: [name for _, name, _ in lab.accounted(project.root)] == ["ddqjobs.check"])
    assert list((project.results / ".jobs/submissions").iterdir()) == []
    assert list((project.results / ".jobs/checks").iterdir()) == []
