"""Sigmoid focal loss in one Triton kernel each way; see :mod:`.focal_loss`. Modern torch only."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import focal_loss
from .device import on_its_device

_BLOCK = 1024


@triton.jit
def loss_kernel(
    logits,
    target,
    out,
    total,
    classes,
    alpha,
    gamma: tl.constexpr,
    smallest: tl.constexpr,
    backward: tl.constexpr,
    block: tl.constexpr,
):
    """The loss of each logit, or its derivative."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < total
    logit = tl.load(logits + at, inside, 0.0).to(tl.float32)
    positive = tl.load(target + at // classes, inside, -1) == at % classes
    good = tl.div_rn(1.0 + logit * 0, 1.0 + tl.exp(-logit))
    bad = 1.0 - good
    log_good = tl.log(tl.maximum(good, smallest))
    log_bad = tl.log(tl.maximum(bad, smallest))
    if gamma == 2.0:
        good_power, bad_power = good * good, bad * bad
    else:
        good_power, bad_power = tl.exp(gamma * log_good), tl.exp(gamma * log_bad)
    if backward:
        yes = bad_power * (bad - gamma * good * log_good)
        no = good_power * (gamma * bad * log_bad - good)
    else:
        yes = bad_power * log_good
        no = good_power * log_bad
    tl.store(out + at, tl.where(positive, -alpha * yes, (alpha - 1.0) * no), inside)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """:func:`.focal_loss.sigmoid_focal_loss_forward`."""
    if weight.numel() or not input.is_contiguous():
        return focal_loss.sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha)
    return _launch(input, target, output, gamma, alpha, False)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """:func:`.focal_loss.sigmoid_focal_loss_backward`."""
    if weight.numel() or not input.is_contiguous():
        return focal_loss.sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha)
    return _launch(input, target, grad_input, gamma, alpha, True)


@on_its_device
def _launch(input: Tensor, target: Tensor, out: Tensor, gamma: float, alpha: float, backward: bool) -> None:
    if input.numel():
        loss_kernel[(triton.cdiv(input.numel(), _BLOCK),)](
            input,
            target.contiguous(),
            out,
            input.numel(),
            input.shape[1],
            alpha,
            gamma,
            focal_loss._SMALLEST,
            backward,
            _BLOCK,
        )
