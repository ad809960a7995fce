"""Trains a detector with mmengine's runner.

    python -m ddqjobs.detect.train CONFIG --work-dir W [--init CKPT] [--cfg-options k=v ...]

Exit code 0 when the training is over, 75 when it ended early because ``$DDQJOBS_STOP`` appeared or the claim
was lost, 2 for inputs that cannot be used. A whole checkpoint of an earlier attempt of the same run is taken
over and the training goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Sequence

from . import claim, files, runtime

STOPPED = 75  # EX_TEMPFAIL of sysexits.h
HOOKS = ("EpochSeedHook", "MissedValidationHook", "StopFileHook")
_CHECKPOINT = re.compile(r"^epoch_(\d+)\.pth$")
_STAMP = re.compile(r"^\d{8}_\d{6}$")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.train", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="initial state for every weight of the model")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    runtime.set_up()
    try:
        return train(args.config, args.work_dir, args.init, args.cfg_options)
    except (runtime.CannotLoad, FileNotFoundError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2


def train(config: str, work_dir: Path, init: Path | None, options: Sequence[str]) -> int:
    """Train to the end of the schedule; 0, or 75 if stopped."""
    from .hooks import epoch_seed, initial_state, stop, validate  # noqa: F401  (registers them)

    cfg = runtime.load_config(config, options)
    try:
        runtime.prepare(cfg)
    except ValueError as error:
        raise runtime.CannotLoad(str(error)) from error
    work_dir.mkdir(parents=True, exist_ok=True)
    resume = take_over(claim.from_environment(), work_dir)
    _adapt(cfg, work_dir, resume)
    if init is not None and resume is None:
        cfg.custom_hooks.append({"type": "InitialStateHook", "path": str(init)})
    from mmengine.runner import Runner

    try:
        Runner.from_cfg(cfg).train()
    except stop.Stopped as stopped:
        print(f"train: stopped: {stopped}", flush=True)
        return STOPPED
    return 0


def take_over(job: claim.Job, work_dir: Path) -> Path | None:
    """Newest whole epoch checkpoint in ``work_dir``, brought there from an earlier attempt if need be.

    Only from attempts of the same digest: what another configuration, code or seed has trained would make
    this run something else. The earlier attempts' logs come along, so that the work_dir tells of the whole
    training.
    """
    found = _newest(work_dir)
    if found is not None or job.run_dir is None:
        return found
    for number in reversed([n for n in claim.attempts(job.run_dir) if n < job.attempt]):
        earlier = job.run_dir / "attempts" / str(number) / "work_dir"
        checkpoint = _newest(earlier)
        if checkpoint is None:
            continue
        if _digest(job.run_dir, number) != _digest(job.run_dir, job.attempt):
            print(f"train: attempt {number} had another digest: its checkpoints are not used", flush=True)
            continue
        _copy_logs(earlier, work_dir)
        target = work_dir / checkpoint.name
        link_or_copy(checkpoint, target)
        return target
    return None


def _digest(run_dir: Path, attempt: int) -> str:
    """What decides an attempt's result, as its run.json says; empty where there is none (outside of jobs)."""
    try:
        run = json.loads((run_dir / "attempts" / str(attempt) / "run.json").read_text(encoding="utf-8"))
        return str(run.get("digest", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link, or a copy where the file system has none."""
    try:
        os.link(str(source), str(target))
    except OSError:
        files.replace(target, lambda temporary: (shutil.copyfile(str(source), str(temporary)), None)[1])


def _newest(work_dir: Path) -> Path | None:
    """The whole checkpoint of the latest epoch."""
    matches = [(_CHECKPOINT.match(p.name), p) for p in work_dir.glob("epoch_*.pth")]
    for _, path in sorted(((int(m.group(1)), p) for m, p in matches if m), reverse=True):
        if files.torn(path) is None:
            return path
    return None


def _copy_logs(source: Path, target: Path) -> None:
    """Time-stamped log folders, copied: the earlier attempt may still be writing."""
    for folder in sorted(source.iterdir()):
        if _STAMP.match(folder.name) and folder.is_dir() and not (target / folder.name).exists():
            shutil.copytree(str(folder), str(target / folder.name), symlinks=True)


def _adapt(cfg: Any, work_dir: Path, resume: Path | None) -> None:
    """Work_dir, seed, hooks and what to resume from."""
    cfg.work_dir = str(work_dir)
    hooks: list[Any] = list(cfg.get("custom_hooks") or [])
    present = [h.get("type") for h in hooks]
    cfg.custom_hooks = hooks + [{"type": name} for name in HOOKS if name not in present]
    randomness = dict(cfg.get("randomness") or {})
    if resume is not None:
        # mmengine restores the seed after it has built the sampler with another one.
        seed = runtime.load_checkpoint(resume).get("meta", {}).get("seed")
        randomness["seed"] = seed if seed is not None else randomness.get("seed")
        cfg.load_from, cfg.resume = str(resume), True
    if randomness.get("seed") is None:
        randomness["seed"] = random.SystemRandom().randrange(1 << 31)
    cfg.randomness = randomness


if __name__ == "__main__":
    sys.exit(main())
