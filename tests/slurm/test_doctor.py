"""`doctor` on a real cluster, well and broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.doctor import INPUTS, lines
from tests.support.slurm import Lab


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", INPUTS) as made:
        made.text("weights.pth", "x")
        made.text("tree/data/here", "x")
        yield made


def test_a_real_slurm_cluster_well_and_broken(place: Place, lab: Lab) -> None:
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "gpu"}, "grace": "0s"}
    place.write("templates/slurm/site.yaml", {**site, "limits": {"array_size": 100}})
    well = place.invoke("doctor", "tiny", "--site", "slurm", "--gpus", "1", "--json")
    assert well.code == 0, well.out
    found = lines(well)
    assert {level for seen in found.values() for level, _ in seen} == {"ok"}
    assert found["jobs"] == [
        ("ok", "one: 1 x 0 GPUs, 1 CPUs: would be taken"), ("ok", "many: 1 x 8 GPUs, 1 CPUs: would be taken"),
    ]  # fmt: skip
    assert {"scheduler", "limits", "accounting", "clock", "shared folder", "paths on a node"} <= set(found)
    assert not list((place.root / "results").glob("*/.jobs/submissions/*"))
    place.write(
        "templates/slurm/site.yaml",
        {**site, "slurm": {"partition": "nope"}, "limits": {"array_size": 50_000}, "modules": ["x"]},
    )
    broken = place.invoke("doctor", "tiny", "one", "--site", "slurm", "--json")
    assert broken.code == 1
    assert "nope" in lines(broken)["jobs"][0][1]
    assert lines(broken)["limits"] == [("error", "arrays of 50000, Slurm takes 20000")]
    assert lines(broken)["compute node"][0][0] == "error"  # nor would the probe be taken
    lab.kill("slurmctld")
    down = place.invoke("doctor", "tiny", "one", "--site", "slurm")
    assert down.code == 1
    assert "error    scheduler: Slurm cannot be asked: " in down.out
    assert "jobs:" not in down.out
