"""Rows of a table by their numbers, and back: a launch each way, on a GPU without sorting."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .device import on_its_device

_ROWS = 16


@triton.jit(do_not_specialize=["count"])
def move_kernel(
    source, index, target, count, columns, padded: tl.constexpr, rows: tl.constexpr, back: tl.constexpr
):
    """Write row ``index[i]`` of the source to row i of the target, zeros for -1; or, ``back``, row i of the
    source to row ``index[i]`` of the target, nothing for -1."""
    row, column = tl.program_id(0) * rows + tl.arange(0, rows), tl.arange(0, padded)
    number = tl.load(index + row, row < count, -1)
    known = (number >= 0)[:, None] & (column < columns)[None, :]
    here, there = row.to(tl.int64)[:, None] * columns, number.to(tl.int64)[:, None] * columns
    if back:
        tl.store(
            target + there + column[None, :], tl.load(source + here + column[None, :], known, 0.0), known
        )
    else:
        value = tl.load(source + there + column[None, :], known, 0.0)
        tl.store(target + here + column[None, :], value, (row < count)[:, None] & (column < columns)[None, :])


@on_its_device
def _move(source: Tensor, index: Tensor, target: Tensor, back: bool) -> Tensor:
    if index.numel() and target.numel():
        padded = triton.next_power_of_2(source.shape[1])
        grid = (triton.cdiv(len(index), _ROWS),)
        move_kernel[grid](source, index, target, len(index), source.shape[1], padded, _ROWS, back)
    return target


class Rows(torch.autograd.Function):  # type: ignore[misc]
    """``table[index]``, zeros where the index is -1; no other row may be taken twice."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        """(len(index), columns) of (n, columns)."""
        ctx.save_for_backward(index)
        ctx.count = len(table)
        return _move(table.contiguous(), index, table.new_empty(len(index), table.shape[1]), False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient of the table."""
        (index,) = ctx.saved_tensors
        return _move(grad.contiguous(), index, grad.new_zeros(ctx.count, grad.shape[1]), True), None
