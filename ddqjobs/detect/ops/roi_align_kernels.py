"""RoIAlign in Triton, forward and backward, by the rule of :mod:`.roi_align`. Modern torch only.

Averages only: maxima, and tensors that are not contiguous, go through :mod:`.roi_align`. The weight of a
pixel in a bin is a product of one number per axis. The backward pass uses that: one program per tile of
pixels and block of channels goes through the boxes that touch its tile, in their order, and writes each
gradient once. So nothing is added atomically, and the same inputs give the same bits.

Unlike the torch form, which stops at a box of negative width or height, these follow mmcv's CUDA operator
there: they do not wait for the GPU to look at the boxes.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import roi_align
from .device import on_its_device

_AVERAGE = 1
# Samples per bin and axis, at most; a box that wants more (infinite, not a number) gets none.
_LARGEST_GRID = tl.constexpr(65536)
_SLACK = tl.constexpr(1e-2)  # of a pixel: more than the rounding of a sample's position
_CHANNELS, _WARPS = 4, 1  # forward: channels per program
# Backward: pixels per side of a tile, channels, warps, boxes looked at at once.
_TILE, _TILE_CHANNELS, _TILE_WARPS, _BOXES = 4, 256, 4, 128
_VARY = ["height", "width", "boxes", "tiles_x", "tiles"]  # no kernel of its own for each kind of size


@triton.jit
def divide(a, b, real: tl.constexpr):
    """Division rounded as IEEE 754 says. Triton's own of float32 is not: the number of samples in a bin would
    jump."""
    if real == tl.float32:
        return tl.div_rn(a, b)
    return a / b


@triton.jit
def axis_of(low, high, scale, ratio, bins: tl.constexpr, aligned: tl.constexpr, real: tl.constexpr):
    """Start, bin size and samples per bin of boxes along one axis, in pixels of the feature map."""
    begin, end = low.to(real) * scale, high.to(real) * scale
    if aligned:
        begin, end = begin - 0.5, end - 0.5
    extent = end - begin
    if not aligned:
        extent = tl.maximum(extent, 1.0)
    size = divide(extent, tl.full(extent.shape, bins, real), real)
    count = tl.where(size <= _LARGEST_GRID, tl.ceil(size), 0.0).to(tl.int32)
    return begin, size, tl.where(ratio > 0, ratio, tl.maximum(count, 0))


@triton.jit
def pixel_at(position, length):
    """Lower and upper pixel of a sample along one axis, the share of the upper one, and whether it counts:
    more than one pixel outside does not, less is moved to the border."""
    inside = (position >= -1.0) & (position <= length)
    position = tl.minimum(tl.maximum(position, 0.0), length)
    low = tl.minimum(position.to(tl.int32), length - 1)
    high = tl.minimum(low + 1, length - 1)
    share = tl.where(low >= length - 1, 0.0, position - low)
    return low, high, share, inside


@triton.jit(do_not_specialize=["height", "width"])
def forward_kernel(
    features,
    rois,
    out,
    scale,
    ratio,
    channels,
    height,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    aligned: tl.constexpr,
    real: tl.constexpr,
):
    """One program: ``block`` channels of all bins of a box."""
    box = tl.program_id(0)
    roi = rois + box * 5
    image = tl.load(roi).to(tl.int64)
    left, step_x, count_x = axis_of(tl.load(roi + 1), tl.load(roi + 3), scale, ratio, columns, aligned, real)
    top, step_y, count_y = axis_of(tl.load(roi + 2), tl.load(roi + 4), scale, ratio, rows, aligned, real)
    bin_ = tl.arange(0, padded)
    here = bin_ < rows * columns
    first_y, first_x = top + (bin_ // columns) * step_y, left + (bin_ % columns) * step_x
    channel = tl.program_id(1) * block + tl.arange(0, block)
    mask = (channel < channels)[:, None] & here[None, :]
    plane = features + (image * channels + channel[:, None]) * height * width
    total = tl.zeros([block, padded], real)
    for line in range(count_y):
        y_low, y_high, y_part, y_inside = pixel_at(first_y + (line + 0.5) * step_y / count_y, height)
        for column in range(count_x):
            x_low, x_high, x_part, x_inside = pixel_at(first_x + (column + 0.5) * step_x / count_x, width)
            counts = mask & (y_inside & x_inside)[None, :]
            low, high = y_low * width, y_high * width
            a = tl.load(plane + (low + x_low)[None, :], counts, 0.0).to(real)
            b = tl.load(plane + (low + x_high)[None, :], counts, 0.0).to(real)
            c = tl.load(plane + (high + x_low)[None, :], counts, 0.0).to(real)
            d = tl.load(plane + (high + x_high)[None, :], counts, 0.0).to(real)
            y_rest, x_rest = 1.0 - y_part, 1.0 - x_part
            total += a * (y_rest * x_rest)[None, :] + b * (y_rest * x_part)[None, :]
            total += c * (y_part * x_rest)[None, :] + d * (y_part * x_part)[None, :]
    total = total / tl.maximum(count_y * count_x, 1).to(real)
    place = (box.to(tl.int64) * channels + channel)[:, None] * (rows * columns) + bin_[None, :]
    tl.store(out + place, total, mask)


@triton.jit
def touched(begin, size, count, first, last, length):
    """Return the lowest and the highest pixel that samples of the bins ``first`` to ``last`` touch, or
    nearly."""
    one = begin + first * size + 0.5 * size / tl.maximum(count, 1)
    two = begin + (last + 1) * size - 0.5 * size / tl.maximum(count, 1)
    low = tl.minimum(tl.maximum(tl.minimum(one, two) - _SLACK, 0.0), length).to(tl.int32)
    high = tl.minimum(tl.maximum(tl.maximum(one, two) + _SLACK, 0.0), length).to(tl.int32) + 1
    return tl.minimum(low, length - 1), high


@triton.jit
def weights_of(pixel, begin, size, count, length, real: tl.constexpr):
    """Return how much each pixel counts in the bin that begins at ``begin``, along one axis."""
    total = tl.zeros(pixel.shape, real)
    for sample in range(count):
        low, high, share, inside = pixel_at(begin + (sample + 0.5) * size / count, length)
        weight = tl.where(pixel == low, 1.0 - share, 0.0) + tl.where(pixel == high, share, 0.0)
        total += tl.where(inside, weight, 0.0)
    return total


@triton.jit(do_not_specialize=_VARY)
def backward_kernel(
    grad_out,
    rois,
    grad,
    boxes,
    scale,
    ratio,
    channels,
    height,
    width,
    tiles_x,
    tiles,
    rows: tl.constexpr,
    columns: tl.constexpr,
    side: tl.constexpr,
    block: tl.constexpr,
    some: tl.constexpr,
    aligned: tl.constexpr,
    real: tl.constexpr,
):
    """One program: ``block`` channels of a tile of ``side`` x ``side`` pixels. ``grad_out`` is (boxes, rows,
    columns, channels); the gradient is added to what ``grad`` (images, channels, height, width) holds."""
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    y_first, x_first = tile // tiles_x * side, tile % tiles_x * side
    at = tl.arange(0, side * side)
    y, x = y_first + at // side, x_first + at % side
    channel = tl.program_id(1) * block + tl.arange(0, block)
    total = tl.zeros([side * side, block], real)
    for start in range(0, boxes, some):
        number = start + tl.arange(0, some)
        roi, known = rois + number * 5, number < boxes
        left, step_x, count_x = axis_of(
            tl.load(roi + 1, known, 0.0), tl.load(roi + 3, known, 0.0), scale, ratio, columns, aligned, real
        )
        top, step_y, count_y = axis_of(
            tl.load(roi + 2, known, 0.0), tl.load(roi + 4, known, 0.0), scale, ratio, rows, aligned, real
        )
        low_x, high_x = touched(left, step_x, count_x, 0, columns - 1, width)
        low_y, high_y = touched(top, step_y, count_y, 0, rows - 1, height)
        hit = known & (tl.load(roi, known, -1.0).to(tl.int32) == image)
        hit = hit & (low_x < x_first + side) & (high_x >= x_first)
        hit = hit & (low_y < y_first + side) & (high_y >= y_first)
        box = -1
        for _ in range(tl.sum(hit.to(tl.int32), 0)):
            box = tl.min(tl.where(hit & (number > box), number, 0x7FFFFFFF), 0)
            one = rois + box * 5
            left_1, size_x, samples_x = axis_of(
                tl.load(one + 1), tl.load(one + 3), scale, ratio, columns, aligned, real
            )
            top_1, size_y, samples_y = axis_of(
                tl.load(one + 2), tl.load(one + 4), scale, ratio, rows, aligned, real
            )
            share = 1.0 / tl.maximum(samples_x * samples_y, 1).to(real)
            for row in range(rows):
                low, high = touched(top_1, size_y, samples_y, row, row, height)
                if (low < y_first + side) & (high >= y_first):
                    by_y = weights_of(y, top_1 + row * size_y, size_y, samples_y, height, real) * share
                    for column in range(columns):
                        low_2, high_2 = touched(left_1, size_x, samples_x, column, column, width)
                        if (low_2 < x_first + side) & (high_2 >= x_first):
                            by_x = weights_of(x, left_1 + column * size_x, size_x, samples_x, width, real)
                            place = (box.to(tl.int64) * rows + row) * columns + column
                            value = tl.load(
                                grad_out + place * channels + channel, channel < channels, 0.0
                            ).to(real)
                            total += (by_y * by_x)[:, None] * value[None, :]
    mask = ((y < height) & (x < width))[:, None] & (channel < channels)[None, :]
    target = grad + (image.to(tl.int64) * channels + channel[None, :]) * height * width
    target = target + (y * width + x)[:, None]
    tl.store(target, tl.load(target, mask, 0.0) + total, mask)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """:func:`.roi_align.roi_align_forward` on a GPU."""
    size, options = (aligned_height, aligned_width), (spatial_scale, sampling_ratio, aligned)
    if pool_mode != _AVERAGE or not _contiguous(input, rois, output):
        return roi_align.roi_align_forward(
            input, rois, output, argmax_y, argmax_x, *size, *options[:2], pool_mode, aligned
        )
    return _forward(input, rois, output, size, *options)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """:func:`.roi_align.roi_align_backward` on a GPU."""
    size, options = (aligned_height, aligned_width), (spatial_scale, sampling_ratio, aligned)
    if pool_mode != _AVERAGE or not _contiguous(rois, grad_input):
        return roi_align.roi_align_backward(
            grad_output, rois, argmax_y, argmax_x, grad_input, *size, *options[:2], pool_mode, aligned
        )
    return _backward(grad_output, rois, grad_input, size, *options)


@on_its_device
def _forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    size: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
) -> None:
    if not output.numel():
        return
    channels, height, width = input.shape[1:]
    rois, scale = _scaled(rois, scale, input)
    block = min(_CHANNELS, triton.next_power_of_2(channels))
    forward_kernel[(len(rois), triton.cdiv(channels, block))](
        input,
        rois,
        output,
        scale,
        ratio,
        channels,
        height,
        width,
        *size,
        triton.next_power_of_2(size[0] * size[1]),
        block,
        aligned,
        _real(input),
        num_warps=_WARPS,
    )


@on_its_device
def _backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    size: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
) -> None:
    if not (grad_output.numel() and grad_input.numel()):
        return
    images, channels, height, width = grad_input.shape
    rois, scale = _scaled(rois, scale, grad_input)
    tiles_x, tiles_y = triton.cdiv(width, _TILE), triton.cdiv(height, _TILE)
    block = min(_TILE_CHANNELS, triton.next_power_of_2(channels))
    backward_kernel[(images * tiles_x * tiles_y, triton.cdiv(channels, block))](
        grad_output.permute(0, 2, 3, 1).contiguous(),
        rois,
        grad_input,
        len(rois),
        scale,
        ratio,
        channels,
        height,
        width,
        tiles_x,
        tiles_x * tiles_y,
        *size,
        _TILE,
        block,
        _BOXES,
        aligned,
        _real(grad_input),
        num_warps=_TILE_WARPS,
    )


def _scaled(rois: Tensor, scale: float, like: Tensor) -> tuple[Tensor, float]:
    """Return boxes and the factor that the kernels apply to them. Triton takes numbers as float32, so in
    float64 torch multiplies."""
    if like.dtype != torch.float64:
        return rois, scale
    return torch.cat([rois[:, :1].double(), rois[:, 1:].double() * scale], 1), 1.0


def _contiguous(*tensors: Tensor) -> bool:
    return all(tensor.is_contiguous() for tensor in tensors)


def _real(tensor: Tensor) -> Any:
    """Return the type that sums are kept in."""
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
