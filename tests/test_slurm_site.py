"""The Slurm site on a real cluster: everything that it does to jobs, and every run executed once."""

from __future__ import annotations

from collections import Counter

import pytest
from slurm_support import Lab, SlurmProject
from support import EXPERIMENT, task

from ddqjobs.ledger import Submitted
from ddqjobs.model import Status

pytestmark = pytest.mark.slurm


def once_each(project: SlurmProject) -> None:
    """What must hold in the end: all done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {p.run.name: (p.status.value, p.reason) for p in plan.runs if p.status is not Status.DONE} == {}
    assert project.executions() == Counter(p.run.name for p in plan.runs)
    assert project.records()


def test_a_matrix_runs_as_arrays_with_dependencies(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.pairs(4)
    outcome = on_slurm.open().submit(EXPERIMENT)
    assert len(outcome.submitted) == 8
    assert outcome.left == {}
    on_slurm.until_over()
    once_each(on_slurm)
    assert sum(isinstance(r, Submitted) for r in on_slurm.records()) == 2  # two arrays
    assert Counter(state for _, _, state in lab.accounted()) == {"COMPLETED": 8}
    assert on_slurm.open().submit(EXPERIMENT).submitted == {}
