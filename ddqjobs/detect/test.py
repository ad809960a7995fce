"""Tests a checkpoint with mmengine's runner.

    python -m ddqjobs.detect.test CONFIG CHECKPOINT --work-dir W [--cfg-options k=v ...]

Leaves mmengine's log with the metrics, and ``W/predictions.npz`` (:mod:`ddqjobs.detect.hooks.predictions`).
Exit code 2 for a checkpoint that cannot be loaded or lacks weights of the model: mmengine would test the
model with some weights at random and say so in a warning only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Sequence

from . import check, runtime
from .training import numerics


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.test", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    runtime.set_up()
    try:
        test(args.config, args.checkpoint, args.work_dir, args.cfg_options)
    except (runtime.CannotLoad, FileNotFoundError) as error:
        print(f"test: {error}", file=sys.stderr)
        return 2
    return 0


def test(config: str, checkpoint: Path, work_dir: Path, options: Sequence[str]) -> None:
    """Run the test. Raises CannotLoad for a checkpoint that does not fill the model."""
    from mmengine.runner import Runner

    from .hooks import predictions  # noqa: F401  (registers PredictionsHook)

    cfg = check.load(config, options)
    try:
        numerics.prepare(cfg)
    except ValueError as error:
        raise runtime.CannotLoad(str(error)) from error
    cfg.work_dir, cfg.load_from, cfg.resume = str(work_dir), str(checkpoint), False
    hooks = list(cfg.get("custom_hooks") or [])
    cfg.custom_hooks = [*hooks, {"type": "PredictionsHook", "path": str(work_dir / "predictions.npz")}]
    state = runtime.load_checkpoint(checkpoint)
    runner = Runner.from_cfg(cfg)
    missing = sorted(set(runner.model.state_dict()) - set(state.get("state_dict", state)))
    if missing:
        raise runtime.CannotLoad(f"{checkpoint} lacks {len(missing)} weights of the model, e.g. {missing[0]}")
    runner.test()


test.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test function

if __name__ == "__main__":
    sys.exit(main())
