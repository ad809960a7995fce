"""Greedy suppression for a batch of images that says which boxes stay without asking how many."""

from __future__ import annotations

import torch
from torch import Tensor

from . import nms


def distinct(
    boxes: Tensor, scores: Tensor, threshold: float, most: int, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """mmcv's ``batched_nms`` of one class for each image.

    Args:
        boxes: (b, n, 4) float32, xyxy.
        scores: (b, n) float32. On a GPU equal scores keep the order of the boxes.
        threshold: a box goes if it overlaps a better one that stayed by more (strictly) than this.
        most: stop when so many stay.
        valid: (b, n) bool, the boxes that take part; all if not given.

    Returns:
        (b, n) bool, which boxes stay, and (b, most) int64, their indices by falling score, filled up with -1.
    """
    boxes, scores = boxes.detach().float(), scores.detach().float()
    if valid is None:
        highest = boxes.amax((1, 2))
        alive = torch.full((len(boxes),), boxes.shape[1], dtype=torch.int32, device=boxes.device)
    else:
        highest = torch.where(valid[..., None], boxes, -torch.inf).amax((1, 2))
        scores = torch.where(valid, scores, -torch.inf)
        alive = valid.sum(1, dtype=torch.int32)
    # batched_nms moves the boxes of each class away from the others'; that rounds their coordinates.
    moved = boxes + (highest + 1)[:, None, None]
    if not boxes.is_cuda:
        return _on_cpu(moved, scores, threshold, most, valid)
    from .nms_kernels import keep_sorted

    order = scores.sort(dim=1, descending=True, stable=True)[1]
    image = torch.arange(len(boxes), device=boxes.device)[:, None]
    return keep_sorted(moved[image, order], order, alive, threshold, 0, most)


def _on_cpu(
    boxes: Tensor, scores: Tensor, threshold: float, most: int, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    keep = torch.zeros(scores.shape, dtype=torch.bool)
    first = torch.full((len(boxes), most), -1, dtype=torch.long)
    for image in range(len(boxes)):
        number = torch.arange(scores.shape[1]) if valid is None else valid[image].nonzero()[:, 0]
        survivors = number[nms.nms(boxes[image, number], scores[image, number], threshold)][:most]
        keep[image, survivors] = True
        first[image, : len(survivors)] = survivors
    return keep, first
