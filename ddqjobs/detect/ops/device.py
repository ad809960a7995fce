"""Kernels run where their tensors are."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

import torch

_Result = TypeVar("_Result")


def on_its_device(launch: Callable[..., _Result]) -> Callable[..., _Result]:
    """A function that launches kernels, on the GPU of its first tensor: Triton takes the current one."""

    @functools.wraps(launch)
    def launched(first: Any, *args: Any, **kwargs: Any) -> _Result:
        if not first.is_cuda or first.device.index == torch.cuda.current_device():
            return launch(first, *args, **kwargs)
        with torch.cuda.device(first.device):
            return launch(first, *args, **kwargs)

    return launched
