"""Complete a configuration where several processes train together, started by a launcher."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Any, Callable, NoReturn


def world_size() -> int:
    """Number of processes that a launcher has started this one with; 1 without a launcher."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdigit() else 1


def rank() -> int:
    """This process's number among them; 0 without a launcher."""
    text = os.environ.get("RANK", "")
    return int(text) if world_size() > 1 and text.isdigit() else 0


def adapt(cfg: Any) -> None:
    """Makes a configuration use its launcher's processes; on the CPU through gloo. No effect on a single one.

    mmengine selects a CUDA device even where there is none, and names one to DDP: both fail on a CPU build.
    """
    if world_size() < 2:
        return
    import torch

    cfg.launcher = "pytorch"
    if torch.cuda.is_available():
        return
    environment = dict(cfg.get("env_cfg") or {})
    environment["dist_cfg"] = {"backend": "gloo"}
    cfg.env_cfg = environment
    cfg.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None}
    torch.cuda.set_device = lambda *_: None


def finish(code: int) -> NoReturn:
    """Ends the program with this exit code: the last thing that it calls.

    A process of several ends without taking its interpreter down. torch keeps the threads of a process group
    until then (destroying it does not end them once a DDP model has used it), and one that still lets go of a
    tensor aborts the process, with all its work done: ``terminate called without an active exception``; its
    launcher then says that the training failed.
    """
    if world_size() < 2:
        sys.exit(code)
    steps: list[Callable[[], object]] = [_leave_group] if code == 0 else []  # else others may not come here
    # What the interpreter would do before it takes itself down; the first waits for threads that must end by
    # themselves.
    steps += [threading._shutdown, atexit._run_exitfuncs]  # type: ignore[attr-defined]
    for step in steps:
        try:
            step()
        except BaseException as error:  # the work is done all the same
            print(f"{type(error).__name__} at the end: {error}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, broken, closed
            stream.flush()
    os._exit(code)


def _leave_group() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
