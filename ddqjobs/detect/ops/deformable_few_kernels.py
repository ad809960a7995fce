"""Triton kernels for the gradient of deformable attention with few queries, as a decoder has.

Words as in :mod:`.deformable_kernels`; the samples of one level of one head of one image are few enough for
one program to sort. Two launches in all, since with few queries launches cost more than sums: the first
sorts; in the second some programs go by queries and give the gradients of locations and weights, the others
go by pixels and add up the samples of the four cells around each, in their order. Each gradient is written
once, zeros included.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .deformable_kernels import corners_of, level_at, level_of, place_of, store_gradients


@triton.jit
def sort_kernel(
    location,
    shapes,
    lists,
    queries,
    part,
    cells,
    all_cells,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    parts: tl.constexpr,
    most: tl.constexpr,
    real: tl.constexpr,
):
    """One program: the samples that ``part`` queries have in one level of one head of one image; no more than
    ``most``, a power of two.

    Writes into ``lists`` the samples' numbers, sorted by cell and then by number, then their cells, ``part``
    times ``points`` per program; then (2, parts, all_cells) where in the first list the samples of each cell
    begin and end, 0 and 0 for none.
    """
    program = tl.program_id(0)
    cell = lists + tl.num_programs(0) * part * points
    runs = cell + tl.num_programs(0) * part * points
    plane = program // parts
    level, head, image = plane % levels, plane // levels % heads, (plane // (levels * heads)).to(tl.int64)
    height, width, _, first = level_at(shapes, level)
    begin = runs + program % parts * all_cells + plane // levels * cells + first
    end = begin + parts * all_cells
    own_cells = (height + 1) * (width + 1)
    at = tl.arange(0, most)
    for start in range(0, own_cells, most):
        tl.store(begin + start + at, tl.zeros([most], tl.int32), start + at < own_cells)
        tl.store(end + start + at, tl.zeros([most], tl.int32), start + at < own_cells)
    ahead = program % parts * part
    count = (tl.minimum(ahead + part, queries) - ahead) * points
    query = image * queries + ahead
    sample = (((query + at // points) * heads + head) * levels + level) * points + at % points
    x, y, near = place_of(location, sample, at < count, width, height, real)
    column, line = tl.floor(x).to(tl.int32) + 1, tl.floor(y).to(tl.int32) + 1
    nowhere = 0x7FFFFFFF // most  # above all cells; the keys stay below 2 ** 31
    key = tl.sort(tl.where(near, line * (width + 1) + column, nowhere) * most + at)
    here, number = key // most, key % most
    sample = (((query + number // points) * heads + head) * levels + level) * points + number % points
    place = program * part * points + at
    tl.store(lists + place, sample, at < count)
    tl.store(cell + place, here, at < count)
    tl.debug_barrier()  # others' cells are written, and the runs cleared
    before = tl.load(cell + place - 1, (at > 0) & (at < count), -1)
    after = tl.load(cell + place + 1, at + 1 < count, -1)
    filled = (at < count) & (here < nowhere)
    tl.store(begin + here, place, filled & (before != here))
    tl.store(end + here, place + 1, filled & (after != here))


@triton.jit
def gradients_kernel(
    lists,
    listed,
    grad_out,
    value,
    shapes,
    location,
    weight,
    grad_value,
    grad_location,
    grad_weight,
    queries,
    pixels,
    cells,
    all_cells,
    rows,
    by_items,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    parts: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    some_items: tl.constexpr,
    some_rows: tl.constexpr,
    real: tl.constexpr,
):
    """The first ``by_items`` programs go by queries (:func:`_items`), the others by pixels (:func:`_gather`):
    in reverse, because in small levels, the last ones, a pixel has the most samples."""
    if tl.program_id(0) < by_items:
        _items(
            grad_out,
            value,
            shapes,
            location,
            weight,
            grad_location,
            grad_weight,
            tl.program_id(0),
            queries,
            pixels,
            heads,
            levels,
            points,
            size,
            padded,
            some_items,
            real,
        )
    else:
        _gather(
            lists,
            lists + 2 * listed,
            location,
            weight,
            grad_out,
            shapes,
            grad_value,
            tl.num_programs(0) - 1 - tl.program_id(0),
            rows,
            cells,
            all_cells,
            pixels,
            heads,
            levels,
            points,
            parts,
            size,
            padded,
            some_rows,
            real,
        )


@triton.jit
def _items(
    grad_out,
    value,
    shapes,
    location,
    weight,
    grad_location,
    grad_weight,
    program,
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
    """Gradients of the locations and weights of ``block`` queries of one head of one image."""
    blocks = tl.cdiv(queries, block)
    query = program % blocks * block + tl.arange(0, block)
    image, head = (program // blocks // heads).to(tl.int64), program // blocks % heads
    inside = query < queries
    item = (image * queries + query) * heads + head
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    row: tl.constexpr = heads * size
    base = value + (image * pixels * heads + head) * size + channel
    grad = tl.load(grad_out + (item * size)[:, None] + channel, inside[:, None] & use, 0.0).to(real)
    for level in range(levels):
        height, width, first, _ = level_at(shapes, level)
        for point in range(points):
            sample = item * (levels * points) + level * points + point
            x, y, near = place_of(location, sample, inside, width, height, real)
            share = tl.load(weight + sample, inside, 0.0).to(real)
            x0, y0 = tl.floor(x).to(tl.int32), tl.floor(y).to(tl.int32)
            pixel = base + ((first + y0 * width + x0) * row)[:, None]
            a, b, c, d = corners_of(pixel, x0, y0, near, width, height, use, row, real)
            right, low = x - x0, y - y0
            store_gradients(
                grad_location,
                grad_weight,
                sample,
                inside,
                near,
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


@triton.jit
def _gather(
    order,
    runs,
    location,
    weight,
    grad_out,
    shapes,
    grad_value,
    program,
    rows,
    cells,
    all_cells,
    pixels,
    heads: tl.constexpr,
    levels: tl.constexpr,
    points: tl.constexpr,
    parts: tl.constexpr,
    size: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    real: tl.constexpr,
):
    """The gradients of ``block`` pixels. Cells beside each other on a line are so in a sorted list too, so
    each pixel has two runs of samples in each part."""
    at = program * block + tl.arange(0, block)
    inside = at < rows
    head, pixel, image = at % heads, at // heads % pixels, at // (heads * pixels)
    height, width, first, first_cell = level_at(shapes, level_of(shapes, pixel, 2, levels))
    y, x = (pixel - first) // width, (pixel - first) % width
    below_right = (image * heads + head) * cells + first_cell + (y + 1) * (width + 1) + x + 1
    channel = tl.arange(0, padded)[None, :]
    use = channel < size
    total = tl.zeros([block, padded], real)
    for turn in range(2 * parts):
        # The line of cells below the pixel's centre, then the one above.
        begin = runs + turn // 2 * all_cells + below_right - turn % 2 * (width + 1)
        end = begin + parts * all_cells
        stop_left, stop_right = tl.load(end - 1, inside, 0), tl.load(end, inside, 0)
        # Of cells without samples both bounds are 0.
        start = tl.load(begin - (stop_left > 0).to(tl.int32), inside, 0)
        stop = tl.maximum(stop_left, stop_right)
        for step in range(0, tl.max(stop - start, 0)):
            mine = start + step < stop
            sample = tl.load(order + start + step, mine, 0).to(tl.int64)
            far_x = tl.load(location + 2 * sample, mine, 0.0).to(real) * width - 0.5 - x
            far_y = tl.load(location + 2 * sample + 1, mine, 0.0).to(real) * height - 0.5 - y
            share = tl.load(weight + sample, mine, 0.0).to(real)
            # Not below zero, where another rounding puts a sample just outside its cell.
            share *= tl.maximum(1 - tl.abs(far_x), 0.0) * tl.maximum(1 - tl.abs(far_y), 0.0)
            item = sample // (levels * points)
            grad = tl.load(grad_out + (item * size)[:, None] + channel, mine[:, None] & use, 0.0).to(real)
            total += grad * share[:, None]
    tl.store(grad_value + (at.to(tl.int64) * size)[:, None] + channel, total, inside[:, None] & use)
