"""`doctor` on this machine, well and broken, and how answers become lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.findings import Level
from ddqjobs.doctor import judgements
from ddqjobs.doctor.judgements import Answer
from tests.support.cli import Place, opened
from tests.support.doctor import INPUTS, lines


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", INPUTS) as made:
        made.text("weights.pth", "x")
        made.text("tree/data/here", "x")
        yield made


def test_on_this_machine_all_is_well(place: Place) -> None:
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 0, ran
    assert (ran.json["kind"], ran.json["site"], ran.json["errors"]) == ("doctor", "local", 0)
    found = lines(ran)
    assert {level for seen in found.values() for level, _ in seen} == {"ok"}
    assert set(found) == {
        "scheduler", "inputs and code", "disk space", "inodes", "quota", "clock", "shared folder",
        "paths on a node",
    }  # fmt: skip
    assert not list((place.root / "results").glob("*/.jobs/submissions/*"))  # it leaves nothing behind
    assert place.states() == {"one": "eligible", "many": "eligible"}


def test_what_is_missing_is_an_error_with_its_remedy(place: Place) -> None:
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
    ran = place.invoke("doctor", "tiny", "one", "--no-job", "--json")
    words = "activate names environment 'mini-nwe', which there is not; did you mean 'mini-new'?"
    assert (ran.code, lines(ran)["site file"]) == (0, [("warning", words)])


def test_a_node_that_cannot_load_what_the_site_says(place: Place) -> None:
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
    place.write("templates/local/site.yaml", {**site, "modules": ["cuda/11"]})
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 1
    assert [level for level, _ in lines(ran)["modules"]] == ["error", "error"]
    place.write("templates/local/site.yaml", {**site, "setup": ["echo the setup is broken", "exit 3"]})
    ran = place.invoke("doctor", "tiny", "one", "--json")
    assert ran.code == 1
    [(level, words)] = lines(ran)["compute node"]
    assert level == "error"
    assert "ended without an answer (exit 3): the setup is broken" in words


def test_a_queue_that_is_full_is_a_warning(place: Place) -> None:
    place.write("templates/local/site.yaml", {"name": "local", "scheduler": "local", "local": {"cpus": 1}})
    tiny = place.root / "experiments" / "tiny.yaml"
    tiny.write_text(INPUTS.replace('command: ["true"], inputs', "command: [sleep, '100'], inputs"))
    place.invoke("submit", "tiny", "one")
    ran = place.invoke("doctor", "tiny", "one", "--patience", "1s", "--json")
    assert ran.code == 0
    [(level, words)] = lines(ran)["compute node"]
    assert level == "warning"
    assert "has not answered within 1 s: queued waits for slots" in words


def test_donau_s_commands_are_missed_where_they_are_not(place: Place) -> None:
    """With them: test_donau_examination.py."""
    ran = place.invoke("doctor", "tiny", "one", "--site", "bscc", "--json")
    assert ran.code == 1
    [(level, words)] = lines(ran)["scheduler"]
    assert level == "error"
    assert words == "there is no djob here, so this is no login node of a Donau cluster"
    assert {"inputs and code", "disk space"} <= set(lines(ran))  # what can be looked at here is
    assert "compute node" not in lines(ran)


def answer(what: str, which: str, code: int = 0, words: str = "") -> Answer:
    return Answer(what=what, which=which, code=code, words=words)


@pytest.mark.parametrize(
    ("answers", "seen", "words"),
    [
        ([answer("exclusive", "link", 1), answer("free", "link")], {"x": True}, ""),
        ([answer("exclusive", "link", 0)], {}, "a node could link a name that the command line has taken"),
        ([answer("free", "rename", 1)], {}, "a node cannot rename"),
        ([], {"both wrote": False}, "both wrote"),
    ],
)
def test_a_folder_that_is_not_really_shared(answers: list[Answer], seen: dict[str, bool], words: str) -> None:
    line = next(iter(judgements.judge(answers, seen, "/results")))
    assert line.level is (Level.ERROR if words else Level.OK)
    assert words in line.found


def test_an_answer_is_read_line_by_line() -> None:
    text = "environment\tnew\t1\tImportError: torch\ntorn\tli"
    [read] = judgements.read(text)
    assert read == answer("environment", "new", 1, "ImportError: torch")
    _, line = judgements.judge([read], {}, "/r")
    assert (line.level, line.what) == (Level.ERROR, "environment new")
    assert "ImportError: torch" in line.found


@pytest.mark.parametrize(
    ("skew", "level"), [(0.3, Level.OK), (-4.9, Level.OK), (6.0, Level.WARNING), (-90, Level.WARNING)]
)
def test_clocks(skew: float, level: Level) -> None:
    assert judgements.clocks(skew, 0.2).level is level


@pytest.mark.parametrize(
    ("free", "checkpoint", "trainings", "level"),
    [
        (10**12, 10**9, 10, Level.OK),
        (10**10, 10**9, 10, Level.WARNING),
        (10**9, 10**9, 1, Level.ERROR),
        (10**9, 0, 3, Level.WARNING),
        (0, 10**9, 0, Level.OK),
    ],
)
def test_space_against_checkpoints_to_come(free: int, checkpoint: int, trainings: int, level: Level) -> None:
    assert judgements.space(free, checkpoint, trainings, kept=4).level is level


def test_quotas_as_both_commands_print_them() -> None:
    linux = (
        "Disk quotas for user me (uid 1000): \n"
        "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
        "      /dev/sda1  900000* 800000 1000000   6days    1200       0       0        \n"
        "      /dev/sdb1      20       0       0              3       0       0        \n"
    )
    assert judgements.quotas(linux) == [("kilobytes", 900_000, 800_000)]
    lustre = "/lustre 500 0 1000 - 99 100 200 -\n"
    assert judgements.quotas(lustre) == [("kilobytes", 500, 1000), ("inodes", 99, 100)]
    assert judgements.quotas("lfs quota: cannot find mount point\n") == []
