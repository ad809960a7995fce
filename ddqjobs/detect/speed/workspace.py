"""Products of matrices that do not read ``CUBLAS_WORKSPACE_CONFIG`` each time.

A deterministic training sets that variable. As long as it is set, torch 2.11 parses it with a regular
expression in every product, for 40 to 190 microseconds of the host: 600 products of an iteration of DDQ DETR.
It asks for the variable only before the first product, and gives each handle and stream a workspace of its
own, which is what makes products repeat. On GPUs of capability 9.0 its own size for one is the variable's
too, so there the variable can go once it has been seen.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

_VARIABLE, _VALUE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
_SAME_SIZE = (9, 0)


@HOOKS.register_module(force=True)
class WorkspaceHook(Hook):  # type: ignore[misc]
    """Calls :func:`forget` before a training and before a test."""

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """See :func:`forget`."""
        del runner
        forget()

    def before_test(self, runner: Any) -> None:
        """See :func:`forget`."""
        del runner
        forget()


def forget() -> None:
    """Take the variable out of this process's environment where torch needs it no longer."""
    if os.environ.get(_VARIABLE) != _VALUE or not torch.cuda.is_available():
        return
    if torch.cuda.get_device_capability() != _SAME_SIZE:
        return
    one = torch.zeros(1, 1, device="cuda")
    torch.mm(one, one)  # torch looks for it
    del os.environ[_VARIABLE]
    try:
        torch.mm(one, one)
    except RuntimeError:  # a torch that looks for it each time
        os.environ[_VARIABLE] = _VALUE
