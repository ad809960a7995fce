"""Replicas that nothing tells their rank: right ranks, or one clear error within the time limit."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.detect import meet
from tests.support.paths import LABS

ROOT = Path(meet.__file__).resolve().parents[2]
AGENT = LABS / "donau" / "agent"


def meeting(
    folder: Path, names: Sequence[str], count: int, *, limit_s: float = 60.0, order: Sequence[str] = ()
) -> list[int | str]:
    """Start replicas at once and return what each finds out: its rank, or why it has none."""
    answers: list[int | str] = [""] * len(names)

    def one(number: int, host: str) -> None:
        try:
            answers[number] = meet.join(folder, host, count, limit_s, order)
        except meet.NotMet as error:
            answers[number] = str(error)

    threads = [threading.Thread(target=one, args=item) for item in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return answers


def test_replicas_of_one_host_get_a_rank_each(tmp_path: Path) -> None:
    assert sorted(meeting(tmp_path / "job", ["here"] * 8, 8)) == list(range(8))


def test_with_a_list_the_ranks_follow_it_and_names_are_compared_whole(tmp_path: Path) -> None:
    order = ["n10", "n1", "n100", "n1.cluster"]
    assert meeting(tmp_path / "job", ["n1", "n100", "n1.cluster", "n10"], 4, order=order) == [1, 2, 3, 0]
    twice = ["n1", "n10", "n1", "n10"]
    ranks = meeting(tmp_path / "other", ["n10", "n10", "n1", "n1"], 4, order=twice)
    assert (sorted(map(str, ranks[:2])), sorted(map(str, ranks[2:]))) == (["1", "3"], ["0", "2"])


def test_a_host_that_is_not_in_the_list_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(meet.NotMet, match=r"this host, n1, is not in the list of nodes: n10 n11"):
        meet.join(tmp_path / "job", "n1", 2, 60, ["n10", "n11"])
    with pytest.raises(meet.NotMet, match=r"has 1 lines, not 2"):
        meet.join(tmp_path / "job", "n1", 2, 60, ["n1"])


def test_a_replica_that_never_comes_ends_all_with_the_same_words(tmp_path: Path) -> None:
    began = time.monotonic()
    answers = meeting(tmp_path / "job", ["n1", "n2", "n3"], 4, limit_s=0.5)
    assert time.monotonic() - began < 30
    assert len(set(answers)) == 1
    assert str(answers[0]).startswith("3 of 4 replicas came within 0.5 s: rank 0 on n")
    # and whoever comes now is late
    with pytest.raises(meet.NotMet, match=r"late or duplicate start.*3 of 4 replicas"):
        meet.join(tmp_path / "job", "n4", 4, 60)


def test_a_start_after_the_meeting_is_a_repetition(tmp_path: Path) -> None:
    meeting(tmp_path / "job", ["n1", "n2"], 2)
    with pytest.raises(meet.NotMet, match=r"late or duplicate start.*complete"):
        meet.join(tmp_path / "job", "n1", 2, 60)


def test_one_too_many_is_told_so_and_the_others_meet(tmp_path: Path) -> None:
    answers = meeting(tmp_path / "job", ["n"] * 5, 4)
    ranks = [rank for rank in answers if isinstance(rank, int)]
    (message,) = (word for word in answers if isinstance(word, str))
    assert sorted(ranks) == [0, 1, 2, 3]
    assert "one replica too many" in message or "late or duplicate start" in message


def test_a_crashed_replica_s_rank_is_not_given_away(tmp_path: Path) -> None:
    """It left its rank's folder and died before it said who it is."""
    (tmp_path / "job" / "rank_0").mkdir(parents=True)
    (first, second) = sorted(map(str, meeting(tmp_path / "job", ["n1", "n2"], 2, limit_s=0.5)))
    assert first.startswith("1 of 2 replicas came within 0.5 s: rank 1 on n")
    assert second.startswith("one replica too many: ")


def test_those_who_follow_hear_what_rank_0_says(tmp_path: Path) -> None:
    (tmp_path / "started").write_text("1 29500 n1\n")
    assert meet.follow(tmp_path, 60) == "1 29500 n1"
    (tmp_path / "started").unlink()
    with pytest.raises(meet.NotMet, match=r"nothing within 0.2 s"):
        meet.follow(tmp_path, 0.2)
    (tmp_path / "ended").touch()
    with pytest.raises(meet.NotMet, match="rank 0 has ended before"):
        meet.follow(tmp_path, 60)


def test_the_only_start_calls_the_others(tmp_path: Path) -> None:
    say = f'echo "$HOSTNAME $DDQJOBS_CALLED $BATCH_JOB_ID" >> {tmp_path}/said; : > {tmp_path}/$HOSTNAME'
    (tmp_path / "nodes").write_text("n10 48 1\nn1 48 1\nn2 48 1\n")
    argv = ["call", str(tmp_path / "nodes"), "--host", "n1", "--count", "3", "--agent", str(AGENT)]
    program = [sys.executable, "-m", "ddqjobs.detect.meet"]
    variables = {**os.environ, "BATCH_JOB_ID": "7"}
    done = process.run([*program, *argv, "--", "sh", "-c", say], timeout=60, env=variables, cwd=ROOT)
    assert (done.code, done.stderr) == (0, "")
    end = time.monotonic() + 60
    while not ((tmp_path / "n10").exists() and (tmp_path / "n2").exists()):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert sorted((tmp_path / "said").read_text().splitlines()) == ["n10 1 7", "n2 1 7"]


def test_errors_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert meet.main(["call", str(tmp_path / "none"), "--host", "n1", "--count", "2"]) == 71
    assert meet.main(["join", str(tmp_path / "job"), "--host", "n1", "--count", "2", "--limit", "0.1"]) == 71
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        f"meet: the list of nodes, {tmp_path}/none, cannot be read: No such file or directory",
        "meet: 1 of 2 replicas came within 0.1 s: rank 0 on n1",
    ]


def test_the_command_prints_the_rank(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "ddqjobs.detect.meet",
        "join",
        str(tmp_path / "job"),
        "--host",
        "n",
        "--count",
        "1",
    ]
    done = process.run(argv, timeout=60, cwd=ROOT)
    assert (done.code, done.stdout, done.stderr) == (0, "0\n", "")
