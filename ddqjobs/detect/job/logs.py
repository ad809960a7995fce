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
from typing import Any, NamedTuple

from .log_merging import Row as Row
from .log_merging import Test as Test
from .log_merging import Train as Train
from .log_merging import Val as Val
from .log_merging import merge as merge
from .training_progress import Progress as Progress

MAX_LINE = 1 << 20  # bytes; a row of DDQ DETR has 2.5 kB, longer lines than this are no rows
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
MERGED = "log.jsonl"  # the whole curve of a run in one file, written by ddqjobs.detect.product

BLOCK = 64 << 10
STAMP = re.compile(r"^\d{8}_\d{6}")
_PREFIX = re.compile(r"^(?:(?:coco|train|val|test)/)+")
_LEARNS = re.compile(r"^(?:train/)?(?:loss|(?:\w+\.)?lr)$")
_META = ("exp_name", "env_info", "hook_msgs", "config")
_NO_RESULTS = ("lr", "momentum", "memory", "time", "data_time", "eta", "grad_norm")
_NO_VALUES = ("epoch", "iter", "step", "mode")


class State(NamedTuple):
    """The place where reading goes on. All fields are plain, so a caller may keep it in JSON
    (``State(*saved)``)."""

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
        """Metrics of the last test, else of the last validation, else nothing. Maybe NaN."""
        last: list[Any] = list(self.test[-1:]) or list(self.val[-1:])
        return metrics_of(last[0].values) if last else {}


START = State()


def metrics_of(values: dict[str, float]) -> dict[str, float]:
    """Return what an evaluation measured: those of boxes first, then others, without what is no result."""
    first = {name: values[name] for name in METRICS if name in values}
    others = {k: v for k, v in values.items() if k not in first and k.rpartition("/")[2] not in _NO_RESULTS}
    return {**first, **others}


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
    stamped_logs: list[tuple[str, int, Path]] = []
    for entry in sorted(work_dir.iterdir()):
        name = entry.name
        if STAMP.match(name) and entry.is_dir():
            curves = [entry / "vis_data" / "scalars.json", entry / "vis_data" / (name + ".json")]
            stamped_logs += [(name, 0, path) for path in curves if path.is_file()][:1]
            test = entry / (name + ".json")
            stamped_logs += [(name, 1, test)] if test.is_file() else []
        elif STAMP.match(name) and name.endswith(".log.json"):
            stamped_logs.append((name[:15], 0, entry))
        elif name.startswith("eval_") and name.endswith(".json"):
            stamped_logs.append((name[5:20], 1, entry))
    if not stamped_logs and (work_dir / MERGED).is_file():
        return [work_dir / MERGED]
    return [path for _, _, path in sorted(stamped_logs)]


def to_lines(log: Log) -> str:
    """The log as text that :func:`parse` reads back: mmengine's own lines, each curve whole."""
    ends: list[tuple[int, int, int, dict[str, Any]]] = []
    for t in log.train:
        place = {"step": t.step} if t.step else {"iter": t.iteration, "mode": "train"}
        ends.append((t.epoch, t.step or t.iteration, 0, dict(t.values, epoch=t.epoch, **place)))
    for v in log.val:
        line = dict(_coco(v.values), mode="val", epoch=v.epoch, step=v.step)
        ends.append((v.epoch, _in_epoch(v, log.train), 1, line))
    ends.sort(key=lambda e: e[:3])
    lines = [json.dumps(e[3]) for e in ends] + [json.dumps(_coco(t.values)) for t in log.test]
    return "".join(line + "\n" for line in lines)


def _in_epoch(row: Val, train: list[Train]) -> int:
    """The validation's iteration as its training's rows count: mmcv's begin anew with each epoch."""
    length = max((t.iteration for t in train), default=0)
    return row.step - (row.epoch - 1) * length if length and row.step else row.step


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
        return Val(epoch, values, step), 0
    if mode == "train":
        return Train(epoch, iteration, 0, values), 0
    if mode is not None or not values:
        return None, 1
    # mmengine: iter, if there, counts over all epochs. Before 0.7.4 iteration-based rows had step only.
    if "epoch" in item or "iter" in item or _learns(item):
        return Train(epoch, 0, step or iteration, values), 0
    if "step" in item:
        return Val(step, values), 0
    return Test(values), 0


def _learns(item: dict[str, Any]) -> bool:
    """Tell whether a row of mmengine is a training's: it has the loss or an optimizer's learning rate."""
    return any(_LEARNS.match(key) for key in item)


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
    return _of_one_data_set(values)


def _of_one_data_set(values: dict[str, float]) -> dict[str, float]:
    """Metrics without the prefix that an evaluator gave them, if they are of one data set: of several, no
    AP is *the* AP."""
    sets = [key[: -len("bbox_mAP")] for key in values if key.endswith("/bbox_mAP")]
    if "bbox_mAP" in values or len(sets) != 1:
        return values
    return {key[len(sets[0]) :] if key.startswith(sets[0]) else key: v for key, v in values.items()}


def _coco(values: dict[str, float]) -> dict[str, float]:
    return {"coco/" + k if k.startswith("bbox_") else k: v for k, v in values.items()}
