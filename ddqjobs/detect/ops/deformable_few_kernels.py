"""Triton kernels for the gradient of deformable attention with few queries: there launches cost more than
sums.

Words as in :mod:`.deformable_kernels`. One kernel goes by queries and gives the gradients of locations and
weights; the other goes by pixels: it looks up the samples of the four cells around each in the sorted list
and adds them in its order. So no table of cells has to be cleared and filled, nothing is kept per cell, and
each gradient is written once, zeros included.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .deformable_kernels import _level


@triton.jit
def items_kernel(
    grad_out,
    value,
    shapes,
    location,
    weight,
    grad_location,
    grad_weight,
    queries,
    pixels,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    real: tl.constexpr,
):
    """One program: ``block`` queries of one head of one image; gradients of their locations and weights."""
    query = tl.program_id(0) * block + tl.arange(0, block)
    image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    inside = query < queries
    item = (image.to(tl.int64) * queries + query) * heads + head
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    row = heads * size
    base = value + (image.to(tl.int64) * pixels * heads + head) * size + channel
    grad = tl.load(grad_out + (item * size)[:, None] + channel, inside[:, None] & use, 0.0).to(real)
    for level in range(levels):
        height, width, first, _ = _level(shapes, level)
        for point in range(points):
            sample = item * (levels * points) + level * points + point
            x = tl.load(location + 2 * sample, inside, 0.0).to(real) * width - 0.5
            y = tl.load(location + 2 * sample + 1, inside, 0.0).to(real) * height - 0.5
            share = tl.load(weight + sample, inside, 0.0).to(real)
            near = (x > -1) & (y > -1) & (x < width) & (y < height) & inside
            x = tl.where(near, x, 0.0)
            y = tl.where(near, y, 0.0)
            x0, y0 = tl.floor(x).to(tl.int32), tl.floor(y).to(tl.int32)
            right, low = x - x0, y - y0
            left, top = 1 - right, 1 - low
            in_left, in_right = near & (x0 >= 0), near & (x0 + 1 < width)
            in_top, in_low = y0 >= 0, y0 + 1 < height
            pixel = base + ((first + y0 * width + x0) * row)[:, None]
            a = tl.load(pixel, (in_left & in_top)[:, None] & use, 0.0).to(real)
            b = tl.load(pixel + row, (in_right & in_top)[:, None] & use, 0.0).to(real)
            c = tl.load(pixel + width * row, (in_left & in_low)[:, None] & use, 0.0).to(real)
            d = tl.load(pixel + (width + 1) * row, (in_right & in_low)[:, None] & use, 0.0).to(real)
            at_a, at_b = tl.sum(grad * a, 1), tl.sum(grad * b, 1)
            at_c, at_d = tl.sum(grad * c, 1), tl.sum(grad * d, 1)
            by_x = top * (at_b - at_a) + low * (at_d - at_c)
            by_y = left * (at_c - at_a) + right * (at_d - at_b)
            by_weight = top * (left * at_a + right * at_b) + low * (left * at_c + right * at_d)
            tl.store(grad_weight + sample, by_weight, inside)
            tl.store(grad_location + 2 * sample, share * width * by_x, inside)
            tl.store(grad_location + 2 * sample + 1, share * height * by_y, inside)


@triton.jit
def _first(cell, samples, key, rounds):
    """Where in the sorted list ``cell`` the first is that is not below ``key``; 2 ** rounds > samples."""
    low, high = key * 0, key * 0 + samples
    for _ in range(rounds):
        some = low < high
        middle = (low + high) // 2
        below = tl.load(cell + middle, some, 0) < key
        low, high = tl.where(some & below, middle + 1, low), tl.where(some & ~below, middle, high)
    return low


@triton.jit
def gather_kernel(
    cell,
    order,
    location,
    weight,
    grad_out,
    shapes,
    grad_value,
    samples,
    rows,
    cells,
    pixels,
    rounds,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
    real: tl.constexpr,
):
    """The gradients of ``block`` pixels. Cells beside each other on a line are so in the sorted list too, so
    each pixel has two runs of samples; ``wide`` of a run are added at a time."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < rows
    head, pixel, image = at % heads, at // heads % pixels, at // (heads * pixels)
    level = at * 0
    for later in range(1, levels):
        level += (pixel >= tl.load(shapes + later * 4 + 2)).to(tl.int32)
    height, width, first, first_cell = _level(shapes, level)
    y, x = (pixel - first) // width, (pixel - first) % width
    below_right = (image * heads + head) * cells + first_cell + (y + 1) * (width + 1) + x + 1
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    total = tl.zeros([block, padded], real)
    for side in tl.static_range(2):  # the line of cells below the pixel's centre, then the one above
        last = below_right - side * (width + 1)
        start = _first(cell, samples, last - 1, rounds)
        stop = tl.where(inside, _first(cell, samples, last + 1, rounds), start)
        for step in range(0, tl.max(stop - start, 0), wide):
            place = start[:, None] + step + tl.arange(0, wide)[None, :]
            mine = place < stop[:, None]
            sample = tl.load(order + place, mine, 0).to(tl.int64)
            far_x = tl.load(location + 2 * sample, mine, 0.0).to(real) * width[:, None] - 0.5 - x[:, None]
            far_y = (
                tl.load(location + 2 * sample + 1, mine, 0.0).to(real) * height[:, None] - 0.5 - y[:, None]
            )
            share = tl.load(weight + sample, mine, 0.0).to(real)
            # Not below zero, where another rounding puts a sample just outside its cell.
            share *= tl.maximum(1 - tl.abs(far_x), 0.0) * tl.maximum(1 - tl.abs(far_y), 0.0)
            item = sample // (levels * points)
            grad_row = grad_out + (item * size)[:, :, None] + channel[:, None, :]
            grad = tl.load(grad_row, mine[:, :, None] & use[:, None, :], 0.0).to(real)
            total += tl.sum(grad * share[:, :, None], 1)
    tl.store(grad_value + (at.to(tl.int64) * size)[:, None] + channel, total, inside[:, None] & use)
