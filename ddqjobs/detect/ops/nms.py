"""Greedy non-maximum suppression by the rule of mmcv 2.1.0, ``ops/csrc/pytorch/cpu/nms.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_ROWS = 256  # boxes whose overlaps with all later ones are computed at once


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes that stay, by falling score.

    Args:
        bboxes: (n, 4) float, xyxy in pixels.
        scores: (n,) float.
        iou_threshold: a box goes if it overlaps a better one that stayed by more (strictly) than this.
        offset: 0, or 1 where x2 and y2 are the last pixel inside (mmdet 1.x).

    Returns:
        (k,) int64 on the device of ``bboxes``. Ties in score keep the order of ``torch.sort``, which is
        what mmcv's own operator uses. An overlap of NaN (two boxes without area) suppresses nothing.
    """
    if bboxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=bboxes.device)
    order = scores.sort(0, descending=True)[1]
    boxes = bboxes.detach()[order].float().cpu().numpy()
    keep = _greedy(boxes, np.float32(iou_threshold), np.float32(offset))
    return order[torch.from_numpy(keep).to(order.device)]


def _greedy(boxes: np.ndarray, threshold: np.float32, offset: np.float32) -> Any:
    """Mask of the sorted boxes that stay. All in float32, in mmcv's order of operations."""
    alive: Any = np.ones(len(boxes), dtype=bool)
    for start in range(0, len(boxes), _ROWS):
        rows: Any = np.flatnonzero(alive[start : start + _ROWS]) + start
        if not len(rows):
            continue
        over = _overlap(boxes[rows], boxes[start:], offset) > threshold
        for row, hit in zip(rows, over):
            if alive[row]:
                later = row + 1
                alive[later:] &= ~hit[later - start :]
    return alive


def _overlap(a: np.ndarray, b: np.ndarray, offset: np.float32) -> Any:
    """(n, m) intersection over union of (n, 4) and (m, 4) boxes."""
    with np.errstate(all="ignore"):
        area_a, area_b = _area(a, offset), _area(b, offset)
        low = np.maximum(a[:, None, :2], b[None, :, :2])
        high = np.minimum(a[:, None, 2:], b[None, :, 2:])
        size = np.maximum(np.float32(0), high - low + offset)
        inter = size[..., 0] * size[..., 1]
        overlap: Any = inter / (area_a[:, None] + area_b[None] - inter)
    return overlap


def _area(boxes: np.ndarray, offset: np.float32) -> Any:
    area: Any = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    return area
