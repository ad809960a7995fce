"""Tell how far a live training is, by the last KBs of its newest log, and how long it will be. Standard
library only."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from . import logs
from .training_progress import Progress

_FAR = 4 << 20  # bytes that progress() looks back for the last AP
_TRAIN = re.compile(
    r"(?:Epoch(?:\(train\))?\s*\[\s*(\d{1,9})\]|Iter(?:\(train\))?)\s*\[\s*(\d{1,9})/(\d{1,9})\]"
)
_ETA = re.compile(r"\beta: (?:(\d{1,6}) days?, )?(\d{1,3}):(\d\d):(\d\d)")
_LOSS = re.compile(r"\bloss: (\S+)")
_GPU = re.compile(r"\b(gpu_busy|gpu_hours|gpu_hours_to_come): (\S+)")  # of our hook
_METRICS = re.compile(r"(?:Epoch|Iter)\((?:val|test)\)(.*)")
_AP = re.compile(r"\s(?:((?:\S+/)?)bbox_mAP): ([-+.\w]+)")


def progress(work_dir: str | Path) -> Progress:
    """Return how far the training in ``work_dir`` is, from the end of its newest text log and its
    configuration.

    Where there is no text log the JSON log is read, which has no totals. Never raises: what cannot be read,
    or is not there yet, is None.
    """
    try:
        epochs = length(work_dir).epochs
        text = _newest_text(Path(work_dir))
        if text is not None:
            return _text_progress(text)._replace(epochs=epochs)
        curves = logs.log_files(work_dir)
        return _json_progress(curves[-1])._replace(epochs=epochs) if curves else Progress()
    except OSError:
        return Progress()


class Length(NamedTuple):
    """The length of a training: epochs, or iterations where it has no epochs; None for what is not told."""

    epochs: int | None = None
    iterations: int | None = None


def length(work_dir: str | Path) -> Length:
    """Return how long the training is, from the configuration that mmengine or mmcv dumped into its work_dir
    (the newest one that tells)."""
    for text in _dumped(work_dir):
        try:
            known_length = _length_of(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if known_length != Length():
            return known_length
    return Length()


def stops_early(work_dir: str | Path) -> bool:
    """Tell whether the training's configuration lets it stop before its last epoch."""
    return "EarlyStoppingHook" in next(_dumped(work_dir), "")


def _dumped(work_dir: str | Path) -> Iterator[str]:
    """Yield the configurations that mmengine or mmcv dumped into a work_dir, the newest first."""
    folders = [entry for entry in Path(work_dir).iterdir() if logs.STAMP.match(entry.name) and entry.is_dir()]
    configs = [folder / "vis_data" / "config.py" for folder in sorted(folders, reverse=True)]
    for config in [*configs, *sorted(Path(work_dir).glob("*.py"))]:
        try:
            with config.open("rb") as stream:
                yield stream.read(_FAR).decode("utf-8", "replace")
        except OSError:
            continue


def _newest_text(work_dir: Path) -> Path | None:
    """The newest text log; None without any."""
    text_logs: list[tuple[str, Path]] = []
    for entry in work_dir.iterdir():
        if logs.STAMP.match(entry.name) and entry.is_dir():
            text_logs += [(entry.name, path) for path in [entry / (entry.name + ".log")] if path.is_file()]
        elif logs.STAMP.match(entry.name) and entry.name.endswith(".log"):
            text_logs.append((entry.name[:15], entry))
    return max(text_logs)[1] if text_logs else None


def _length_of(text: str) -> Length:
    """The length in a configuration as mmengine and mmcv dump it: assignments of literals."""
    lengths: dict[str, int] = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name, value = statement.targets[0].id, statement.value
        keywords = value.keywords if isinstance(value, ast.Call) else []
        keys = ("max_epochs", "max_iters")
        for key, part in [(k.arg, k.value) for k in keywords if k.arg in keys] or [("", value)]:
            if isinstance(part, ast.Constant) and type(part.value) is int:
                lengths[f"{name}.{key}" if key else name] = part.value
    # What the loop was given decides: --cfg-options change it and leave helper variables as they were.
    for loop in ("train_cfg", "runner"):
        for key, to_length in (("max_epochs", Length), ("max_iters", lambda n: Length(None, n))):
            if f"{loop}.{key}" in lengths:
                return to_length(lengths[f"{loop}.{key}"])
    return Length(lengths.get("total_epochs"))


def _text_progress(path: Path) -> Progress:
    """Last training line and last AP of a text log, looked for from the end, not further than _FAR."""
    state = Progress()
    tail = b""
    with path.open("rb") as stream:
        end = stream.seek(0, 2)
        start = end
        while start > max(0, end - _FAR):
            start = max(0, start - logs.BLOCK)
            stream.seek(start)
            # The piece that the last block began with is half a line: read it with this one.
            data = stream.read(min(logs.BLOCK, end - start)) + tail
            head, _, body = data.partition(b"\n") if start else (b"", b"", data)
            tail = head[: logs.BLOCK]
            state = _text_lines(state, body.decode("utf-8", "replace"))
            if state.iteration is not None and state.ap is not None:
                break
    return state


def _text_lines(state: Progress, text: str) -> Progress:
    """``state`` with what is missing in it taken from the lines of ``text``, last one first."""
    for line in reversed(text.split("\n")):
        if state.ap is None:
            state = state._replace(ap=_ap(line))
        if state.iteration is None:
            state = _train_line(state, line)
    return state


def _ap(line: str) -> float | None:
    """AP points in a line of metrics; None without any, and where several data sets have their own."""
    metrics = _METRICS.search(line)
    by_prefix: dict[str, str] = dict(_AP.findall(metrics.group(1))) if metrics else {}
    plain = [by_prefix[prefix] for prefix in ("", "coco/") if prefix in by_prefix]
    values = plain or list(by_prefix.values())
    return _points(values[0]) if plain or len(values) == 1 else None


def _train_line(state: Progress, line: str) -> Progress:
    match = _TRAIN.search(line)
    if not match:
        return state
    epoch, iteration, total = (int(g) if g else None for g in match.groups())
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
        start = max(0, stream.seek(0, 2) - 4 * logs.BLOCK)
        stream.seek(start)
        data = stream.read(4 * logs.BLOCK)
    train, val, test = logs.merge(logs.parse(data.partition(b"\n")[2] if start else data).rows)
    tested = [v.values for v in val] + [t.values for t in test]
    results = [values["bbox_mAP"] for values in tested if "bbox_mAP" in values][-1:]
    ap = _points(repr(results[0])) if results else None
    if not train:
        return Progress(ap=ap)
    last = train[-1]
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
