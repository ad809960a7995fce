"""Compare a result that exists already with the run that it is to stand for.

Both sides are read and nothing is executed: configurations as syntax (:mod:`ddqjobs.planning.settings`),
checkpoints as the opcodes of their pickles (:mod:`ddqjobs.submission.leavings`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddqjobs.base import text as texts
from ddqjobs.detect import files
from ddqjobs.detect.job import live
from ddqjobs.planning import settings
from ddqjobs.spec.model import Run, TaskKind
from ddqjobs.submission.adoption_settings import Deciding
from ddqjobs.submission.leavings import Checkpoint, Left, length_of

_SHOWN = 4  # differences of a configuration that are named
_LONGEST = 60  # characters of a value
_PACKAGES = {
    "PyTorch": ("torch",),
    "MMDetection": ("mmdet",),
    "MMCV": ("mmcv", "mmcv-full", "mmcv-lite"),
    "MMEngine": ("mmengine",),
}
_PRINTED = 0.0015  # an AP is printed with three decimals; twice rounded, it is one off


@dataclass
class Examination:
    """The findings. ``differences`` speak against the result; ``unverified`` could not be compared."""

    differences: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)

    def differs(self, what: str, value: object, wanted: object) -> None:
        """Note a value that is not the run's."""
        self.differences.append(f"{what} is {_short(value)}, not {_short(wanted)}")

    def compare(self, what: str, value: object, wanted: object) -> None:
        """Note a value that is not the run's, or that one side does not tell."""
        if wanted is None:
            return
        if value is None:
            self.unverified.append(what)
        elif value != wanted:
            self.differs(what, value, wanted)


@dataclass(frozen=True)
class Expected:
    """The values that the run would have had, as far as it is known without running it."""

    run: Run
    settings: Mapping[str, Any]  # of its configuration and options
    packages: Mapping[str, str]  # of its environment's lock
    inputs: Mapping[str, Path]  # role -> file, of those that are there
    absent: tuple[str, ...] = ()  # what its configuration builds on and is not here

    @property
    def kind(self) -> TaskKind:
        """The run's kind."""
        return self.run.kind


def examine(expected: Expected, path: Path) -> Examination:
    """Return what speaks against ``path``, a work_dir or a checkpoint, and what could not be compared."""
    examination = Examination()
    if expected.kind not in (TaskKind.TRAIN, TaskKind.TEST):
        examination.unverified.append("how it was made")
        return examination
    left = Left.read(path)
    _configuration(examination, expected, left)
    _header(examination, expected, left)
    if expected.kind is TaskKind.TRAIN:
        _schedule(examination, expected, left)
        _validation(examination, left)
    else:
        _tested(examination, expected, left)
    _evaluations(examination, expected, left)
    return examination


def _configuration(examination: Examination, expected: Expected, left: Left) -> None:
    wanted = Deciding.of(expected.settings, expected.kind, expected.run.command)
    if not wanted.values or expected.absent:
        _name(examination, expected, left)
    if not wanted.values:
        return
    dumped = [("configuration", left.config)]
    checkpoint = left.checkpoint
    if (
        expected.kind is TaskKind.TRAIN
        and checkpoint is not None
        and checkpoint.config not in ("", left.config)
    ):
        dumped.append(("configuration in the checkpoint", checkpoint.config))
    told = [(name, text) for name, text in dumped if text]
    if not told:
        examination.unverified.append("configuration (none was left)")
    for name, text in told:
        there = Deciding.of(settings.of_text(text), expected.kind)
        if not there.values:
            examination.unverified.append(f"{name} (it cannot be read)")
            continue
        _settings(examination, name, there, wanted, not expected.absent)


def _name(examination: Examination, expected: Expected, left: Left) -> None:
    """Compare the name, where the content of the run's configuration is not known or only in part."""
    run = expected.run
    missing = expected.absent[:1] or ((run.config,) if run.config else ())
    examination.unverified.append(f"configuration ({missing[0]} is not here)" if missing else "configuration")
    known = {
        Path(word).name for word in (run.config.rpartition("::")[2], *run.command) if word.endswith(".py")
    }
    others = [name for name in left.config_names if name not in {*known, "config.py"}]
    if known and others and known.isdisjoint(left.config_names):
        examination.differs("configuration", others[0], Path(run.config).name)


def _settings(examination: Examination, name: str, there: Deciding, wanted: Deciding, known: bool) -> None:
    differing = wanted.differing(there)
    more, unknown = there.beyond(wanted)
    if not known:
        more, unknown = [], more + unknown
    if "model.type" in differing:  # another model: all else follows from that
        differing, more, unknown = ["model.type"], [], []
    lines = [
        f"{name}: {key} is {_short(there.values[key])}, not {_short(wanted.values[key])}"
        if key in there.values
        else f"{name}: {key} is absent, not {_short(wanted.values[key])}"
        for key in differing
    ]
    lines += [f"{name}: {key} is {_short(there.values[key])}, and the run has none" for key in more]
    examination.differences += lines[:_SHOWN]
    if lines[_SHOWN:]:
        examination.differences.append(f"{name}: {len(lines) - _SHOWN} more settings differ")
    if unknown:
        others = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        examination.unverified.append(f"{name} ({unknown[0]}{others}: not known of the run)")


