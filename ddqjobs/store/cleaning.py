"""Finds the checkpoints of runs on disk, and removes those that may go.

It may be killed at any moment, and jobs may write meanwhile: a file goes only if it is still the file that
was decided on, one after the other; what a job may need next is never among them
(:mod:`ddqjobs.store.retention`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base.errors import StateError, refusal
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import counted
from ddqjobs.detect import files
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Input, Plan, PlannedRun, Product, Status
from ddqjobs.store import evidence, retention
from ddqjobs.store.layout import AttemptFolder, Layout, RunFolder
from ddqjobs.store.retention import Checkpoint, Decision, Rule


class Cleaning(Frozen, frozen=True, kw_only=True):
    """Every checkpoint of some runs: what goes and what stays, each with its reason."""

    decisions: tuple[Decision, ...]

    @property
    def removed(self) -> list[Checkpoint]:
        """Return the checkpoints that go."""
        return [d.checkpoint for d in self.decisions if not d.stays]

    @property
    def freed(self) -> int:
        """Bytes that this frees."""
        return sum(retention.freed(self.removed).values())


def rule_of(experiment: Experiment, task: str) -> Rule:
    """Return what is declared for a task's checkpoints."""
    declared = [t.checkpoints for name, t in experiment.tasks.items() if name == task]
    declared.append(experiment.checkpoints)

    def pick(key: str, default: object) -> object:
        return next((v for d in declared if (v := getattr(d, key)) is not None), default)

    kept = Rule()
    return msgspec.convert({k: pick(k, getattr(kept, k)) for k in ("last", "best", "final")}, Rule)


def look(
    results: Path, project: Path, experiment: Experiment, plan: Plan, runs: Sequence[PlannedRun]
) -> Cleaning:
    """Decides on the checkpoints of these runs. ``plan`` is the whole one, freshly made."""
    inputs = frozenset(path for planned in plan.runs for path in input_paths(project, planned.run.inputs))
    return Cleaning(
        decisions=tuple(
            d
            for planned in runs
            for d in _look(Layout(results).run(planned.run.name).path, experiment, planned, inputs)
        )
    )


def remove(chosen: Iterable[Checkpoint]) -> tuple[list[Checkpoint], int]:
    """(what was removed, bytes freed). Raises StateError for what may not be removed; the rest is."""
    gone: list[Checkpoint] = []
    freed = 0
    problems: list[str] = []
    for checkpoint in chosen:
        try:
            now = os.lstat(checkpoint.path)
            if (now.st_dev, now.st_ino) != checkpoint.inode:
                continue  # another file by now
            os.unlink(checkpoint.path)  # noqa: PTH108
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{checkpoint.path}: {refusal(error)}")
            continue
        gone.append(checkpoint)
        freed += now.st_blocks * 512 if now.st_nlink == 1 else 0
    if problems:
        raise StateError(
            "\n".join([*problems[:10], f"removed {counted(len(gone), 'checkpoint')}, not these"])
        )
    return gone, freed


def _look(
    run_dir: Path, experiment: Experiment, planned: PlannedRun, inputs: frozenset[str]
) -> Iterator[Decision]:
    checkpoints = list(_checkpoints(run_dir, planned.run.name))
    if not checkpoints:
        return iter(())
    spoken, finals = _products(run_dir)
    return retention.decide(
        checkpoints,
        rule_of(experiment, planned.run.task),
        done=planned.status is Status.DONE and not planned.gone,
        active=planned.status is Status.ACTIVE,
        products={c.path for c in checkpoints if _protected(c.path, spoken | inputs)},
        finals={c.path for c in checkpoints if _protected(c.path, finals)},
        whole=lambda path: files.torn(Path(path)) is None,
    )


def _checkpoints(run_dir: Path, run: str) -> Iterator[Checkpoint]:
    """Regular files with a checkpoint's name in the work_dirs of a run; no link is followed, so that nothing
    outside is ever reached (an adopted result is a folder of links)."""
    for number in _attempts(run_dir):
        folder = RunFolder(run_dir).attempt(number)
        digest = _digest(folder)
        for entry in _entries(folder.work_dir):
            if retention.place(entry.name) is None or not entry.is_file(follow_symlinks=False):
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Checkpoint(
                run=run,
                attempt=number,
                digest=digest,
                path=entry.path,
                size=seen.st_blocks * 512,
                inode=(seen.st_dev, seen.st_ino),
                links=seen.st_nlink,
            )


def _attempts(run_dir: Path) -> list[int]:
    if run_dir.is_symlink():
        return []
    attempts = _entries(RunFolder(run_dir).attempts)
    return sorted(int(e.name) for e in attempts if e.name.isdecimal() and _is_folder(e))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; nothing if it is not there or only a link to one."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return []
        return list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


class _Identity(Frozen, frozen=True, kw_only=True):
    digest: str = ""


def _digest(attempt: AttemptFolder) -> str:
    try:
        return msgspec.json.decode(attempt.run.read_bytes(), type=_Identity).digest
    except (OSError, msgspec.MsgspecError):
        return ""


def _products(run_dir: Path) -> tuple[frozenset[str], frozenset[str]]:
    """(paths of what speaks for the run, paths of what any attempt of it brought to its end)."""
    speaks = [run_dir / path for path in _artifacts(evidence.product(run_dir))]
    speaks += [Path(entry.path) for entry in _entries(RunFolder(run_dir).artifacts)]
    ended = [
        run_dir / path
        for number in _attempts(run_dir)
        for path in _artifacts(evidence.product(RunFolder(run_dir).attempt(number).path))
    ]
    return frozenset(map(os.path.realpath, speaks)), frozenset(map(os.path.realpath, ended))


def _artifacts(product: Product | None) -> list[str]:
    return list(product.artifacts.values()) if product is not None else []


def input_paths(project: Path, inputs: Iterable[tuple[str, Input]]) -> Iterator[str]:
    """Yield the real paths of the files that inputs name by path: some may lie among the results."""
    for _, value in inputs:
        if value.path:
            yield os.path.realpath(project / Path(os.path.expandvars(value.path)).expanduser())


def _protected(path: str, kept: frozenset[str]) -> bool:
    """Return whether a file is one of these, or lies in a folder that is."""
    real = Path(os.path.realpath(path))
    return any(str(place) in kept for place in (real, *real.parents))
