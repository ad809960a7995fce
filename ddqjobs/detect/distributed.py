"""What a configuration needs where several processes train together, started by a launcher."""

from __future__ import annotations

import os
from typing import Any


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


def leave() -> None:
    """Takes this process out of its group: to be called by all, at a good end, with nothing left to say.

    A process that exits with its group in place can be aborted on its way out, with its work done
    (``terminate called without an active exception``: torch's threads are still there), and its launcher
    then says that the training failed. No effect without a group.
    """
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
