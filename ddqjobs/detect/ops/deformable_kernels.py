"""Triton kernels of multi-scale deformable attention; :mod:`.deformable_attention` calls them. Modern torch
only.

Words: an *item* is one (image, query, head), numbered in that order; a *sample* is one (item, level, point).
A *cell* is the square between four pixel centres of one level of one head of one image; cells along the
border lie half outside, so a level of h x w pixels has (h + 1) x (w + 1) of them. ``shapes`` holds, per
level, height, width, first pixel and first cell.

No kernel adds to memory: each element of each result is written by one program, which sums in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

COLUMNS = tl.constexpr(4)  # of ``shapes``


@triton.jit
def level_of(shapes, at, column: tl.constexpr, levels: tl.constexpr):
    """The level that a pixel (column 2) or a cell (column 3) belongs to."""
    level = at * 0
    for later in range(1, levels):
        level += (at >= tl.load(shapes + later * COLUMNS + column)).to(tl.int32)
    return level


@triton.jit
def level_at(shapes, level):
    """Height, width, first pixel, first cell."""
    at = shapes + level * COLUMNS
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)


@triton.jit
def place_of(location, sample, inside, width, height, real: tl.constexpr):
    """Return where samples lie, in pixels from the centre of the first one: x, y, and whether they touch any
    pixel; those that touch none are put at 0, 0."""
    x = tl.load(location + 2 * sample, inside, 0.0).to(real) * width - 0.5
    y = tl.load(location + 2 * sample + 1, inside, 0.0).to(real) * height - 0.5
    near = (x > -1) & (y > -1) & (x < width) & (y < height) & inside
    return tl.where(near, x, 0.0), tl.where(near, y, 0.0), near


@triton.jit
def corners_of(pixel, x0, y0, near, width, height, use, row: tl.constexpr, real: tl.constexpr):
    """The four pixels of cells: upper left and right, lower left and right; 0 beyond the border.

    ``pixel`` (cells, channels) points at the upper left ones; ``row`` elements lie from pixel to pixel.
    """
    in_left, in_right = near & (x0 >= 0), near & (x0 + 1 < width)
    in_top, in_low = y0 >= 0, y0 + 1 < height
    below = pixel + (x0 * 0 + width * row)[:, None]
    a = tl.load(pixel, (in_left & in_top)[:, None] & use, 0.0).to(real)
    b = tl.load(pixel + row, (in_right & in_top)[:, None] & use, 0.0).to(real)
    c = tl.load(below, (in_left & in_low)[:, None] & use, 0.0).to(real)
    d = tl.load(below + row, (in_right & in_low)[:, None] & use, 0.0).to(real)
    return a, b, c, d


@triton.jit
def store_gradients(
    grad_location, grad_weight, sample, mine, near, grad, a, b, c, d, right, low, share, width, height
):
    """Gradients of samples' locations and weights: ``grad`` (samples, channels) is the output's, ``right``
    and ``low`` are the samples' distances from the upper left of their four pixels. 0 where a sample is not
    ``near`` a pixel, also for an infinite ``grad``."""
    left, top = 1 - right, 1 - low
    at_a, at_b = tl.sum(grad * a, 1), tl.sum(grad * b, 1)
    at_c, at_d = tl.sum(grad * c, 1), tl.sum(grad * d, 1)
    by_x = share * width * (top * (at_b - at_a) + low * (at_d - at_c))
    by_y = share * height * (left * (at_c - at_a) + right * (at_d - at_b))
    by_weight = top * (left * at_a + right * at_b) + low * (left * at_c + right * at_d)
    tl.store(grad_weight + sample, tl.where(near, by_weight, 0.0), mine)
    tl.store(grad_location + 2 * sample, tl.where(near, by_x, 0.0), mine)
    tl.store(grad_location + 2 * sample + 1, tl.where(near, by_y, 0.0), mine)


@triton.jit
def forward_kernel(
    value,
    shapes,
    location,
    weight,
    out,
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
    """One program: ``block`` queries of one head of one image. Neighbouring queries look at the same
    pixels."""
    query = tl.program_id(0) * block + tl.arange(0, block)
    image, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    inside = query < queries
    item = (image.to(tl.int64) * queries + query) * heads + head
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    row: tl.constexpr = heads * size
    base = value + (image.to(tl.int64) * pixels * heads + head) * size + channel
    total = tl.zeros([block, padded], real)
    for level in range(levels):
        height, width, first, _ = level_at(shapes, level)
        for point in range(points):
            sample = item * (levels * points) + level * points + point
            x, y, near = place_of(location, sample, inside, width, height, real)
            share = tl.load(weight + sample, inside, 0.0).to(real)
            left, top = tl.floor(x), tl.floor(y)
            right_part, low_part = x - left, y - top
            x0, y0 = left.to(tl.int32), top.to(tl.int32)
            pixel = base + ((first + y0 * width + x0) * row)[:, None]
            a, b, c, d = corners_of(pixel, x0, y0, near, width, height, use, row, real)
            upper, lower = share * (1 - low_part), share * low_part
            total += (upper * (1 - right_part))[:, None] * a + (upper * right_part)[:, None] * b
            total += (lower * (1 - right_part))[:, None] * c + (lower * right_part)[:, None] * d
    tl.store(out + (item * size)[:, None] + channel, total, inside[:, None] & use)


@triton.jit
def cell_kernel(
    location,
    shapes,
    cell,
    runs,
    grad_location,
    grad_weight,
    samples,
    queries,
    cells,
    all_cells,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    block: tl.constexpr,
    real: tl.constexpr,
):
    """The cell of each sample, or the number of all cells for those that touch no pixel; their gradients are
    zero. Clears ``runs`` (2, cells), for :func:`bounds_kernel`."""
    for start in range(tl.program_id(0) * block, 2 * all_cells, tl.num_programs(0) * block):
        entry = start + tl.arange(0, block)
        tl.store(runs + entry, tl.zeros([block], tl.int32), entry < 2 * all_cells)
    sample = tl.program_id(0) * block + tl.arange(0, block)
    inside = sample < samples
    level = sample % (levels * points) // points
    item = sample // (levels * points)
    image, head = item // (heads * queries), item % heads
    height, width, _, first = level_at(shapes, level)
    x, y, near = place_of(location, sample.to(tl.int64), inside, width, height, real)
    column, line = tl.floor(x).to(tl.int32) + 1, tl.floor(y).to(tl.int32) + 1
    number = (image * heads + head) * cells + first + line * (width + 1) + column
    tl.store(cell + sample, tl.where(near, number, all_cells), inside)
    away = inside & ~near
    tl.store(grad_weight + sample, tl.zeros([block], real), away)
    tl.store(grad_location + 2 * sample.to(tl.int64), tl.zeros([block], real), away)
    tl.store(grad_location + 2 * sample.to(tl.int64) + 1, tl.zeros([block], real), away)


@triton.jit
def bounds_kernel(cell, runs, samples, all_cells, block: tl.constexpr):
    """Find where each cell's run of samples begins and ends in the sorted list; 0 and 0 for cells without
    any."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < samples
    here = tl.load(cell + at, inside, all_cells)
    before = tl.load(cell + at - 1, inside & (at > 0), -1)
    after = tl.load(cell + at + 1, inside & (at + 1 < samples), -1)
    real = inside & (here < all_cells)
    tl.store(runs + here, at, real & (before != here))
    tl.store(runs + all_cells + here, at + 1, real & (after != here))


