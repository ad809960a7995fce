"""Sigmoid focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017), mmcv's signatures.

In torch, for any device; :mod:`.focal_kernels` does the same in one kernel on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1.1754943508222875e-38  # FLT_MIN: logarithms stop here, as in mmcv


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (n, classes) with the loss of each logit of ``input`` (n, classes).

    Args:
        target: (n,) int64 classes; the number of classes means background.
        weight: (classes,) by which the losses of a row are multiplied, or empty.
    """
    probability, positive = _parts(input, target)
    good = (1 - probability).pow(gamma) * probability.clamp(min=_SMALLEST).log()
    bad = probability.pow(gamma) * (1 - probability).clamp(min=_SMALLEST).log()
    output.copy_(_weighted(torch.where(positive, -alpha * good, -(1 - alpha) * bad), target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` with the derivative of each loss by its logit. Arguments as above."""
    probability, positive = _parts(input, target)
    log_good = probability.clamp(min=_SMALLEST).log()
    log_bad = (1 - probability).clamp(min=_SMALLEST).log()
    good = (1 - probability).pow(gamma) * (1 - probability - gamma * probability * log_good)
    bad = probability.pow(gamma) * (gamma * (1 - probability) * log_bad - probability)
    grad_input.copy_(_weighted(torch.where(positive, -alpha * good, -(1 - alpha) * bad), target, weight))


def _parts(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    classes = torch.arange(input.shape[1], device=input.device)
    return input.sigmoid(), target[:, None] == classes


def _weighted(loss: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    if not weight.numel():
        return loss
    return loss * torch.cat([weight, weight.new_zeros(1)])[target][:, None]
