"""Few, large copies between the host and a GPU. On the CPU all of it is free."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor


class Constants:
    """Within it, :func:`put` returns for the same values the same tensor: a CUDA graph would copy them again
    from memory of the host that has other owners by then."""

    active: Constants | None = None

    def __init__(self) -> None:
        self.tensors: dict[Any, Tensor] = {}

    def __enter__(self) -> None:
        Constants.active = self

    def __exit__(self, *_: object) -> None:
        Constants.active = None


def put(values: Any, dtype: torch.dtype, device: Any) -> Tensor:
    """A tensor of host values (lists, NumPy arrays) on ``device``, without waiting for the device."""
    if Constants.active is None:
        return _put(values, dtype, device)
    tensors, key = Constants.active.tensors, (str(values), dtype, device)
    if key not in tensors:
        tensors[key] = _put(values, dtype, device)
    return tensors[key]


def _put(values: Any, dtype: torch.dtype, device: Any) -> Tensor:
    tensor = torch.as_tensor(values, dtype=dtype)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fetch(tensors: Sequence[Tensor]) -> list[Any]:
    """NumPy arrays of float32 tensors, brought over in one copy: the host waits once."""
    flat = torch.cat([t.detach().reshape(-1).float() for t in tensors]).cpu()
    parts = flat.split([t.numel() for t in tensors])
    return [part.view(t.shape).numpy() for part, t in zip(parts, tensors)]


class Later:
    """Single numbers on their way to the host, in one copy that only :meth:`read` waits for."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.stack([t.detach().reshape(()) for t in tensors])
        self._event: Any = None
        if not flat.is_cuda:
            self._numbers = flat
            return
        self._numbers = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        self._numbers.copy_(flat, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def read(self) -> Sequence[Tensor]:
        """The numbers, tensors on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        numbers: Sequence[Tensor] = self._numbers.unbind()
        return numbers


def everywhere(flag: bool, device: Any) -> bool:
    """Return whether ``flag`` holds in every process of the training."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return flag
    if torch.distributed.get_world_size() == 1:
        return flag
    all_of_them = put([float(flag)], torch.float32, device)
    torch.distributed.all_reduce(all_of_them, torch.distributed.ReduceOp.MIN)
    return bool(all_of_them.item())


def over(sums: Tensor, value: Tensor) -> Tensor:
    """``sums / value.item()`` to the last bit, without asking for the item.

    On a GPU torch divides by a number by multiplying with its reciprocal.
    """
    return sums * value.reciprocal() if sums.is_cuda else sums / value


def sums(rows: Tensor, starts: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """(n,) the sum of ``rows[start : start + length]`` for each part, as if it were a tensor of its own.

    How a GPU adds up depends on the shape and on whether the data begin at a multiple of 16 bytes.
    """
    totals = []
    for start, length in zip(starts, lengths):
        part = rows[start : start + length]
        if part.is_cuda and part.data_ptr() % 16:
            part = part.clone()
        totals.append(part.sum())
    return torch.stack(totals)


class Take(torch.autograd.Function):  # type: ignore[misc]
    """``rows[index]`` where no row that has a gradient is taken twice.

    ``inverse`` (one per row of ``rows``) is where each row went, or the length of the index if nowhere: so
    the backward pass looks up too, instead of adding to memory in an order that the GPU chooses.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        """(len(index), ...) of (n, ...)."""
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rows."""
        (inverse,) = ctx.saved_tensors
        padded = torch.cat([grad, grad.new_zeros(1, *grad.shape[1:])])
        return padded.index_select(0, inverse), None, None