@triton.jit
def samples_kernel(
    grad_out,
    value,
    shapes,
    location,
    weight,
    order,
    runs,
    grad_location,
    grad_weight,
    corners,
    all_cells,
    cells,
    pixels,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    real: tl.constexpr,
):
    """One program: ``block`` cells side by side; each adds up its samples one by one in the order of their
    numbers.

    Writes the gradients of its samples' locations and weights, and what its samples give to each cell's four
    pixels: ``corners`` (cell, 4, size), nothing for cells without samples.
    """
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    row: tl.constexpr = heads * size
    cell = tl.program_id(0) * block + tl.arange(0, block)
    start = tl.load(runs + cell, cell < all_cells, 0)
    stop = tl.load(runs + all_cells + cell, cell < all_cells, 0)
    longest = tl.max(stop - start, 0)
    if longest > 0:
        some = stop > start
        within = cell % cells
        height, width, first, first_cell = level_at(shapes, level_of(shapes, within, 3, levels))
        y0 = (within - first_cell) // (width + 1) - 1
        x0 = (within - first_cell) % (width + 1) - 1
        image, head = (cell // cells // heads).to(tl.int64), cell // cells % heads
        pixel = value + (((image * pixels + first + y0 * width + x0) * heads + head) * size)[:, None]
        a, b, c, d = corners_of(pixel + channel, x0, y0, some, width, height, use, row, real)
        sum_a = tl.zeros([block, padded], real)
        sum_b = tl.zeros([block, padded], real)
        sum_c = tl.zeros([block, padded], real)
        sum_d = tl.zeros([block, padded], real)
        for step in range(0, longest):
            mine = start + step < stop
            sample = tl.load(order + start + step, mine, 0).to(tl.int64)
            right = tl.load(location + 2 * sample, mine, 0.0).to(real) * width - 0.5 - x0
            low = tl.load(location + 2 * sample + 1, mine, 0.0).to(real) * height - 0.5 - y0
            share = tl.load(weight + sample, mine, 0.0).to(real)
            item = sample // (levels * points)
            grad = tl.load(grad_out + (item * size)[:, None] + channel, mine[:, None] & use, 0.0).to(real)
            left, top = 1 - right, 1 - low
            upper, lower = share * top, share * low
            sum_a += grad * (upper * left)[:, None]
            sum_b += grad * (upper * right)[:, None]
            sum_c += grad * (lower * left)[:, None]
            sum_d += grad * (lower * right)[:, None]
            store_gradients(
                grad_location,
                grad_weight,
                sample,
                mine,
                mine,
                grad,
                a,
                b,
                c,
                d,
                right,
                low,
                share,
                width,
                height,
            )
        corner = corners + (cell.to(tl.int64) * (4 * size))[:, None] + channel
        filled = some[:, None] & use
        tl.store(corner, sum_a, filled)
        tl.store(corner + size, sum_b, filled)
        tl.store(corner + 2 * size, sum_c, filled)
        tl.store(corner + 3 * size, sum_d, filled)


@triton.jit
def pixels_kernel(
    corners,
    runs,
    shapes,
    grad_value,
    rows,
    cells,
    all_cells,
    pixels,
    heads: tl.constexpr,
    levels: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    real: tl.constexpr,
):
    """The gradient of each pixel: what the four cells around it give, in a fixed order."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < rows
    head, pixel, image = at % heads, at // heads % pixels, at // (heads * pixels)
    _, width, first, first_cell = level_at(shapes, level_of(shapes, pixel, 2, levels))
    y, x = (pixel - first) // width, (pixel - first) % width
    cell = (
        (image * heads + head) * cells + first_cell + (y + 1) * (width + 1) + x + 1
    )  # the pixel is its upper left
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    total = tl.zeros([block, padded], real)
    for corner in tl.static_range(4):
        near = cell - corner % 2 - corner // 2 * (width + 1)
        some = inside & (tl.load(runs + all_cells + near, inside, 0) > 0)
        place = corners + ((near.to(tl.int64) * 4 + corner) * size)[:, None] + channel
        total += tl.load(place, some[:, None] & use, 0.0)
    tl.store(grad_value + (at.to(tl.int64) * size)[:, None] + channel, total, inside[:, None] & use)
