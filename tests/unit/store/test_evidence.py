"""Evidence that jobs left in a run's folder, also when it is torn or missing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ddqjobs.spec.model import FailureClass, Product, TaskKind
from ddqjobs.store import evidence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "attempts" / "1"
    path.mkdir(parents=True)
    return path


def test_a_run_that_never_started_left_nothing(tmp_path: Path) -> None:
    assert evidence.product(tmp_path) is None
    assert evidence.attempts(tmp_path / "nowhere") == []
    assert evidence.progress(tmp_path) == 0
    assert evidence.log_tail(tmp_path) == ""


def test_attempts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "x", ".2.new"):
        (tmp_path / "attempts" / name).mkdir(parents=True)
    assert [a.number for a in evidence.attempts(tmp_path)] == [1, 9, 10]


def test_a_whole_attempt_is_read(folder: Path) -> None:
    (folder / "started.json").write_text('{"ticket":"a.0","job":"7","host":"n1","pid":3,"at":10.5}')
    (folder / "exit.json").write_text(
        '{"code":137,"product":3,"stopped":true,"failure":"node","note":"why","again":false,"at":20.5}'
    )
    attempt = evidence.attempt(folder, 1)
    assert (attempt.ticket, attempt.host, attempt.started_at, attempt.ended_at) == ("a.0", "n1", 10.5, 20.5)
    assert (attempt.exit_code, attempt.stopped) == (137, True)
    assert (attempt.failure, attempt.note) == (FailureClass.NODE, "why")


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", '{"code":"x"}', "\0"])
def test_torn_files_say_nothing(folder: Path, text: str) -> None:
    for name in ("started.json", "exit.json"):
        (folder / name).write_text(text)
    (folder.parent.parent / "product.json").write_text(text)
    attempt = evidence.attempt(folder, 1)
    assert (attempt.ticket, attempt.exit_code, attempt.failure) == ("", None, None)
    assert evidence.product(folder.parent.parent) is None


def test_an_attempt_that_starts_again_has_not_ended(folder: Path) -> None:
    (folder / "exit.json").write_text('{"code":75,"failure":"timeout","again":true,"at":1}')
    attempt = evidence.attempt(folder, 1)
    assert (attempt.exit_code, attempt.ended_at, attempt.failure) == (None, None, None)
    assert attempt.marker is FailureClass.TIMEOUT


def test_a_failure_nobody_knows_is_of_unknown_class(folder: Path) -> None:
    (folder / "exit.json").write_text('{"code":1,"failure":"gremlins"}')
    assert evidence.attempt(folder, 1).failure is FailureClass.UNKNOWN


def test_a_stop_file_tells_that_a_stop_was_asked_for(folder: Path) -> None:
    (folder / "stop").touch()
    assert evidence.attempt(folder, 1).stopped


def test_progress_is_the_newest_checkpoint_of_any_attempt(tmp_path: Path) -> None:
    for attempt, name in (
        ("1", "epoch_9.pth"),
        ("1", "epoch_10.pth"),
        ("2", "epoch_3.pth"),
        ("2", "resume_epoch_10_iter_7.pth"),
        ("2", "resume_epoch_9_iter_500.pth"),
        ("2", "best_99.pth"),
    ):
        path = tmp_path / "attempts" / attempt / "work_dir" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert evidence.progress(tmp_path) == 10_000_007


def test_a_product_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    product = Product(
        run="r", digest="d", kind=TaskKind.TEST, attempt=2, ticket="a.0", metrics={"bbox_mAP": None}
    )
    (tmp_path / "product.json").write_bytes(msgspec.json.encode(product))
    assert evidence.product(tmp_path) == product


def test_of_a_long_log_only_the_end_is_read(folder: Path) -> None:
    (folder / "stdout.log").write_bytes(b"x" * 200_000 + b"\xff end")
    tail = evidence.log_tail(folder)
    assert len(tail) == 65536
    assert tail.endswith("� end")
