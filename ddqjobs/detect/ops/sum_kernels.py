"""Single numbers added up one after the other in one launch: the order, and so the bits, of Python's sum."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .device import on_its_device


@triton.jit(do_not_specialize=["count"])
def sum_kernel(values, marks, sums, count):
    """A mark is 0 within a group, 1 at its end, 2 at the end of one that counts for the total, the first of
    the sums; those of the groups follow."""
    total = tl.zeros((), tl.float32)
    group = tl.zeros((), tl.float32)
    number = 1
    for at in range(count):
        mark = tl.load(marks + at)
        group = group + tl.load(values + at)
        total = tl.where(mark == 2, total + group, total)
        tl.store(sums + number, group, mark > 0)
        number += tl.where(mark > 0, 1, 0)
        group = tl.where(mark > 0, 0.0, group)
    tl.store(sums, total)


class Sums(torch.autograd.Function):  # type: ignore[misc]
    """The total (), and without gradient the sums of all groups, the total first: values and marks (n,)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, marks: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """``counted`` (n,) is 1 for values whose group counts, else 0."""
        ctx.save_for_backward(counted)
        sums = _sums(values, marks)
        ctx.mark_non_differentiable(sums)
        return sums[0].clone(), sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of each value."""
        (counted,) = ctx.saved_tensors
        return grad * counted, None, None


@on_its_device
def _sums(values: Tensor, marks: Tensor) -> Tensor:
    sums = torch.zeros(len(marks) + 1, dtype=torch.float32, device=values.device)
    sum_kernel[(1,)](values, marks, sums, len(marks), num_warps=1)
    return sums
