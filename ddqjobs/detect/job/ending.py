"""Find the checkpoint that a training ended with, and whether it trained at all. Standard library only."""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from .. import files
from . import live, logs, progress

_NUMBERS = re.compile(r"(\d+)")
_LARGEST = 64 << 20  # bytes of a checkpoint's description; weights are not in it


class NoEnd(Exception):
    """A training did not come to its end; the message says what is missing."""


class End(NamedTuple):
    """A training's checkpoint, and what a report says of it."""

    checkpoint: Path
    report: dict[str, Any]


def of(work_dir: Path, log: logs.Log, exited_0: bool) -> End:
    """Return how a training in ``work_dir`` ended. Raise NoEnd.

    The checkpoint of its last epoch (or iteration) is asked for. One that ``exited_0`` says itself that it is
    over: it may have kept it in another folder, have stopped early, or have kept other ones only.
    """
    epochs, iterations = live.length(work_dir)
    end = epochs if epochs is not None else iterations
    if end is None:
        raise NoEnd("the configuration in the work_dir sets no number of epochs or iterations")
    unit, prefix = ("epoch", "epoch_") if epochs is not None else ("iteration", "iter_")
    report: dict[str, Any] = {"epochs": epochs} if epochs is not None else {}
    last, reached = work_dir / f"{prefix}{end}.pth", end
    if exited_0 and not last.exists():
        last, reached = _other(work_dir, prefix, last, end, log)
        report["checkpoint"] = last.relative_to(work_dir).as_posix()
        if reached != end and live.stops_early(work_dir):
            report["stopped_early"] = f"{unit} {reached} of {end}"
    if end < 1 or not _trained(work_dir, last, log):
        raise NoEnd("the training ran no iteration")
    if not exited_0 and last.exists() and not validated(log, prefix, end):
        raise NoEnd(f"the log has no validation of {unit} {end}")
    return End(last, report)


def _other(work_dir: Path, prefix: str, last: Path, end: int, log: logs.Log) -> tuple[Path, int]:
    """Return the checkpoint of a training that ended well without its last one, and how far it came."""
    elsewhere = _elsewhere(work_dir, last)
    if elsewhere is not None:
        return elsewhere, end
    numbered = re.compile(rf"{prefix}(\d+)\.pth")  # epoch_best.pth is of no epoch
    saved = sorted(
        (path for path in work_dir.rglob("*.pth") if path.is_file()), key=lambda path: natural(path.name)
    )
    series = {int(m[1]): path for path in saved for m in [numbered.fullmatch(path.name)] if m}
    asked = (work_dir.parent / "stop").exists()  # a training that ended since it was asked to is not over
    over = not asked and _went_to_its_end(log, prefix, end)
    if not asked and (over or live.stops_early(work_dir)):
        told = None if series else _told(work_dir)
        matched = numbered.fullmatch(told.name) if told else None
        if told and matched and int(matched[1]) <= end:
            return _copied(told, work_dir), int(matched[1])
        if series:
            return series[max(series)], max(series)
    best = [path for path in saved if path.name.startswith("best_")]
    if best and not series and (over or validated(log, prefix, end)):
        return best[-1], end
    return last, end


def _elsewhere(work_dir: Path, last: Path) -> Path | None:
    """Return the last checkpoint in a folder below the work_dir, or a copy of where mmengine says it is."""
    below = sorted(path for path in work_dir.rglob(last.name) if path.is_file())
    if below:
        return below[-1]
    told = _told(work_dir)
    return _copied(told, work_dir) if told and told.name == last.name else None


def _told(work_dir: Path) -> Path | None:
    """Return where mmengine says that the last checkpoint is, if it is there."""
    try:
        told = Path((work_dir / "last_checkpoint").read_text(encoding="utf-8").strip())
        return told if told.is_absolute() and told.is_file() else None
    except (OSError, ValueError):
        return None


def _copied(told: Path, work_dir: Path) -> Path:
    """Return a copy in the work_dir of a checkpoint outside. A link would lead to another training's weights
    as soon as one writes there. Raise NoEnd."""
    copy = work_dir / told.name
    try:
        files.replace(copy, lambda temporary: shutil.copyfile(str(told), str(temporary)))
    except OSError as error:
        raise NoEnd(f"{told.name} cannot be copied into the work_dir, {error.strerror}") from error
    return copy


def _went_to_its_end(log: logs.Log, prefix: str, end: int) -> bool:
    """Tell whether the log's last rows are of the training's end: of its last epoch, or nearer to its last
    iteration than two rows are to each other."""
    if not log.train:
        return False
    last = log.train[-1]
    if prefix == "epoch_":
        return last.epoch >= end
    steps = [row.step or row.iteration for row in log.train[-2:]]
    return steps[-1] + (steps[-1] - steps[0] if len(steps) > 1 else 0) >= end


def _trained(work_dir: Path, checkpoint: Path, log: logs.Log) -> bool:
    """Tell whether at least one iteration was made, as far as anything says so. (A loader without a batch
    ends each epoch at once.)"""
    if log.train:
        return True
    stretch = progress.read(work_dir)
    return (stretch.end if stretch is not None else _iterations(checkpoint)) != 0


def validated(log: logs.Log, prefix: str, end: int) -> bool:
    """Tell whether the log's last validation is that of the training's end."""
    last = log.val[-1] if log.val else None
    return last is not None and (last.epoch if prefix == "epoch_" else last.step) == end


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts epoch_12 after epoch_9."""
    return [(int(t), "") if t.isdigit() else (-1, t) for t in _NUMBERS.split(text)]


def _iterations(checkpoint: Path) -> int | None:
    """Return how many iterations a checkpoint says it was trained for; None where it does not."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            if archive.getinfo(name).file_size > _LARGEST:
                return None
            with archive.open(name) as stream:
                description = _Description(stream).load()
        iterations = description["meta"]["iter"]
    except Exception:  # whatever a file holds that is no checkpoint of mmcv or mmengine
        return None
    return iterations if type(iterations) is int else None


class _Description(pickle.Unpickler):
    """Reads the plain values of a checkpoint: nothing that it names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002
        return _Anything

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002
        return None


class _Anything(dict):  # type: ignore[type-arg]
    """Stands for an object that is not looked at."""

    def __new__(cls, *_: Any, **__: Any) -> _Anything:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass
