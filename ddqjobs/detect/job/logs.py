"""Logs of mmengine and of mmcv 1.4.7 as rows. Standard library only; used by jobs and by the project.

Three levels, from pure to convenient::

    rows, state = parse(data, state)     bytes -> rows, incremental, pure
    rows, state = read_file(path, state) the same for what was added to a file since the last call
    log = read(path)                     a work_dir (resumed ones merged) or a single log file
    progress(work_dir)                   how far a live training is, from the last KBs of its newest log

Nothing here raises for what a log contains: lines that are no rows are counted in ``State.skipped``.
"""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Union

from .training_progress import Progress as Progress

MAX_LINE = 1 << 20  # bytes; a row of DDQ DETR has 2.5 kB, longer lines than this are no rows
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
MERGED = "log.jsonl"  # the whole curve of a run in one file, written by ddqjobs.detect.product

_BLOCK = 64 << 10
_STAMP = re.compile(r"^\d{8}_\d{6}")
_PREFIX = re.compile(r"^(?:coco|train|val|test)/")
_META = ("exp_name", "env_info", "hook_msgs", "config")
_NO_VALUES = ("epoch", "iter", "step", "mode")
_FAR = 4 << 20  # bytes that progress() looks back for the last AP
_TRAIN = re.compile(
    r"(?:Epoch(?:\(train\))?\s*\[\s*(\d{1,9})\]|Iter(?:\(train\))?)\s*\[\s*(\d{1,9})/(\d{1,9})\]"
)
_ETA = re.compile(r"\beta: (?:(\d{1,6}) days?, )?(\d{1,3}):(\d\d):(\d\d)")
_LOSS = re.compile(r"\bloss: (\S+)")
_GPU = re.compile(r"\b(gpu_busy|gpu_hours|gpu_hours_to_come): (\S+)")  # of our hook
_AP = re.compile(r"(?:Epoch|Iter)\((?:val|test)\).*?\bbbox_mAP: ([-+.\w]+)")


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
            block = stream.read(16 * _BLOCK)
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
        if _STAMP.match(name) and entry.is_dir():
            curves = [entry / "vis_data" / "scalars.json", entry / "vis_data" / (name + ".json")]
            found += [(name, 0, p) for p in curves if p.is_file()][:1]
            test = entry / (name + ".json")
            found += [(name, 1, test)] if test.is_file() else []
        elif _STAMP.match(name) and name.endswith(".log.json"):
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


def progress(work_dir: str | Path) -> Progress:
    """How far the training in ``work_dir`` is, from the end of its newest text log and its configuration.

    Where there is no text log the JSON log is read, which has no totals. Never raises: what cannot be read,
    or is not there yet, is None.
    """
    try:
        epochs = length(work_dir).epochs
        text = _newest_text(Path(work_dir))
        if text is not None:
            return _text_progress(text)._replace(epochs=epochs)
        curves = log_files(work_dir)
        return _json_progress(curves[-1])._replace(epochs=epochs) if curves else Progress()
    except OSError:
        return Progress()


class Length(NamedTuple):
    """How long a training is: epochs, or iterations where it has no epochs; None for what is not told."""

    epochs: int | None = None
    iterations: int | None = None


def length(work_dir: str | Path) -> Length:
    """How long the training is, from the configuration that mmengine or mmcv dumped into its work_dir (the
    newest one that tells)."""
    folders = [p for p in Path(work_dir).iterdir() if _STAMP.match(p.name) and p.is_dir()]
    configs = [p / "vis_data" / "config.py" for p in sorted(folders, reverse=True)]
    for config in [*configs, *sorted(Path(work_dir).glob("*.py"))]:
        try:
            with config.open("rb") as stream:
                found = _length_of(stream.read(_FAR).decode("utf-8", "replace"))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if found != Length():
            return found
    return Length()


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


