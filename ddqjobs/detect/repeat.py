"""Whether a training repeats: its first iterations twice, each in a process of its own, compared bit by bit.

    python -m ddqjobs.detect.repeat CONFIG --iterations N --work-dir W --out align.json [--cfg-options k=v]

Writes what ``ddqjobs.detect.align losses`` writes, of every loss and gradient norm, plus ``repeat: true``.
Exit code 0 whether or not the two are equal, 2 for inputs that cannot be used, 1 if a training fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

from . import align, files, logs, stopping

OPTIONS = ("default_hooks.logger.interval=1", "log_processor.window_size=1")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.repeat", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    if args.iterations < 1:
        print("repeat: --iterations: at least 1", file=sys.stderr)
        return 2
    folders = [args.work_dir / name for name in ("first", "second")]
    for folder in folders:
        options = [*args.cfg_options, *OPTIONS, f"work_dir={folder}"]
        code = subprocess.run(
            [sys.executable, "-c", _CHILD, args.config, str(args.iterations), *options]
        ).returncode
        if code != stopping.EXIT_CODE:
            print(f"repeat: the training ended with exit code {code}: see its output above", file=sys.stderr)
            return 2 if code == 2 else 1
    result: dict[str, Any] = {**align.losses(*(logs.read(f) for f in folders)), "repeat": True}
    files.replace_json(args.out, align._plain(result))
    done = result["metrics"]["iterations"]
    first = result["metrics"]["first_difference"]
    print(
        f"repeat: bit-equal over {done} iterations"
        if result["bit_equal"]
        else f"repeat: differs from {first} on"
    )
    return 0


_CHILD = "import sys; from ddqjobs.detect import repeat; sys.exit(repeat.child(sys.argv[1:]))"


def child(argv: Sequence[str]) -> int:
    """One of the two trainings: config, iterations, options; the seed must be among them or in the config."""
    from . import runtime

    runtime.set_up()
    from .hooks import epoch_seed, stop_after  # noqa: F401  (registers them)

    config, iterations, options = argv[0], int(argv[1]), argv[2:]
    try:
        cfg = runtime.load_config(config, options)
        if (cfg.get("randomness") or {}).get("seed") is None:
            raise ValueError("a training repeats only with a seed: --cfg-options randomness.seed=7")
        runtime.prepare(cfg)
    except (ValueError, FileNotFoundError) as error:
        print(f"repeat: {error}", file=sys.stderr)
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
        return stopping.EXIT_CODE
    print(f"repeat: the schedule ended before iteration {iterations}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
