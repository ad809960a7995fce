"""Trains a detector with mmengine's runner.

    python -m ddqjobs.detect.train CONFIG --work-dir W [--init CKPT] [--cfg-options k=v ...]

Exit code 0 when the training is over, 75 when it ended early because ``$DDQJOBS_STOP`` appeared or the
claim was lost, 2 for inputs that cannot be used. The newest whole checkpoint of an earlier attempt of the
same run is taken over, and the training goes on from there (docs/explanation/resume.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Sequence

from . import check, runtime
from .job import checkpoints, claim, exit_codes, stopping
from .training import distributed, numerics

HOOKS = ("EpochSeedHook", "ResumeHook", "UsageHook")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.train", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="initial state for every weight of the model")
    parser.add_argument("--iterations", type=int, help="end after so many, leaving canary.json")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    runtime.set_up()
    try:
        return train(args.config, args.work_dir, args.init, args.cfg_options, args.iterations)
    except (runtime.CannotLoad, FileNotFoundError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2


def train(
    config: str, work_dir: Path, init: Path | None, options: Sequence[str], iterations: int | None = None
) -> int:
    """Train to the end of the schedule, or for some ``iterations``; 0, or 75 if stopped."""
    from .hooks import canary, epoch_seed, initial_state, resume, usage  # noqa: F401  (registers them)
    from .training import batches

    cfg = check.load(config, options)
    distributed.adapt(cfg)
    try:
        numerics.prepare(cfg)
    except ValueError as error:
        raise runtime.CannotLoad(str(error)) from error
    work_dir.mkdir(parents=True, exist_ok=True)
    _adapt(cfg, work_dir)
    if init is not None:
        cfg.custom_hooks.append({"type": "InitialStateHook", "path": str(init)})
    if iterations is not None:
        cfg.custom_hooks.append({"type": "CanaryHook", "iterations": iterations})
    from mmengine.runner import Runner

    try:
        Runner.from_cfg(cfg).train()
    except canary.Enough as enough:
        print(f"train: {enough}", flush=True)
    except stopping.Stopped as stopped:
        print(f"train: stopped: {stopped}", flush=True)
        return exit_codes.STOPPED
    except batches.CannotPosition as error:
        raise runtime.CannotLoad(str(error)) from error
    return 0


def _adapt(cfg: Any, work_dir: Path) -> None:
    """Work_dir, hooks, and a seed that every attempt of the run has."""
    cfg.work_dir = str(work_dir)
    hooks: list[Any] = list(cfg.get("custom_hooks") or [])
    present = [h.get("type") for h in hooks]
    cfg.custom_hooks = hooks + [{"type": name} for name in HOOKS if name not in present]
    randomness = dict(cfg.get("randomness") or {})
    if randomness.get("seed") is None:
        randomness["seed"] = checkpoints.seed(claim.from_environment(), work_dir)
    cfg.randomness = randomness


if __name__ == "__main__":
    distributed.finish(main())
