"""Logs of mmengine and of mmcv 1.4.7 as rows. Standard library only; used by jobs and by the project.

Three levels, from pure to convenient::

    rows, state = parse(data, state)     bytes -> rows, incremental, pure
    rows, state = read_file(path, state) the same for what was added to a file since the last call
    log = read(path)                     a work_dir (resumed ones merged) or a single log file

Nothing here raises for what a log contains: lines that are no rows are counted in ``State.skipped``. How far
a live training is says :mod:`.live`.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Union

from .training_progress import Progress as Progress

MAX_LINE = 1 << 20  # bytes; a row of DDQ DETR has 2.5 kB, longer lines than this are no rows
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
MERGED = "log.jsonl"  # the whole curve of a run in one file, written by ddqjobs.detect.product

BLOCK = 64 << 10
STAMP = re.compile(r"^\d{8}_\d{6}")
_PREFIX = re.compile(r"^(?:coco|train|val|test)/")
_META = ("exp_name", "env_info", "hook_msgs", "config")
_NO_VALUES = ("epoch", "iter", "step", "mode")


class Train(NamedTuple):
    """Logged values of one training iteration (or their mean over the log processor's window)."""

    epoch: int  # from 1; 0 in iteration-based trainings
    iteration: int  # in the epoch, from 1; 0 in mmengine's logs, which do not tell
    step: int  # over all epochs, from 1; 0 in mmcv's logs, which do not tell
    values: dict[str, float]  # loss, loss_cls, lr, grad_norm, time, ...


class Val(NamedTuple):
    """Metrics of a validation, fractions; -1 where a class of areas is empty."""

    epoch: int  # of the training; the iteration in iteration-based trainings
    values: dict[str, float]  # bbox_mAP, bbox_mAP_50, ...


class Test(NamedTuple):
    """Metrics of a test run, fractions; -1 where a class of areas is empty."""

    values: dict[str, float]


Test.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test case
Row = Union[Train, Val, Test]


class State(NamedTuple):
    """Where reading goes on. All fields are plain, so a caller may keep it in JSON (``State(*saved)``)."""

    offset: int = 0  # bytes read so far; what follows (half a line, perhaps) is to be given again
    skipped: int = 0  # lines that were no rows
    overlong: bool = False  # inside a line longer than MAX_LINE


class Parsed(NamedTuple):
    """Rows of a chunk, and where to go on."""

    rows: list[Row]
    state: State


class Log(NamedTuple):
    """A whole log: resumed pieces merged, in order of time."""

    train: list[Train]
    val: list[Val]
    test: list[Test]
    skipped: int  # lines that were no rows
    files: list[str]  # what was read, oldest first

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last test, else of the last validation, else nothing. Fractions, maybe NaN."""
        last: list[Any] = list(self.test[-1:]) or list(self.val[-1:])
        return {k: v for k, v in last[0].values.items() if k.startswith("bbox_")} if last else {}


START = State()


def parse(data: bytes | str, state: State = START) -> Parsed:
    """Rows of ``data``, which begins at byte ``state.offset`` of a log; pure.

    A last line without its newline counts if it is whole (test logs end so); else it is left for the
    next call: ``state.offset`` stays before it. Lines that are no rows are counted, never an error.
    """
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    offset, skipped, overlong = state
    rows: list[Row] = []
    *lines, tail = raw.split(b"\n")
    for line in lines:
        offset += len(line) + 1
        if overlong or len(line) > MAX_LINE:
            overlong, skipped = False, skipped + 1
            continue
        row, bad = _row_of_line(line)
        skipped += bad
        if row is not None:
            rows.append(row)
    if overlong or len(tail) > MAX_LINE:
        return Parsed(rows, State(offset + len(tail), skipped, True))
    if tail.rstrip().endswith(b"}"):
        row, bad = _row_of_line(tail)
        if row is not None and not bad:
            rows.append(row)
            offset += len(tail)
    return Parsed(rows, State(offset, skipped, False))


def read_file(path: str | Path, state: State = START) -> Parsed:
    """Rows added to the file since ``state``. A file that became shorter is read anew from its start.

    Raises OSError if the file cannot be read.
    """
    rows: list[Row] = []
    with Path(path).open("rb") as stream:
        if stream.seek(0, 2) < state.offset:
            state = START
        stream.seek(state.offset)
        rest = b""
        while True:
            block = stream.read(16 * BLOCK)
            if not block:
                return Parsed(rows, state)
            before = state.offset
            data = rest + block
            more, state = parse(data, state)
            rows += more
            rest = data[state.offset - before :]


def read(path: str | Path) -> Log:
    """The log of a work_dir, or of one log file (scalars.json, \\*.log.json, log.jsonl), merged.

    A work_dir without logs gives an empty Log. Raises OSError if ``path`` does not exist.
    """
    path = Path(path)
    files = log_files(path) if path.is_dir() else [path]
    rows: list[Row] = []
    skipped = 0
    for file in files:
        more, state = read_file(file)
        rows += more
        skipped += state.skipped
    train, val, test = merge(rows)
    return Log(train, val, test, skipped, [str(f) for f in files])


def log_files(work_dir: str | Path) -> list[Path]:
    """The JSON logs of a work_dir, oldest first. Several time stamps mean that the run was resumed."""
    work_dir = Path(work_dir)
    found: list[tuple[str, int, Path]] = []
    for entry in sorted(work_dir.iterdir()):
        name = entry.name
        if STAMP.match(name) and entry.is_dir():
            curves = [entry / "vis_data" / "scalars.json", entry / "vis_data" / (name + ".json")]
            found += [(name, 0, p) for p in curves if p.is_file()][:1]
            test = entry / (name + ".json")
            found += [(name, 1, test)] if test.is_file() else []
        elif STAMP.match(name) and name.endswith(".log.json"):
            found.append((name[:15], 0, entry))
        elif name.startswith("eval_") and name.endswith(".json"):
            found.append((name[5:20], 1, entry))
    if not found and (work_dir / MERGED).is_file():
        return [work_dir / MERGED]
    return [p for _, _, p in sorted(found)]


def merge(rows: Iterable[Row]) -> tuple[list[Train], list[Val], list[Test]]:
    """Rows in order of writing -> one curve. Where the training went back (a resume restarts its epoch,
    a restart begins anew) the earlier rows from there on are dropped, validations included."""
    train: list[Train] = []
    val: list[Val] = []
    test: list[Test] = []
    for row in rows:
        if isinstance(row, Train):
            # Tuples compare in order: epoch, then iteration (mmcv) or step (mmengine), whichever is logged.
            while train and train[-1][:3] >= row[:3]:
                train.pop()
            while val and row.epoch and val[-1].epoch >= row.epoch:
                val.pop()
            train.append(row)
        elif isinstance(row, Val):
            while val and val[-1].epoch >= row.epoch:
                val.pop()
            val.append(row)
        else:
            test.append(row)
    return train, val, test


def to_lines(log: Log) -> str:
    """The log as text that :func:`parse` reads back: mmengine's own lines, each curve whole."""
    ends: list[tuple[int, int, dict[str, Any]]] = []
    for t in log.train:
        place = {"step": t.step} if t.step else {"iter": t.iteration, "mode": "train"}
        ends.append((t.epoch, 0, dict(t.values, epoch=t.epoch, **place)))
    for v in log.val:
        ends.append((v.epoch, 1, dict(_coco(v.values), step=v.epoch)))
    ends.sort(key=lambda e: e[:2])
    lines = [json.dumps(e[2]) for e in ends] + [json.dumps(_coco(t.values)) for t in log.test]
    return "".join(line + "\n" for line in lines)


def _row_of_line(line: bytes) -> tuple[Row | None, int]:
    """Row of a line, and 1 if the line (or a part of it) was no row. Blank and meta lines are neither."""
    if not line.strip():
        return None, 0
    value = _json(line)
    if isinstance(value, dict):
        return _row(value)
    # A writer that died in the middle of a line, and the next one appended: the last object is whole.
    glued = line.rfind(b"{")
    value = _json(line[glued:]) if glued > 0 else None
    return (_row(value)[0] if isinstance(value, dict) else None), 1


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _row(item: dict[str, Any]) -> tuple[Row | None, int]:
    metric = item.get("metric")
    if isinstance(metric, dict):  # mmcv's eval_*.json
        return Test(_values(metric)), 0
    mode = item.get("mode")
    if mode is None and any(k in item for k in _META):
        return None, 0
    epoch, iteration, step = (_natural(item.get(k)) for k in ("epoch", "iter", "step"))
    values = _values(item)
    if mode == "val":
        return Val(epoch, values), 0
    if mode == "train":
        return Train(epoch, iteration, 0, values), 0
    if mode is not None or not values:
        return None, 1
    if "epoch" in item or "iter" in item:  # mmengine: iter, if there, counts over all epochs
        return Train(epoch, 0, step or iteration, values), 0
    if "step" in item:
        return Val(step, values), 0
    return Test(values), 0


def _natural(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0


def _values(item: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for key, value in item.items():
        if key in _NO_VALUES or isinstance(value, bool):
            continue
        if value is None:
            values[_PREFIX.sub("", key)] = math.nan
        elif isinstance(value, (int, float)):
            try:
                values[_PREFIX.sub("", key)] = float(value)
            except OverflowError:
                values[_PREFIX.sub("", key)] = math.inf if value > 0 else -math.inf
    return values


def _coco(values: dict[str, float]) -> dict[str, float]:
    return {"coco/" + k if k.startswith("bbox_") else k: v for k, v in values.items()}
