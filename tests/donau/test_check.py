"""Configurations are checked by one job of the lab's Donau, which leaves nothing behind."""

from __future__ import annotations

from tests.support import checks
from tests.support.donau import DonauProject
from tests.support.trivial import EXPERIMENT


def test_a_check_is_one_helper_job_in_the_run_s_environment(on_donau: DonauProject) -> None:
    on_donau.site(activate=checks.entered(on_donau))
    checks.detector(on_donau)
    done = on_donau.cli("check", EXPERIMENT)
    why = "ModuleNotFoundError: No module named 'torch'"  # the node's Python has none
    assert (done.code, done.stderr.splitlines()) == (2, [f"error: not checked in environment tiny: {why}"])
    (job,) = on_donau.lab.jobs().values()
    assert job["name"].startswith("ddqjobs.check.")
    assert list((on_donau.results / ".jobs/submissions").iterdir()) == []
    assert list((on_donau.results / ".jobs/checks").iterdir()) == []