def _header(examination: Examination, expected: Expected, left: Left) -> None:
    run, header = expected.run, left.header
    inside = left.checkpoint if left.checkpoint is not None else Checkpoint()
    seed = inside.seed if header.seed is None else header.seed
    if expected.kind is TaskKind.TRAIN:
        examination.compare("seed", seed, run.seed)
        if None not in (inside.seed, run.seed) and seed == run.seed != inside.seed:
            examination.differs("seed in the checkpoint", inside.seed, run.seed)
        examination.compare("number of GPUs", header.gpus, run.resources.nodes * run.resources.gpus or None)
    for name, packages in _PACKAGES.items():
        locked = next(
            (expected.packages[package] for package in packages if package in expected.packages), None
        )
        told = header.versions.get(name), inside.versions.get(name)
        for where, version in zip(("", " in the checkpoint"), told, strict=True):
            if locked is not None and version is not None and _release(version) != _release(locked):
                examination.differs(f"version of {name}{where}", version, locked)
    if not header.versions and not inside.versions:
        examination.unverified.append("versions of its packages")


def _release(version: str) -> str:
    return version.partition("+")[0]


def _schedule(examination: Examination, expected: Expected, left: Left) -> None:
    """Compare how long the training was to be, how long it was, and what it kept at the end."""
    wanted, dumped = length_of(settings.flat(expected.settings)), left.length
    for unit, ours, theirs in (
        ("epochs", wanted.epochs, dumped.epochs),
        ("iterations", wanted.iterations, dumped.iterations),
    ):
        if ours is not None and theirs is not None and ours != theirs:
            examination.differs(f"schedule: number of {unit}", theirs, ours)
    length = dumped if dumped != live.Length() else wanted
    end = length.epochs if length.epochs is not None else length.iterations
    if end is None:
        examination.unverified.append("schedule")
        return
    unit = "epoch" if length.epochs is not None else "iteration"
    if left.folder is None:
        _bare(examination, left.checkpoint, end, unit)
    elif not left.may_end_early:
        _ended(examination, left, end, unit)


def _bare(examination: Examination, checkpoint: Checkpoint | None, end: int, unit: str) -> None:
    reached = _inside(checkpoint, end, unit)
    if reached is None:
        examination.unverified.append("how far the training was")
    elif reached < end:
        examination.differences.append(f"the checkpoint is of {unit} {reached} of {end}")


def _ended(examination: Examination, left: Left, end: int, unit: str) -> None:
    reached = left.reached(unit)
    if reached is None:
        examination.unverified.append("log of the training")
    elif reached < end and (unit == "epoch" or left.name != f"iter_{end}.pth"):
        examination.differences.append(f"the log ends in {unit} {reached} of {end}")
    if left.name is not None and not left.name.startswith(("epoch_", "iter_")):
        if left.validated != end:
            examination.unverified.append(f"last checkpoint ({left.name} is the only one)")
    elif left.name is not None and left.name != f"{'epoch' if unit == 'epoch' else 'iter'}_{end}.pth":
        examination.differences.append(f"the last checkpoint is {left.name}, of {unit} {end} there is none")
    else:
        inside = _inside(left.checkpoint, end, unit)
        if left.name is not None and inside is not None and inside != end:
            examination.differences.append(f"{left.name} holds {unit} {inside}")


def _inside(checkpoint: Checkpoint | None, end: int, unit: str) -> int | None:
    """Return the epoch or iteration that a checkpoint says it is of. (By iterations, the last one of mmcv 1.x
    says one less than its name.)"""
    if checkpoint is None or unit == "epoch":
        return None if checkpoint is None else checkpoint.epoch
    return end if checkpoint.iteration == end - 1 else checkpoint.iteration


def _validation(examination: Examination, left: Left) -> None:
    if left.folder is not None and left.log is not None and not left.log.val:
        examination.unverified.append("evaluation (the log has no validation)")


def _tested(examination: Examination, expected: Expected, left: Left) -> None:
    """Compare the checkpoint that was tested with the run's."""
    wanted = expected.inputs.get("checkpoint")
    if wanted is None or left.tested is None or not left.tested.is_file():
        examination.unverified.append("checkpoint that was tested")
    elif os.path.realpath(wanted) != os.path.realpath(left.tested):
        ours, theirs = files.sha256(wanted), files.sha256(left.tested)
        if ours != theirs:
            examination.differs(
                "checkpoint that was tested", f"{left.tested.name} ({theirs[:12]})", ours[:12]
            )


def _evaluations(examination: Examination, expected: Expected, left: Left) -> None:
    """Look whether each ``eval_*.json`` is of this configuration, and of the end of this training."""
    names = {Path(expected.run.config).name, *left.config_names}
    for evaluation in left.evaluations:
        if evaluation.config and Path(evaluation.config).name not in names:
            config = Path(evaluation.config).name
            examination.differences.append(
                f"{evaluation.name} is of another configuration ({texts.clean(config)})"
            )
        elif expected.kind is TaskKind.TRAIN and left.log is not None and left.log.val:
            last = left.log.val[-1].values.get("bbox_mAP")
            if last is not None and evaluation.ap is not None and abs(last - evaluation.ap) > _PRINTED:
                ap = f"AP {evaluation.ap:g}, the log's last validation {last:g}"
                examination.differences.append(f"{evaluation.name} has {ap}")


def _short(value: object) -> str:
    text = texts.clean(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
