"""Losses added up in one launch, and for the log in one copy, made while the GPU goes on."""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor

from . import host


class LogsOnce:
    """For a detector: what ``train_step`` returns is on the host. Its copy begins before the backward pass,
    so reading it waits for the forward pass only."""

    _logged: Any = None
    _marks: Any = None

    def parse_losses(self, losses: Any) -> tuple[Any, dict[str, Any]]:
        """As mmengine's."""
        if _at_once(losses):
            total, log = self._added(losses)
        else:
            total, log = super().parse_losses(losses)  # type: ignore[misc]
        self._logged = host.Later(list(log.values()))
        return total, log

    def _added(self, losses: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        from ddqjobs.detect.ops.sum_kernels import Sums

        groups = {name: [v] if isinstance(v, Tensor) else list(v) for name, v in losses.items()}
        values = torch.stack([value for group in groups.values() for value in group])
        layout = tuple((name, len(group)) for name, group in groups.items())
        if self._marks is None or self._marks[0] != layout:
            marks = [m for name, size in layout for m in [0] * (size - 1) + [2 if "loss" in name else 1]]
            counted = [float("loss" in name) for name, size in layout for _ in range(size)]
            known = (
                host.put(marks, torch.int32, values.device),
                host.put(counted, values.dtype, values.device),
            )
            self._marks = layout, *known
        total, sums = Sums.apply(values, *self._marks[1:])
        return total, dict(zip(("loss", *groups), sums.unbind()))

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        """As mmengine's, with tensors on the CPU."""
        log = super().train_step(data, optim_wrapper)  # type: ignore[misc]
        logged, self._logged = self._logged, None
        return dict(zip(log, logged.read()))


def _at_once(losses: Mapping[str, Any]) -> bool:
    """Return whether all losses are single float32 numbers on a GPU, and this process is the only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    values = [v for loss in losses.values() for v in (loss if isinstance(loss, list) else [loss])]
    return all(v.is_cuda and v.dim() == 0 and v.dtype == torch.float32 for v in values)
