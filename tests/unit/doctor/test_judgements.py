"""Findings from the answers of a node and of tools."""

from __future__ import annotations

import pytest

from ddqjobs.base.findings import Level
from ddqjobs.doctor import judgements
from ddqjobs.doctor.judgements import Answer


def answer(what: str, which: str, code: int = 0, text: str = "") -> Answer:
    return Answer(what=what, which=which, code=code, words=text)


@pytest.mark.parametrize(
    ("answers", "observations", "message"),
    [
        ([answer("exclusive", "link", 1), answer("free", "link")], {"x": True}, ""),
        ([answer("exclusive", "link", 0)], {}, "a node could link a name that the command line has taken"),
        ([answer("free", "rename", 1)], {}, "a node cannot rename"),
        ([], {"both wrote": False}, "both wrote"),
    ],
)
def test_a_folder_that_is_not_really_shared(
    answers: list[Answer], observations: dict[str, bool], message: str
) -> None:
    line = next(iter(judgements.judge(answers, observations, "/results")))
    assert line.level is (Level.ERROR if message else Level.OK)
    assert message in line.found


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
