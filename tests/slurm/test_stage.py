"""Inputs on the own disk of each node of a real cluster."""

from __future__ import annotations

from pathlib import Path

from tests.support.slurm import Lab, SlurmProject
from tests.support.staging import declare, where


def test_each_slurm_node_has_its_own_copy(lab: Lab, on_slurm: SlurmProject, tmp_path: Path) -> None:
    """Two arrays' elements of two nodes each, at the same time: one copy for each node."""
    disk = tmp_path / "disks"
    disk.mkdir()
    on_slurm.site(stage_to=f"{disk}/$SLURMD_NODENAME")
    nodes = {"nodelist": f"{lab.node(1)},{lab.node(2)}"}
    declare(on_slurm, stage=["b"], resources={"nodes": 2}, slurm=nodes)
    plan = on_slurm.submit_all()
    assert {planned.status.value for planned in plan.values()} == {"done"}
    places = {where(on_slurm, f"read.s{s}", rank) for s in (1, 2) for rank in ("0", "1")}
    assert {path.relative_to(disk).parts[0] for path in places} == {lab.node(1), lab.node(2)}
    assert len(places) == 2
    logs = "".join(path.read_text() for path in on_slurm.results.glob("runs/read.*/attempts/1/stdout.log"))
    assert logs.count("stage: copying ") == 2
