"""The ledger: what was appended is read again, whatever happened to the writers."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddqjobs.base.errors import StateError
from ddqjobs.spec.model import FailureClass, JobState
from ddqjobs.store.history import History
from ddqjobs.store.ledger import AnyRecord, Cancelled, Ledger, Observed, Retried, Submitted, Voided, ticket_of
from tests.support.trivial import an_end, an_intent, end_of, fork

STORY: tuple[AnyRecord, ...] = (
    an_intent("a", "r", "s", at=1),
    Submitted(token="a", jobs={"0": "1", "1": "2"}, at=2),
    Observed(ticket="a.0", state=JobState.QUEUED, at=3),
    Observed(ticket="a.0", state=JobState.RUNNING, node="n", at=4),
    an_end("r", "a.0", 5, failure=FailureClass.NODE, reason="gone"),
    Retried(runs=["r"], at=6),
    an_intent("b", "r", at=7),
    Cancelled(tickets=["a.1"], at=8),
    Voided(tickets=["a.1"], at=9),
    an_end("r", "b.0", 10),
)


def write(folder: Path, segments: dict[str, list[AnyRecord]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in segments.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in records))


def test_every_kind_of_record_comes_back_as_it_was_appended(tmp_path: Path) -> None:
    Ledger(tmp_path).append(*STORY)
    assert tuple(Ledger(tmp_path).read()) == STORY


def test_a_ledger_that_was_never_written_is_empty_and_does_not_exist(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert (ledger.read(), ledger.exists) == ([], False)
    ledger.begin()
    assert (ledger.read(), ledger.exists) == ([], True)


def test_a_reader_sees_what_others_append_later_and_the_same_list_while_nothing_is_new(
    tmp_path: Path,
) -> None:
    reader, writer = Ledger(tmp_path), Ledger(tmp_path)
    for count in range(1, 4):
        writer.append(Retried(runs=[f"r{count}"]))
        assert len(reader.read()) == count
    assert reader.read() is reader.read()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=len(STORY), max_size=len(STORY)))
def test_however_records_are_spread_over_segments_the_history_is_the_same(places: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        segments: dict[str, list[AnyRecord]] = {}
        for place, record in zip(places, STORY, strict=True):
            segments.setdefault(place, []).append(record)
        write(Path(name), segments)
        history, expected = History(Ledger(Path(name)).read()), History(STORY)
    assert (history.runs, history.tickets, history.tokens) == (
        expected.runs,
        expected.tickets,
        expected.tokens,
    )


def test_a_ledger_that_is_forgotten_keeps_no_file_open(tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    Ledger(tmp_path).append(Retried(runs=[]))
    before = open_files()
    for _ in range(10):
        Ledger(tmp_path).append(Retried(runs=[]))
    assert open_files() == before


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000), st.binary(max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b))
def test_a_segment_that_was_cut_anywhere_gives_all_its_whole_lines(cut: int, garbage: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        write(Path(name), {"a": list(STORY)})
        segment = Path(name) / "a.jsonl"
        data = segment.read_bytes()[:cut]
        segment.write_bytes(data + garbage)
        Ledger(Path(name)).append(Retried(runs=["later"]))
        *records, last = Ledger(Path(name)).read()
    assert tuple(records) == STORY[: data.count(b"\n")]
    assert isinstance(last, Retried)


def test_a_line_that_was_half_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    line = msgspec.json.encode(STORY[0]) + b"\n"
    ledger, segment = Ledger(tmp_path), tmp_path / "x.jsonl"
    segment.write_bytes(line[:10])
    assert ledger.read() == []
    segment.write_bytes(line)
    assert ledger.read() == [STORY[0]]
    assert ledger.unreadable == []


@pytest.mark.parametrize(
    "line",
    [
        *(b"\0\xff", b"{}", b"[]", b'{"record":"new kind"}', b'{"record":"voided"}', b""),
        msgspec.json.encode(an_intent("a", "one", "two", at=1.0)).replace(b'["one","two"]', b'["one"]'),
    ],
)
def test_lines_that_are_no_records_are_named_and_skipped(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, {"a": [STORY[0]]})
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(line + b"\n" + msgspec.json.encode(STORY[1]) + b"\n")
    ledger = Ledger(tmp_path)
    assert tuple(ledger.read()) == STORY[:2]
    assert ledger.unreadable == ["a.jsonl:2"]
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert tuple(ledger.read()) == STORY[:2]
    assert ledger.unreadable == ["a.jsonl:2", "a.jsonl:4"]


def test_a_record_comes_after_what_its_writer_had_read_though_the_clock_was_set_back(tmp_path: Path) -> None:
    ahead = time.time() + 86400
    write(tmp_path, {"z": [Retried(runs=["first"], at=ahead)]})
    ledger = Ledger(tmp_path)
    ledger.read()
    ledger.append(Retried(runs=["second"]), Retried(runs=["third"]))
    records = Ledger(tmp_path).read()
    assert [r.runs for r in records if isinstance(r, Retried)] == [["first"], ["second"], ["third"]]
    assert [r.at for r in records] == sorted({r.at for r in records})
    assert records[-1].at - ahead < 1


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    def append(number: int) -> None:
        ledger = Ledger(tmp_path)
        for _ in range(20):
            ledger.append(Retried(runs=[str(number)]))

    pids = [fork(lambda n=n: append(n)) for n in range(4)]  # type: ignore[misc]
    assert [end_of(pid) for pid in pids] == [0] * 4
    ledger = Ledger(tmp_path)
    assert (len(ledger.read()), ledger.unreadable, len(list(tmp_path.iterdir()))) == (80, [], 4)


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot be written .* run the same command again"):
        Ledger(tmp_path / "file" / "ledger").append(Retried(runs=[]))


def test_a_ticket_is_named_by_submission_and_index() -> None:
    assert ticket_of("20260101-000000-0badcafe", 7) == "20260101-000000-0badcafe.7"
