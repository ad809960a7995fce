"""`doctor` on this machine, well and broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.doctor import INPUTS, lines


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", INPUTS) as project:
        project.text("weights.pth", "x")
        project.text("tree/data/here", "x")
        yield project


def test_on_this_machine_all_is_well(place: Place) -> None:
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 0, ran
    assert (ran.json["kind"], ran.json["site"], ran.json["errors"]) == ("doctor", "local", 0)
    findings = lines(ran)
    assert {level for entries in findings.values() for level, _ in entries} == {"ok"}
    assert set(findings) == {
        "scheduler", "inputs and code", "disk space", "inodes", "quota", "clock", "shared folder",
        "paths on a node",
    }  # fmt: skip
    assert not list((place.root / "results").glob("*/.jobs/submissions/*"))  # it leaves nothing behind
    assert place.states() == {"one": "eligible", "many": "eligible"}


def test_what_is_missing_is_an_error_with_its_remedy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (place.root / "weights.pth").unlink()
    (place.root / "tree" / "data" / "coco").symlink_to(place.root / "gone")
    ran = place.invoke("doctor", "tiny")
    assert ran.code == 1
    assert "error    slots: 1 run with more GPUs than the 0 here, first many" in ran.out
    assert "error    inputs and code: missing: weights.pth" in ran.out
    assert "         -> download or link them" in ran.out
    assert f"error    data: {place.root}/tree/data/coco leads nowhere" in ran.out
    assert "error    paths on a node: missing there: weights.pth" in ran.out
    assert ran.out.endswith("tiny on local: 4 errors, 0 warnings\n")


def test_a_misspelt_environment_in_the_site_file_is_warned_of(place: Place) -> None:
    named = {"mini-nwe": "envs/a/bin/activate", "of-another-project": "envs/b/bin/activate"}
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
    place.write("templates/local/site.yaml", {**site, "activate": named})
    text = (place.root / "templates/local/site.yaml").read_text()
    line = text.partition("mini-nwe")[0].count("\n") + 1
    ran = place.invoke("doctor", "tiny", "one", "--no-job", "--json")
    why = "`activate` names environment 'mini-nwe', which no envs/mini-nwe/env.yaml declares"
    finding = f"{place.root}/templates/local/site.yaml:{line}: {why}"
    assert (ran.code, lines(ran)["site file"]) == (0, [("warning", finding)])
    hint = f"{finding}; did you mean 'mini-new'?"
    assert place.invoke("plan", "tiny", "--json").json["hints"] == [hint]


def test_a_node_that_cannot_load_what_the_site_says(place: Place) -> None:
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
    place.write("templates/local/site.yaml", {**site, "modules": ["cuda/11"]})
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 1
    assert [level for level, _ in lines(ran)["modules"]] == ["error", "error"]
    place.write("templates/local/site.yaml", {**site, "setup": ["[ -f /nowhere ] && true", "(exit 3)"]})
    ran = place.invoke("doctor", "tiny", "one", "--json")
    finding = "line 2 ended with code 3, and so would every job: (exit 3)"
    assert (ran.code, lines(ran)["setup"]) == (1, [("error", finding)])
    place.write("templates/local/site.yaml", {**site, "setup": ["echo the setup is broken", "exit 3"]})
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 1
    [(level, finding)] = lines(ran)["compute node"]
    assert level == "error"
    assert "ended without an answer (exit 3): the setup is broken" in finding


def test_a_warning_longer_than_the_run_is_said_before_anything_is_submitted(place: Place) -> None:
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
    place.write("templates/local/site.yaml", {**site, "warning": "2h"})
    finding = "the site's warning of 2h00m is longer than that, and is cut"
    demand = "one: 1 x 0 GPUs, 1 CPUs, 1h00m"
    ran = place.invoke("doctor", "tiny", "one", "--no-job", "--json")
    assert (ran.code, lines(ran)["jobs"]) == (0, [("warning", f"{demand}: {finding}")])
    planned = place.invoke("plan", "tiny", "one").out
    assert "time before the warning: 1 of 1: one\n" in planned
    output = place.invoke("submit", "tiny", "one").out.splitlines()
    assert output[0].startswith(f"warning: {demand} (one): {finding}; give it more time, or ")
    assert output[1].startswith("submitted 1 run")


def test_a_queue_that_is_full_is_a_warning(place: Place) -> None:
    place.write("templates/local/site.yaml", {"name": "local", "scheduler": "local", "local": {"cpus": 1}})
    tiny = place.root / "experiments" / "tiny.yaml"
    tiny.write_text(INPUTS.replace('command: ["true"], inputs', "command: [sleep, '100'], inputs"))
    place.invoke("submit", "tiny", "one")
    ran = place.invoke("doctor", "tiny", "one", "--patience", "1s", "--json")
    assert ran.code == 0
    [(level, finding)] = lines(ran)["compute node"]
    assert level == "warning"
    assert "has not answered within 1 s: queued waits for slots" in finding


def test_donau_s_commands_are_missed_where_they_are_not(place: Place) -> None:
    """With them: test_donau_examination.py."""
    ran = place.invoke("doctor", "tiny", "one", "--site", "bscc", "--json")
    assert ran.code == 1
    [(level, finding)] = lines(ran)["scheduler"]
    assert level == "error"
    assert finding == "there is no djob here, so this is no login node of a Donau cluster"
    assert {"inputs and code", "disk space"} <= set(lines(ran))  # what can be looked at here is
    assert "compute node" not in lines(ran)


def test_a_node_tries_the_python_that_jobs_take_of_an_entered_environment(place: Place) -> None:
    place.text("envs/own/env.yaml", 'name: own\npython: "3.11"\n')
    place.text("own/bin/activate", f"PATH={place.root}/other:$PATH\n")
    for folder in ("own/bin", "other"):
        place.text(f"{folder}/python", f"#!/bin/sh\necho of {folder}\n").chmod(0o755)
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
    place.write("templates/local/site.yaml", {**site, "activate": {"own": "own/bin/activate"}})
    experiment = place.root / "experiments/tiny.yaml"
    experiment.write_text(experiment.read_text().replace("{path: tree}", "{path: tree, environment: own}"))
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert lines(ran)["environment own"] == [("ok", "works on a node: of own/bin")]
