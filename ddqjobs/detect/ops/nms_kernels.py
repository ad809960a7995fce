"""Greedy non-maximum suppression in Triton, by the rule of :mod:`.nms`, bit by bit. Modern torch only.

Two kernels: which boxes each box would suppress, as bits; then one program per image goes through the boxes
by falling score. Nothing waits for the host.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .device import on_its_device

_BITS = 32


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def overlap_kernel(boxes, bits, threshold, offset, count, words, rows: tl.constexpr, columns: tl.constexpr):
    """bits (images, count, words): bit j of word w of row i says that i suppresses box 32 w + j, a later
    one."""
    word, image = tl.program_id(1), tl.program_id(2)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    if (word + 1) * columns > tl.program_id(0) * rows:
        column = word * columns + tl.arange(0, columns)
        at = boxes + (image.to(tl.int64) * count + row) * 4
        to = boxes + (image.to(tl.int64) * count + column) * 4
        mine, other = row < count, column < count
        left, top = tl.load(at, mine, 0.0), tl.load(at + 1, mine, 0.0)
        right, low = tl.load(at + 2, mine, 0.0), tl.load(at + 3, mine, 0.0)
        left_2, top_2 = tl.load(to, other, 0.0), tl.load(to + 1, other, 0.0)
        right_2, low_2 = tl.load(to + 2, other, 0.0), tl.load(to + 3, other, 0.0)
        area = (right - left + offset) * (low - top + offset)
        area_2 = (right_2 - left_2 + offset) * (low_2 - top_2 + offset)
        width = (
            tl.minimum(right[:, None], right_2[None, :]) - tl.maximum(left[:, None], left_2[None, :]) + offset
        )
        height = tl.minimum(low[:, None], low_2[None, :]) - tl.maximum(top[:, None], top_2[None, :]) + offset
        inter = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
        union = area[:, None] + area_2[None, :] - inter
        over = tl.div_rn(inter, union) > threshold
        over = over & (column[None, :] > row[:, None]) & mine[:, None] & other[None, :]
        packed = tl.sum(over.to(tl.int32) << tl.arange(0, columns)[None, :], 1)
        tl.store(bits + (image.to(tl.int64) * count + row) * words + word, packed, mine)


@triton.jit
def greedy_kernel(
    bits, gone, order, keep, first, alive, count, words, most, columns: tl.constexpr, wide: tl.constexpr
):
    """Find which of the first ``alive`` boxes stay, at most ``most``, by their numbers before sorting:
    ``keep`` (images, count) and ``first`` (images, most), in order. One program per image."""
    image = tl.program_id(0).to(tl.int64)
    valid = tl.load(alive + image)
    lane = tl.arange(0, columns)
    span = tl.arange(0, wide)
    kept = 0
    for word in range(words):
        if (kept < most) & (word * columns < valid):
            row = word * columns + lane
            here = bits + (image * count + row) * words
            own = tl.load(here + word, row < count, 0)
            removed = tl.load(gone + image * words + word)
            left = 0
            earlier = kept
            for bit in tl.static_range(columns):
                free = ((removed >> bit) & 1) == 0
                free = free & (word * columns + bit < valid) & (kept < most)
                kept += free.to(tl.int32)
                left |= free.to(tl.int32) << bit
                shadow = tl.sum(tl.where(lane == bit, own, 0), 0)
                removed |= tl.where(free, shadow, 0)
            stays = ((left >> lane) & 1) == 1
            number = tl.load(order + image * count + row, row < count, 0)
            tl.store(keep + image * count + number, stays.to(tl.int8), stays)
            rank = earlier + tl.cumsum(stays.to(tl.int32), 0) - 1
            tl.store(first + image * most + rank, number, stays)
            for part in range(word // wide * wide, words, wide):
                at = part + span
                block = tl.load(
                    here[:, None] + at[None, :],
                    stays[:, None] & (at < words)[None, :] & (at > word)[None, :],
                    0,
                )
                place = gone + image * words + at
                tl.store(place, tl.load(place, at < words, 0) | tl.reduce(block, 0, _or), at < words)
            tl.debug_barrier()


@on_its_device
def keep_sorted(
    boxes: Tensor, order: Tensor, alive: Tensor, threshold: float, offset: int, most: int
) -> tuple[Tensor, Tensor]:
    """Return which boxes stay.

    Args:
        boxes: (images, n, 4) float32, xyxy, by falling score; those from ``alive`` on are left out.
        order: (images, n) int64, the number of each of these boxes before sorting.
        alive: (images,) int32, how many boxes there are.
        threshold: a box goes if it overlaps a better one that stayed by more (strictly) than this.
        offset: 0, or 1 where x2 and y2 are the last pixel inside.
        most: stop when so many stay.

    Returns:
        (images, n) bool, by number, and (images, most) int64, the numbers by falling score, then -1.
    """
    images, count = boxes.shape[:2]
    keep = torch.zeros(images, count, dtype=torch.int8, device=boxes.device)
    first = torch.full((images, most), -1, dtype=torch.long, device=boxes.device)
    if not count:
        return keep.bool(), first
    words = triton.cdiv(count, _BITS)
    # Only words at or after a row's own are ever written or read.
    bits = torch.empty(images, count, words, dtype=torch.int32, device=boxes.device)
    gone = torch.zeros(images, words, dtype=torch.int32, device=boxes.device)
    rows = 64
    overlap_kernel[(triton.cdiv(count, rows), words, images)](
        boxes.contiguous(), bits, threshold, float(offset), count, words, rows, _BITS, enable_fp_fusion=False
    )
    wide = min(triton.next_power_of_2(words), 256)
    greedy_kernel[(images,)](
        bits, gone, order.contiguous(), keep, first, alive, count, words, most, _BITS, wide, num_warps=8
    )
    return keep.bool(), first


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """:func:`ddqjobs.detect.ops.nms.nms` on a GPU."""
    if bboxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=bboxes.device)
    order = scores.sort(dim=0, descending=True, stable=True)[1]
    alive = torch.full((1,), len(order), dtype=torch.int32, device=bboxes.device)
    ranked = bboxes.detach()[order].float()[None]
    first = keep_sorted(ranked, order[None], alive, iou_threshold, offset, len(order))[1][0]
    return first[first >= 0]
