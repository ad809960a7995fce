"""ddqjobs.detect.job.logs: every dialect, in any pieces, whatever the file holds."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddqjobs.detect.job import curves, logs
from tests.support import paths

RECORDED = paths.RECORDED / "logs"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def train_line(epoch: int, step: int, loss: float = 1.0) -> str:
    return json.dumps({"loss": loss, "epoch": epoch, "iter": step, "step": step}) + "\n"


def val_line(epoch: int, ap: float = 0.5) -> str:
    return json.dumps({"coco/bbox_mAP": ap, "step": epoch}) + "\n"


@pytest.mark.parametrize("version", ["0.8.5", "0.10.7"])
def test_reads_mmengine(version: str) -> None:
    rows, state = logs.parse(recorded(f"mmengine-{version}.scalars.json"))
    train = [r for r in rows if isinstance(r, logs.Train)]
    val = [r for r in rows if isinstance(r, logs.Val)]
    assert [(r.epoch, r.step) for r in train] == [(1, 1), (1, 2), (1, 16), (2, 17), (2, 18), (2, 32)]
    assert [r.epoch for r in val] == [1, 2]
    assert set(logs.METRICS) <= set(val[0].values)
    assert val[1].values["bbox_mAP_50"] == 0.03
    assert state.skipped == 0


def test_reads_a_test_without_final_newline() -> None:
    rows, state = logs.parse(recorded("mmengine-0.8.5.test.json"))
    assert len(rows) == 1
    assert isinstance(rows[0], logs.Test)
    assert rows[0].values["bbox_mAP_l"] == -1.0
    assert state.offset == len(recorded("mmengine-0.8.5.test.json"))


def test_reads_mmcv() -> None:
    rows, state = logs.parse(recorded("mmcv-1.4.7.log.json"))
    train, val, _ = logs.merge(rows)
    assert [(r.epoch, r.iteration, r.step) for r in train] == [(1, 50, 0), (1, 100, 0), (2, 50, 0)]
    assert [(r.epoch, r.values["bbox_mAP"]) for r in val] == [(1, 0.215), (2, 0.415)]
    assert "bbox_mAP_copypaste" not in val[0].values
    assert state.skipped == 0
    (result,) = logs.parse(recorded("mmcv-1.4.7.eval.json")).rows
    assert isinstance(result, logs.Test)
    assert result.values["bbox_mAP"] == 0.415


@given(
    st.lists(st.integers(1, 3000), max_size=20),
    st.sampled_from(sorted(path.name for path in RECORDED.glob("*.json"))),
)
def test_pieces_of_any_size_give_the_same(sizes: list[int], name: str) -> None:
    data = recorded(name)
    whole = logs.parse(data)
    rows: list[logs.Row] = []
    state = logs.START
    for size in [*sizes, len(data)]:
        # As a reader of a growing file does: from where the last call stopped to what is there now.
        end = min(len(data), state.offset + size)
        more, state = logs.parse(data[state.offset : end], state)
        rows += more
    more, state = logs.parse(data[state.offset :], state)
    assert (rows + more, state) == whole


def test_half_written_line_is_left_for_later() -> None:
    first, second = train_line(1, 1), train_line(1, 2)
    rows, state = logs.parse(first + second[:20])
    assert [r.step for r in rows if isinstance(r, logs.Train)] == [1]
    assert state.offset == len(first)
    rows, state = logs.parse(second, state)
    assert len(rows) == 1
    assert state.skipped == 0


def test_state_survives_json() -> None:
    state = logs.State(12, 3, True)
    assert logs.State(*json.loads(json.dumps(state))) == state


def test_nan_infinity_and_null() -> None:
    (row,) = logs.parse(
        b'{"loss": NaN, "a": Infinity, "b": -Infinity, "c": null, "epoch": 1, "step": 1}\n'
    ).rows
    assert isinstance(row, logs.Train)
    assert math.isnan(row.values["loss"])
    assert (row.values["a"], row.values["b"]) == (math.inf, -math.inf)
    assert math.isnan(row.values["c"])


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe\x01",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"not json",
        b"[1, 2]",
        b"3",
        b'{"step": 1}',
        b'{"mode": "strange", "loss": 1}',
        b'{"loss": 1' + b"0" * 5000 + b", ",
        b"{" + b"x" * (logs.MAX_LINE + 10) + b"}",
    ],
)
def test_hostile_lines_are_counted_and_skipped(line: bytes) -> None:
    rows, state = logs.parse(line + b"\n" + train_line(1, 1).encode())
    assert [type(r) for r in rows] == [logs.Train]
    assert state.skipped == 1


def test_huge_numbers_become_infinite() -> None:
    (row,) = logs.parse(b'{"loss": 1' + b"0" * 400 + b', "epoch": 1, "step": 1}\n').rows
    assert row.values["loss"] == math.inf


def test_endless_line_takes_no_memory() -> None:
    rows, state = logs.parse(b"x" * (logs.MAX_LINE + 1))
    assert rows == []
    assert state.overlong
    rows, state = logs.parse(b"x" * 100 + b"\n" + train_line(1, 1).encode(), state)
    assert len(rows) == 1
    assert (state.skipped, state.overlong) == (1, False)


def test_line_glued_to_a_torn_one_is_saved() -> None:
    rows, state = logs.parse(train_line(1, 1)[:15] + train_line(1, 2))
    assert [r.step for r in rows if isinstance(r, logs.Train)] == [2]
    assert state.skipped == 1


@given(st.binary(max_size=300))
def test_never_raises(data: bytes) -> None:
    rows, state = logs.parse(data)
    assert state.offset <= len(data)
    assert isinstance(rows, list)


def test_resumed_epoch_overrides() -> None:
    text = (
        train_line(1, 1) + train_line(1, 2) + val_line(1, 0.1) + train_line(2, 3, 9.0) + train_line(2, 4, 9.0)
    )
    text += val_line(2, 0.9) + train_line(2, 3, 2.0)
    train, val, _ = logs.merge(logs.parse(text).rows)
    assert [(r.step, r.values["loss"]) for r in train] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert [(r.epoch, r.values["bbox_mAP"]) for r in val] == [(1, 0.1)]


def mmcv_lines(*rows: tuple[str, int, int, float]) -> str:
    keys = {"train": "loss", "val": "bbox_mAP"}
    lines = [{"mode": mode, "epoch": epoch, "iter": n, keys[mode]: value} for mode, epoch, n, value in rows]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize("more", [[], [("train", 1, 75, 0.5)]])
def test_validations_within_one_pass_are_kept_each_at_its_iteration(
    more: list[tuple[str, int, int, float]],
) -> None:
    rows = [("train", 1, 25, 2.0), ("val", 1, 8, 0.1), ("train", 1, 50, 1.0), ("val", 1, 8, 0.2), *more]
    log = logs.Log(*logs.merge(logs.parse(mmcv_lines(*rows)).rows), 0, [])
    assert [(v.step, v.values["bbox_mAP"]) for v in log.val] == [(25, 0.1), (50, 0.2)]
    assert curves.thin(log)["val"] == {"bbox_mAP": [[25, 0.1], [50, 0.2]]}
    assert curves.thin(log)["val_by"] == "iteration"
    again = logs.merge(logs.parse(logs.to_lines(log)).rows)
    assert again == (log.train, log.val, [])


def test_going_back_by_iterations_drops_the_validation_after_it() -> None:
    lines: list[dict[str, float]] = [{"loss": 1, "iter": n, "step": n} for n in (100, 200, 150)]
    lines[1:1] = [{"coco/bbox_mAP": 0.1, "step": 100}]
    lines[3:3] = [{"coco/bbox_mAP": 0.2, "step": 200}]
    train, val, _ = logs.merge(logs.parse("".join(json.dumps(line) + "\n" for line in lines)).rows)
    assert [row.step for row in train] == [100, 150]
    assert [(row.step, row.values["bbox_mAP"]) for row in val] == [(100, 0.1)]


def test_rows_of_mmengine_before_0_7_4_are_training_by_their_loss_or_learning_rate() -> None:
    lines = [{"lr": 0.01, "loss": 1.5, "step": 100}, {"coco/bbox_mAP": 0.2, "step": 100}]
    lines.append({"lr": 0.01, "loss": 1.2, "step": 150})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    train, val, _ = logs.merge(logs.parse(text).rows)
    assert [(row.step, row.values["loss"]) for row in train] == [(100, 1.5), (150, 1.2)]
    assert [(row.step, row.values["bbox_mAP"]) for row in val] == [(100, 0.2)]


def test_of_several_data_sets_none_is_the_ap() -> None:
    two = b'{"A/bbox_mAP": 0.1, "B/bbox_mAP": 0.3, "step": 1}\n'
    assert logs.parse(two).rows == [logs.Val(1, {"A/bbox_mAP": 0.1, "B/bbox_mAP": 0.3})]
    one = b'{"A/bbox_mAP": 0.1, "A/bbox_mAP_50": 0.3, "step": 1}\n'
    assert logs.parse(one).rows == [logs.Val(1, {"bbox_mAP": 0.1, "bbox_mAP_50": 0.3})]


def test_restart_begins_anew() -> None:
    text = train_line(1, 1, 5.0) + val_line(1) + train_line(2, 2, 5.0) + train_line(1, 1, 6.0)
    train, val, _ = logs.merge(logs.parse(text).rows)
    assert [(r.step, r.values["loss"]) for r in train] == [(1, 6.0)]
    assert val == []


def work_dir(tmp_path: Path, *stamps: tuple[str, str]) -> Path:
    for stamp, text in stamps:
        folder = tmp_path / stamp / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text(text)
        (folder / f"{stamp}.json").write_text(text)
    return tmp_path


def test_reads_a_resumed_work_dir(tmp_path: Path) -> None:
    first = train_line(1, 1) + val_line(1, 0.1) + train_line(2, 2, 8.0)
    second = train_line(2, 2, 3.0) + val_line(2, 0.2)
    log = logs.read(work_dir(tmp_path, ("20260102_000000", second), ("20260101_000000", first)))
    assert [r.values["loss"] for r in log.train] == [1.0, 3.0]
    assert [r.values["bbox_mAP"] for r in log.val] == [0.1, 0.2]
    assert log.metrics == {"bbox_mAP": 0.2}
    assert len(log.files) == 2


def test_merged_file_reads_back(tmp_path: Path) -> None:
    log = logs.read(
        work_dir(tmp_path, ("20260101_000000", recorded("mmengine-0.10.7.scalars.json").decode()))
    )
    merged = tmp_path / "run" / logs.MERGED
    merged.parent.mkdir()
    merged.write_text(logs.to_lines(log))
    for place in (merged, merged.parent):
        again = logs.read(place)
        assert (again.train, again.val, again.test) == (log.train, log.val, log.test)


def test_mmcv_merged_file_reads_back(tmp_path: Path) -> None:
    shutil.copy(RECORDED / "mmcv-1.4.7.log.json", tmp_path / "20220101_000000.log.json")
    shutil.copy(RECORDED / "mmcv-1.4.7.eval.json", tmp_path / "eval_20220102_000000.json")
    log = logs.read(tmp_path)
    assert (len(log.train), len(log.val), len(log.test)) == (3, 2, 1)
    train, val, test = logs.merge(logs.parse(logs.to_lines(log)).rows)
    assert (train, [v.values["bbox_mAP"] for v in val], len(test)) == (log.train, [0.215, 0.415], 1)


def test_empty_work_dir_and_missing_one(tmp_path: Path) -> None:
    assert logs.read(tmp_path) == logs.Log([], [], [], 0, [])
    assert logs.read(tmp_path).metrics == {}
    with pytest.raises(FileNotFoundError):
        logs.read(tmp_path / "missing")


def test_read_file_goes_on_and_notices_a_shorter_file(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    path.write_text(train_line(1, 1) + train_line(1, 2)[:9])
    rows, state = logs.read_file(path)
    assert len(rows) == 1
    path.write_text(train_line(1, 1) + train_line(1, 2))
    rows, state = logs.read_file(path, state)
    assert [r.step for r in rows if isinstance(r, logs.Train)] == [2]
    path.write_text(train_line(1, 1))
    assert len(logs.read_file(path, state).rows) == 1


def test_read_file_of_several_blocks(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    path.write_text("".join(train_line(1, i) for i in range(1, 40_001)))
    rows, state = logs.read_file(path)
    assert len(rows) == 40_000
    assert state == logs.State(path.stat().st_size, 0, False)
