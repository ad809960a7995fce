"""`doctor` on a real cluster, well and broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.doctor import INPUTS, lines
from tests.support.slurm import Lab, wrap_sbatch


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", INPUTS) as project:
        project.text("weights.pth", "x")
        project.text("tree/data/here", "x")
        yield project


def test_a_real_slurm_cluster_well_and_broken(place: Place, lab: Lab) -> None:
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "gpu"}, "grace": "0s"}
    place.write("templates/slurm/site.yaml", {**site, "limits": {"array_size": 100}})
    well = place.invoke("doctor", "tiny", "--site", "slurm", "--gpus", "1", "--json")
    assert well.code == 0, well.out
    findings = lines(well)
    assert {level for entries in findings.values() for level, _ in entries} == {"ok"}
    assert findings["jobs"] == [
        ("ok", "one: 1 x 0 GPUs, 1 CPUs, 1h00m: would be taken"),
        ("ok", "many: 1 x 8 GPUs, 1 CPUs, 1h00m: would be taken"),
    ]
    assert {"scheduler", "limits", "accounting", "clock", "shared folder", "paths on a node"} <= set(findings)
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


def test_a_probe_whose_sbatch_did_not_answer_is_found_and_its_answer_judged(
    place: Place, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "gpu"}, "submit_timeout": "4s"}
    place.write("templates/slurm/site.yaml", {**site, "limits": {"array_size": 100}})
    mute = 'case "$*" in *--test-only*) exec "$SBATCH" "$@";; esac; "$SBATCH" "$@" > /dev/null; sleep 1000'
    wrap_sbatch(place, monkeypatch, mute)
    ran = place.invoke("doctor", "tiny", "one", "--site", "slurm", "--json")
    assert ran.code == 0, ran.out
    findings = lines(ran)
    assert {level for entries in findings.values() for level, _ in entries} == {"ok"}
    assert {"clock", "shared folder", "paths on a node"} <= set(findings)
    assert not list((place.root / "results").glob("*/.jobs/submissions/*"))


def test_a_probe_that_was_neither_taken_nor_refused_is_given_up(
    place: Place, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "gpu"}, "submit_timeout": "2s"}
    place.write("templates/slurm/site.yaml", {**site, "limits": {"array_size": 100}})
    wrap_sbatch(place, monkeypatch, 'case "$*" in *--test-only*) exec "$SBATCH" "$@";; esac; sleep 1000')
    ran = place.invoke("doctor", "tiny", "one", "--site", "slurm", "--json")
    assert ran.code == 1
    [(level, finding)] = lines(ran)["compute node"]
    assert level == "error"
    assert "gave no answer within 2 s; the job was not found within 2 s and was given up" in finding
    assert not list((place.root / "results").glob("*/.jobs/submissions/*"))


def test_what_can_never_run_is_said_by_doctor(place: Place, lab: Lab) -> None:
    """The partition `short` ends jobs after ten minutes; no node has a terabyte."""
    site = {"name": "slurm", "scheduler": "slurm", "slurm": {"partition": "short"}, "grace": "0s"}
    place.write("templates/slurm/site.yaml", site)
    long = INPUTS.replace("optional: true, resources: {gpus: 8}", "resources: {memory: 900TB, time: 5m}")
    place.text("experiments/tiny.yaml", long)
    ran = place.invoke("doctor", "tiny", "--site", "slurm", "--no-job", "--json")
    assert ran.code == 1, ran
    findings = lines(ran)["jobs"]
    assert [level for level, _ in findings] == ["error", "error"]
    assert "1h00m" in findings[0][1]
    assert "time limit" in findings[0][1].lower()
    assert "900 TB" in findings[1][1]
    assert "configuration is not available" in findings[1][1]
