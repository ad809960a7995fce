"""The Donau site on the lab's Donau, in both generations: every run once, whatever the commands say."""

from __future__ import annotations

from collections import Counter

from donau_support import DonauProject
from support import EXPERIMENT

from ddqjobs.model import Status


def once_each(project: DonauProject) -> None:
    """What must hold in the end: all done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {p.run.name: (p.status.value, p.reason) for p in plan.runs if p.status is not Status.DONE} == {}
    assert project.executions() == Counter(p.run.name for p in plan.runs)
    assert project.records()


def test_a_matrix_is_done_once(on_donau: DonauProject) -> None:
    on_donau.pairs(2)
    assert len(on_donau.open().submit(EXPERIMENT).submitted) == 2
    on_donau.submit_all()
    once_each(on_donau)
    assert {job["state"] for job in on_donau.lab.jobs().values()} == {"SUCCEEDED"}
    assert on_donau.open().submit(EXPERIMENT).submitted == {}