def _newest_text(work_dir: Path) -> Path | None:
    """The newest text log; None without any."""
    found: list[tuple[str, Path]] = []
    for entry in work_dir.iterdir():
        if _STAMP.match(entry.name) and entry.is_dir():
            found += [(entry.name, p) for p in [entry / (entry.name + ".log")] if p.is_file()]
        elif _STAMP.match(entry.name) and entry.name.endswith(".log"):
            found.append((entry.name[:15], entry))
    return max(found)[1] if found else None


def _length_of(text: str) -> Length:
    """The length in a configuration as mmengine and mmcv dump it: assignments of literals."""
    found: dict[str, int] = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name, value = statement.targets[0].id, statement.value
        words = value.keywords if isinstance(value, ast.Call) else []
        keys = ("max_epochs", "max_iters")
        for key, part in [(k.arg, k.value) for k in words if k.arg in keys] or [("", value)]:
            if isinstance(part, ast.Constant) and type(part.value) is int:
                found[f"{name}.{key}" if key else name] = part.value
    # What the loop was given decides: --cfg-options change it and leave helper variables as they were.
    for loop in ("train_cfg", "runner"):
        for key, made in (("max_epochs", Length), ("max_iters", lambda n: Length(None, n))):
            if f"{loop}.{key}" in found:
                return made(found[f"{loop}.{key}"])
    return Length(found.get("total_epochs"))


def _text_progress(path: Path) -> Progress:
    """Last training line and last AP of a text log, looked for from the end, not further than _FAR."""
    state = Progress()
    tail = b""
    with path.open("rb") as stream:
        end = stream.seek(0, 2)
        start = end
        while start > max(0, end - _FAR):
            start = max(0, start - _BLOCK)
            stream.seek(start)
            # The piece that the last block began with is half a line: read it with this one.
            data = stream.read(min(_BLOCK, end - start)) + tail
            head, _, body = data.partition(b"\n") if start else (b"", b"", data)
            tail = head[:_BLOCK]
            state = _text_lines(state, body.decode("utf-8", "replace"))
            if state.iteration is not None and state.ap is not None:
                break
    return state


def _text_lines(state: Progress, text: str) -> Progress:
    """``state`` with what is missing in it taken from the lines of ``text``, last one first."""
    for line in reversed(text.split("\n")):
        if state.ap is None:
            found = _AP.search(line)
            if found:
                state = state._replace(ap=_points(found.group(1)))
        if state.iteration is None:
            state = _train_line(state, line)
    return state


def _train_line(state: Progress, line: str) -> Progress:
    found = _TRAIN.search(line)
    if not found:
        return state
    epoch, iteration, total = (int(g) if g else None for g in found.groups())
    eta, loss = _ETA.search(line), _LOSS.search(line)
    gpu: dict[str, Any] = {name: _number(text) for name, text in _GPU.findall(line)}
    seconds = None
    if eta:
        days, hours, minutes, rest = (int(g or 0) for g in eta.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    return state._replace(
        epoch=epoch,
        iteration=iteration,
        iterations=total,
        eta_s=seconds,
        loss=_number(loss.group(1)) if loss else None,
        **gpu,
    )


def _json_progress(path: Path) -> Progress:
    with path.open("rb") as stream:
        start = max(0, stream.seek(0, 2) - 4 * _BLOCK)
        stream.seek(start)
        data = stream.read(4 * _BLOCK)
    rows = parse(data.partition(b"\n")[2] if start else data).rows
    train = [r for r in rows if isinstance(r, Train)][-1:]
    results = [r.values["bbox_mAP"] for r in rows if not isinstance(r, Train) and "bbox_mAP" in r.values][-1:]
    ap = _points(repr(results[0])) if results else None
    if not train:
        return Progress(ap=ap)
    last = train[0]
    iteration = last.iteration or (0 if last.epoch else last.step)
    return Progress(last.epoch or None, iteration or None, loss=last.values.get("loss"), ap=ap)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _points(text: str) -> float | None:
    """AP points of a fraction; None for NaN and for the -1 of an empty class."""
    value = _number(text)
    return round(100 * value, 6) if value is not None and 0 <= value <= 1 else None
