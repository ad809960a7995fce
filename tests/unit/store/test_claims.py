"""Reservations and claims: of any number that want one thing at once, exactly one gets it."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.base.frozen import Owner
from ddqjobs.base.process import boot_id, myself
from ddqjobs.store.claims import SUBMITTED_MEANWHILE, Claims, Sheet, Tickets
from tests.support.trivial import end_of, fork

NONE = frozenset[str]()


def nothing(_run: str) -> Tickets:
    return Tickets(NONE, NONE)


def reserve(
    claims: Claims,
    token: str,
    *,
    known: frozenset[str] = NONE,
    ended: frozenset[str] = NONE,
    past: frozenset[str] = NONE,
) -> str:
    with claims.sheet(token, ["r"]) as sheet:
        return claims.reserve("r", sheet, past, lambda _run: Tickets(known, ended), patience_s=60)


def taken_by(claims: Claims, token: str, owner: Owner, slot: int = 0) -> Path:
    path = claims.reservations / f"r~{slot}"
    with Sheet(claims.reservations, token, ["r"], owner) as sheet:
        assert sheet.take(path, "r")
    return path


def stop() -> bool:
    """Leaves this process alive for as long as the test wants."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


DEAD = Owner(host=myself().host, pid=1, start=1, boot=boot_id())
REMOTE = Owner(host="elsewhere", pid=1, start=1)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 6))
def test_of_any_number_of_processes_that_reserve_a_run_at_once_exactly_one_gets_it(count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        claims, start = Claims(Path(name)), time.monotonic() + 0.02

        def compete(number: int) -> None:
            while time.monotonic() < start:
                pass
            with claims.sheet(f"t{number}", ["r"]) as sheet:
                got = claims.reserve("r", sheet, NONE, nothing, 60) == ""
            (Path(name) / f"{'won' if got else 'lost'}{number}").touch()
            while len(list(Path(name).glob("won*")) + list(Path(name).glob("lost*"))) < count:
                time.sleep(0.001)  # a process that ended would leave its reservation to the others

        pids = [fork(lambda n=n: compete(n)) for n in range(count)]  # type: ignore[misc]
        assert [end_of(pid) for pid in pids] == [0] * count
        assert len(list(Path(name).glob("won*"))) == 1


def test_a_run_being_submitted_by_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    pid = fork(lambda: (reserve(Claims(tmp_path), "a"), stop()))
    os.waitpid(pid, os.WUNTRACED)
    assert reserve(Claims(tmp_path), "b") == f"being submitted by process {pid} on {myself().host}"
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL
    assert reserve(Claims(tmp_path), "b") == ""
    assert Claims(tmp_path).holder("a.0") == "void"


@pytest.mark.parametrize(
    ("known", "ended", "past", "why"),
    [
        ({"a.0"}, set(), set(), "another terminal submitted it a moment ago"),
        ({"a.0"}, {"a.0"}, set(), SUBMITTED_MEANWHILE),
        ({"a.0"}, {"a.0"}, {"a.0"}, ""),
        (set(), set(), set(), ""),  # its process is dead and wrote no intent
    ],
)
def test_a_taken_slot_is_passed_only_when_its_ticket_was_known_to_have_ended(
    tmp_path: Path, known: set[str], ended: set[str], past: set[str], why: str
) -> None:
    claims = Claims(tmp_path)
    taken_by(claims, "a", DEAD)
    assert reserve(claims, "b", known=frozenset(known), ended=frozenset(ended), past=frozenset(past)) == why


def test_what_this_process_failed_to_submit_it_may_submit_again(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert [reserve(claims, token) for token in "abc"] == ["", "", ""]
    assert [claims.holder(f"{token}.0") for token in "abc"] == ["void", "void", ""]


def test_a_ticket_that_is_void_is_passed_though_its_process_lives(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    pid = fork(lambda: (reserve(claims, "a"), claims.void("a.0"), stop()))
    os.waitpid(pid, os.WUNTRACED)
    assert reserve(claims, "b") == ""
    os.kill(pid, signal.SIGKILL)
    end_of(pid)


def test_a_process_on_another_host_has_a_while_to_finish_its_submission(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    path = taken_by(claims, "a", REMOTE)
    assert reserve(claims, "b") == "being submitted by process 1 on elsewhere"
    os.utime(path, (1, 1), follow_symlinks=False)
    assert reserve(claims, "b") == ""


def test_a_job_that_started_though_its_submission_was_not_recorded_keeps_its_run(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    taken_by(claims, "a", DEAD)
    claims.take("a.0", "run\n17\n")
    assert reserve(claims, "b") == "its job has started although its submission was not recorded"


def test_a_reservation_that_cannot_be_read_stops_and_says_what_to_remove(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    path = claims.reservations / "r~0"
    path.parent.mkdir()
    path.write_text("half a reserv")
    assert str(path) in reserve(claims, "b")
    assert "remove it" in reserve(claims, "b")


def test_a_file_server_that_lost_its_answer_and_hears_the_question_again_gives_the_slot_once(
    tmp_path: Path,
) -> None:
    claims = Claims(tmp_path)
    path = claims.reservations / "r~0"
    with claims.sheet("a", ["r"]) as mine, claims.sheet("b", ["r"]) as other:
        assert [mine.take(path, "r"), mine.take(path, "r")] == [True, True]
        assert not other.take(path, "r")


def test_each_ended_ticket_had_a_slot_so_the_next_one_is_taken(tmp_path: Path) -> None:
    claims, ended = Claims(tmp_path), NONE
    for token in "abc":
        assert reserve(claims, token, known=ended, ended=ended, past=ended) == ""
        ended |= {f"{token}.0"}
    assert sorted(reservation.name for reservation in claims.reservations.iterdir()) == ["r~0", "r~1", "r~2"]


def reserve_all(claims: Claims, token: str, runs: str) -> dict[str, str]:
    """Ticket of each run that was got."""
    with claims.sheet(token, list(runs)) as sheet:
        reserved_runs = [run for run in runs if not claims.reserve(run, sheet, NONE, nothing, 60)]
        assert sheet.runs == reserved_runs
    return {run: f"{token}.{index}" for index, run in enumerate(reserved_runs)}


def test_of_a_submission_that_lost_some_runs_each_other_one_is_voided_by_its_own_ticket(
    tmp_path: Path,
) -> None:
    """Its element indices are those of the runs it got, and who finds its reservations knows them."""
    claims = Claims(tmp_path)
    pid = fork(lambda: (reserve_all(claims, "a", "be"), stop()))  # lives: what it took stays taken
    os.waitpid(pid, os.WUNTRACED)
    died = fork(lambda: reserve_all(claims, "b", "abcdef"))
    assert end_of(died) == 0
    assert reserve_all(claims, "c", "abcdef") == {"a": "c.0", "c": "c.1", "d": "c.2", "f": "c.3"}
    voided = sorted(path.name for path in claims.claims.iterdir())
    os.kill(pid, signal.SIGKILL)
    end_of(pid)
    assert voided == ["b.0", "b.1", "b.2", "b.3"]


def test_reservations_of_one_submission_are_one_file_and_no_other_stays(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert len(reserve_all(claims, "a", "abc")) == 3
    assert sorted(path.name for path in claims.reservations.iterdir()) == ["a~0", "b~0", "c~0"]
    assert len({path.stat().st_ino for path in claims.reservations.iterdir()}) == 1


def test_where_a_file_has_few_links_a_submission_takes_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def scarce(source: Path, target: Path) -> None:
        if source.stat().st_nlink > 3:  # its own name, and three
            raise OSError(errno.EMLINK, "Too many links")
        link(source, target)

    monkeypatch.setattr(os, "link", scarce)
    claims = Claims(tmp_path)
    assert len(reserve_all(claims, "a", "abcdefgh")) == 8
    assert len({path.stat().st_ino for path in claims.reservations.iterdir()}) == 3


def test_job_and_command_line_race_for_a_claim_and_the_first_has_it(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.holder("a") == ""
    assert claims.void("a")
    assert claims.void("a")
    assert not claims.take("a", "run\n1\n")
    assert claims.take("b", "run\n1\n")
    assert not claims.void("b")
    assert (claims.holder("a"), claims.holder("b")) == ("void", "run")


def test_many_tickets_are_written_off_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddqjobs.store.claims._LINKS", 3)
    claims = Claims(tmp_path)
    names = [f"t.{i}" for i in range(8)]
    assert claims.take("t.1", "run\n17_1\n")
    assert claims.take("t.2", "void\n")
    claims.revoke(names)
    assert {claims.holder(name) for name in names} == {"void"}
    assert sorted(path.name for path in claims.claims.iterdir()) == names


@pytest.mark.parametrize("holder", ["", "run", "void"])
def test_a_ticket_that_is_written_off_never_starts_again(tmp_path: Path, holder: str) -> None:
    """Its next start finds that it has no right to run, no matter if its job had started before."""
    claims = Claims(tmp_path)
    if holder:
        assert claims.take("t.0", f"{holder}\n17_0\n")
    claims.revoke(["t.0"])
    assert claims.holder("t.0") == "void"
    assert not claims.take("t.0", "run\n17_0\n")
    assert [path.name for path in claims.claims.iterdir()] == ["t.0"]
