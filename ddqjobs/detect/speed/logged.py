"""Losses for the log in one copy, made while the GPU goes on."""

from __future__ import annotations

from typing import Any

from . import host


class LogsOnce:
    """For a detector: what ``train_step`` returns is on the host. Its copy begins before the backward pass,
    so reading it waits for the forward pass only."""

    _logged: Any = None

    def parse_losses(self, losses: Any) -> tuple[Any, dict[str, Any]]:
        """As mmengine's."""
        total, log = super().parse_losses(losses)  # type: ignore[misc]
        self._logged = host.Later(list(log.values()))
        return total, log

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        """As mmengine's, with tensors on the CPU."""
        log = super().train_step(data, optim_wrapper)  # type: ignore[misc]
        logged, self._logged = self._logged, None
        return dict(zip(log, logged.read()))
