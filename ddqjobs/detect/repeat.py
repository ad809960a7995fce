"""Test whether a training repeats: run its first iterations twice, each in a process of its own.

:mod:`ddqjobs.detect.align` compares the two. Where a launcher has started several processes, each of them
starts its part of the training, and the first one speaks for all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

from .job import exit_codes, stopping
from .training import distributed

OPTIONS = ("default_hooks.logger.interval=1", "log_processor.window_size=1")
NAMES = ("first", "second")


class CannotRepeat(ValueError):
    """One of the two trainings was not had; one line, and the exit code that fits it."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


def twice(config: str, iterations: int, work_dir: Path, options: Sequence[str]) -> list[Path]:
    """Train twice for some iterations; the two work_dirs, whose logs have every iteration.

    Raises CannotRepeat.
    """
    if iterations < 1:
        raise CannotRepeat("--iterations: at least 1", 2)
    folders = [work_dir / name for name in NAMES]
    for number, folder in enumerate(folders):
        arguments = [config, str(iterations), *options, *OPTIONS, f"work_dir={folder}"]
        code = subprocess.run([sys.executable, "-c", _CHILD, *arguments], env=_variables(number)).returncode
        if code != exit_codes.STOPPED:
            why = f"the {NAMES[number]} training ended with exit code {code}: see its output above"
            raise CannotRepeat(why, 2 if code == 2 else 1)
    return folders


def _variables(number: int) -> dict[str, str]:
    """The environment of training ``number``. Its processes meet at a port of their own: the launcher's has
    the launcher's keys, and the other training's."""
    variables = dict(os.environ)
    if distributed.world_size() > 1:
        variables.pop("TORCHELASTIC_USE_AGENT_STORE", None)
        variables["MASTER_PORT"] = str(int(variables["MASTER_PORT"]) + 1 + number)
    return variables


_CHILD = """
import sys
from ddqjobs.detect import repeat; from ddqjobs.detect.training import distributed
distributed.finish(repeat.child(sys.argv[1:]))
"""


def child(argv: Sequence[str]) -> int:
    """One of the two trainings: config, iterations, options; the seed must be among them or in the config."""
    from . import runtime

    runtime.set_up()
    from .hooks import epoch_seed, stop_after  # noqa: F401  (registers them)
    from .training import numerics

    config, iterations, options = argv[0], int(argv[1]), argv[2:]
    try:
        cfg = runtime.load_config(config, options)
        if (cfg.get("randomness") or {}).get("seed") is None:
            raise ValueError("a training repeats only with a seed: --cfg-options randomness.seed=7")
        distributed.adapt(cfg)
        numerics.prepare(cfg)
    except (ValueError, FileNotFoundError) as error:
        print(f"align: {error}", file=sys.stderr)
        return 2
    hooks: list[Any] = list(cfg.get("custom_hooks") or [])
    cfg.custom_hooks = [
        *hooks,
        {"type": "EpochSeedHook"},
        {"type": "StopAfterHook", "iterations": iterations},
    ]
    from mmengine.runner import Runner

    try:
        Runner.from_cfg(cfg).train()
    except stopping.Stopped:
        return exit_codes.STOPPED
    print(f"align: the schedule ended before iteration {iterations}", file=sys.stderr)
    return 2
