"""The pyramid shuffle of DDQ FCN (``DDQFCNHead.shuffle``) in Triton: one launch per level and direction.

On a GPU, under ``torch.use_deterministic_algorithms``, torch's bilinear resize is made of some forty
operators, whose gradients sort indices. These kernels give their bits, float32, finite numbers: the same
products and sums in the same order, no fused multiply-add.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .device import on_its_device

_BLOCK = 512
_SIZES = ["height", "width", "height_2", "width_2", "height_3", "width_3", "reach_y", "reach_x"]


@triton.jit
def source_of(position, scale, length):
    """Lower and upper pixel of a place of the resized map along one axis, and the share of the upper one."""
    place = position.to(tl.float32) * scale
    low = place.to(tl.int32)
    share = tl.minimum(tl.maximum(place - low.to(tl.float32), 0.0), 1.0)
    return low, tl.minimum(low + 1, length - 1), share


@triton.jit
def resized(plane, y, x, mask, height, width, scale_y, scale_x):
    """Values of a (height, width) map, bilinearly resized, at (y, x)."""
    top, low, by_y = source_of(y, scale_y, height)
    left, right, by_x = source_of(x, scale_x, width)
    a = tl.load(plane + top * width + left, mask, 0.0)
    b = tl.load(plane + top * width + right, mask, 0.0)
    c = tl.load(plane + low * width + left, mask, 0.0)
    d = tl.load(plane + low * width + right, mask, 0.0)
    upper = a + (b - a) * by_x
    lower = c + (d - c) * by_x
    return upper + (lower - upper) * by_y


@triton.jit(do_not_specialize=_SIZES)
def forward_kernel(
    features,
    above,
    below,
    out,
    height,
    width,
    height_2,
    width_2,
    height_3,
    width_3,
    scale_2y,
    scale_2x,
    scale_3y,
    scale_3x,
    channels: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """One program: ``block`` pixels of a channel of an image. 2 is the level above, 3 the one below."""
    plane = tl.program_id(1).to(tl.int64)
    channel, own = tl.program_id(1) % channels, channels - 2 * size
    at = tl.program_id(0) * block + tl.arange(0, block)
    mask = at < height * width
    y, x = at // width, at % width
    if channel < own:
        value = tl.load(features + plane * height * width + at, mask, 0.0)
    elif channel < own + size:
        given = above + (plane + size) * height_2 * width_2
        value = resized(given, y, x, mask, height_2, width_2, scale_2y, scale_2x)
    else:
        given = below + (plane - size) * height_3 * width_3
        value = resized(given, y, x, mask, height_3, width_3, scale_3y, scale_3x)
    tl.store(out + plane * height * width + at, value, mask)


@triton.jit
def gathered(
    grad, y, x, mask, height, width, out_height, out_width, scale_y, scale_x, reach_y, reach_x, back_y, back_x
):
    """The gradient at (y, x) of a (height, width) map for that of its resized form. Each of the four corners
    is summed up in the order of the pixels, then the corners, the last one first."""
    first_y = ((y - 1).to(tl.float32) * back_y).to(tl.int32) - 1
    first_x = ((x - 1).to(tl.float32) * back_x).to(tl.int32) - 1
    a = tl.zeros(y.shape, tl.float32)
    b = tl.zeros(y.shape, tl.float32)
    c = tl.zeros(y.shape, tl.float32)
    d = tl.zeros(y.shape, tl.float32)
    for line in range(reach_y):
        to_y = first_y + line
        top, low, by_y = source_of(to_y, scale_y, height)
        known = mask & (to_y >= 0) & (to_y < out_height) & ((top == y) | (low == y))
        for column in range(reach_x):
            to_x = first_x + column
            left, right, by_x = source_of(to_x, scale_x, width)
            here = known & (to_x >= 0) & (to_x < out_width) & ((left == x) | (right == x))
            value = tl.load(grad + to_y * out_width + to_x, here, 0.0)
            lower = value * by_y
            upper = value - lower
            lower_right = lower * by_x
            upper_right = upper * by_x
            a += tl.where(here & (top == y) & (left == x), upper - upper_right, 0.0)
            b += tl.where(here & (top == y) & (right == x), upper_right, 0.0)
            c += tl.where(here & (low == y) & (left == x), lower - lower_right, 0.0)
            d += tl.where(here & (low == y) & (right == x), lower_right, 0.0)
    return ((d + c) + b) + a


@triton.jit(do_not_specialize=[*_SIZES, "ends", "reach_3y", "reach_3x"])
def backward_kernel(
    grad,
    above,
    below,
    out,
    height,
    width,
    height_2,
    width_2,
    height_3,
    width_3,
    scale_2y,
    scale_2x,
    scale_3y,
    scale_3x,
    back_2y,
    back_2x,
    back_3y,
    back_3x,
    reach_y,
    reach_x,
    reach_3y,
    reach_3x,
    ends,
    channels: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
):
    """One program: ``block`` pixels of a channel of an image. ``grad``, ``above`` and ``below`` are gradients
    of the mixed levels; ``ends`` has bit 1 for the finest level, bit 2 for the coarsest."""
    plane = tl.program_id(1).to(tl.int64)
    channel, own = tl.program_id(1) % channels, channels - 2 * size
    at = tl.program_id(0) * block + tl.arange(0, block)
    mask = at < height * width
    y, x = at // width, at % width
    value = tl.zeros([block], tl.float32)
    if channel < own:
        value = tl.load(grad + plane * height * width + at, mask, 0.0)
    elif channel < own + size:
        if (ends & 2) == 0:
            given = above + (plane + size) * height_2 * width_2
            value = gathered(
                given,
                y,
                x,
                mask,
                height,
                width,
                height_2,
                width_2,
                scale_2y,
                scale_2x,
                reach_y,
                reach_x,
                back_2y,
                back_2x,
            )
        if (ends & 1) != 0:
            value += tl.load(grad + (plane + size) * height * width + at, mask, 0.0)
    else:
        if (ends & 1) == 0:
            given = below + (plane - size) * height_3 * width_3
            value = gathered(
                given,
                y,
                x,
                mask,
                height,
                width,
                height_3,
                width_3,
                scale_3y,
                scale_3x,
                reach_3y,
                reach_3x,
                back_3y,
                back_3x,
            )
        if (ends & 2) != 0:
            value += tl.load(grad + (plane - size) * height * width + at, mask, 0.0)
    tl.store(out + plane * height * width + at, value, mask)


def _scale(length: int, resized_to: int) -> float:
    """Pixels of a map per pixel of its resized form, corners aligned."""
    return (length - 1.0) / (resized_to - 1.0) if resized_to > 1 else 0.0


def _back(length: int, resized_to: int) -> tuple[float, int]:
    """Pixels of the resized form per pixel of the map, and at how many of them one must look, from the first
    that can touch it on."""
    scale = _scale(length, resized_to)
    if not scale:  # a map of one pixel, or a resized form of one: all of it
        return 0.0, resized_to + 2
    return 1.0 / scale, int(2.0 / scale) + 5


@on_its_device
def forward(first: Tensor, *others: Tensor, size: int) -> list[Tensor]:
    """Mixed levels (n, channels, h, w), fine to coarse, contiguous float32; ``size`` channels from each
    neighbour."""
    feats = [first, *others]
    mixed = []
    for level, feat in enumerate(feats):
        above, below = feats[min(level + 1, len(feats) - 1)], feats[max(level - 1, 0)]
        out = torch.empty_like(feat)
        _launch(forward_kernel, feat, above, below, out, size, _scales(above, feat) + _scales(below, feat))
        mixed.append(out)
    return mixed


@on_its_device
def backward(first: Tensor, *others: Tensor, size: int) -> list[Tensor]:
    """Gradients of the levels for those of the mixed ones, contiguous float32."""
    grads = [first, *others]
    level_gradients = []
    for level, grad in enumerate(grads):
        above, below = grads[min(level + 1, len(grads) - 1)], grads[max(level - 1, 0)]
        out = torch.empty_like(grad)
        places = [_back(grad.shape[axis], to.shape[axis]) for to in (above, below) for axis in (2, 3)]
        rest = _scales(grad, above) + _scales(grad, below) + [place[0] for place in places]
        counts = [place[1] for place in places]
        ends = (level == 0) + 2 * (level == len(grads) - 1)
        _launch(backward_kernel, grad, above, below, out, size, [*rest, *counts, ends])
        level_gradients.append(out)
    return level_gradients


def _scales(source: Tensor, target: Tensor) -> list[float]:
    return [_scale(source.shape[axis], target.shape[axis]) for axis in (2, 3)]


def _launch(
    kernel: Any, own: Tensor, above: Tensor, below: Tensor, out: Tensor, size: int, rest: Sequence[Any]
) -> None:
    images, channels, height, width = own.shape
    if not own.numel():
        return
    sizes = [length for map_ in (own, above, below) for length in map_.shape[2:]]
    grid = (triton.cdiv(height * width, _BLOCK), images * channels)
    kernel[grid](
        own, above, below, out, *sizes, *rest, channels, size, _BLOCK, num_warps=4, enable_fp_fusion=False
    )


class Shuffle(torch.autograd.Function):  # type: ignore[misc]
    """:func:`forward` and :func:`backward` for autograd: the channels from each neighbour, the levels."""

    @staticmethod
    def forward(ctx: Any, size: int, *feats: Tensor) -> tuple[Tensor, ...]:
        """See :func:`forward`."""
        ctx.size = size
        return tuple(forward(*(feat.contiguous() for feat in feats), size=size))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """See :func:`backward`."""
        return (None, *backward(*(grad.contiguous() for grad in grads), size=ctx.size))
