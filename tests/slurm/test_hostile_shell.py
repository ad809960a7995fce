"""Submission to Slurm from a hostile shell, with its variables exported and without."""

from __future__ import annotations

import os

import pytest

from tests.support.hostile import HOSTILE
from tests.support.slurm import SlurmProject
from tests.support.trivial import task

# What the job's script exports itself, and what Slurm or a shell of its own sets.
ITS_OWN = {
    "PATH", "PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PET_MAX_RESTARTS",
    "CUDA_VISIBLE_DEVICES",
}  # fmt: skip


@pytest.mark.parametrize("export", ["ALL", "NONE"])
def test_nothing_of_it_reaches_a_job(
    on_slurm: SlurmProject, monkeypatch: pytest.MonkeyPatch, export: str
) -> None:
    on_slurm.site({"extra": [f"--export={export}"]})
    on_slurm.tasks({"first": task()}, 'env -0 > "$DDQJOBS_WORK_DIR/out.txt"')
    with monkeypatch.context() as shell:  # Slurm's own commands fail in it
        for name, value in HOSTILE.items():
            shell.setenv(name, f"/poison/venv/bin:{os.environ['PATH']}" if name == "PATH" else value)
        shell.setenv("MINE", "mine")
        done = on_slurm.cli("submit", "trivial", "--wait")
    assert done.code == 0, done
    text = (on_slurm.results / "runs/first/artifacts/out").read_text()
    variables = dict(entry.split("=", 1) for entry in text.split("\0") if entry)
    of_node = {name: value for name, value in variables.items() if name.startswith(("SLURM_", "SRUN_"))}
    assert not {*HOSTILE} & {*variables} - ITS_OWN - of_node.keys()
    assert not {name for name, value in of_node.items() if value == HOSTILE.get(name)}
    assert "poison" not in text
    assert (variables["PET_MAX_RESTARTS"], variables["OMP_NUM_THREADS"]) == ("0", "1")
    assert variables.get("MINE") == ("mine" if export == "ALL" else None)
