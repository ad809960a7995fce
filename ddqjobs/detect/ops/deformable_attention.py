"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021, equation 3) in Triton.

Forward and backward, float32, bfloat16, float16 and float64, any head size and any number of levels and
points. Deterministic: the same inputs give the same bits, in every mode of torch; nothing is added
atomically. Samples are interpolated as by torch's ``grid_sample`` with ``align_corners=False`` and zeros
outside.

The backward pass sorts the samples by the cell of pixels that they fall into. With many queries, as an
encoder has, it goes by cells; extra memory at its peak: 24 bytes a sample and, per cell with its four
corners, four rows of the accumulator's type. With few, as a decoder has, it goes by pixels
(:mod:`.deformable_few_kernels`): the same result but for the order of the sums, in two launches, with 8 bytes
per sample, and 8 per cell and part.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import deformable_few_kernels as few
from . import deformable_kernels as kernels
from .device import on_its_device

Shapes = Tuple[Tuple[int, int], ...]
_KNOWN = "_ddqjobs_levels"
_BACKWARD = (4, 1)  # cells per program, and warps
_SAMPLES = 512  # samples per program
# Queries up to which it goes by pixels. That was seen to be faster at 1,350 and 2,446; where the two meet was
# not measured (docs/explanation/performance.md).
FEW = 4096
# By pixels: samples that one program sorts, at most, and per warp; queries and pixels per program.
_MOST, _SORT, _ITEMS, _PIXELS = 2048, 64, 4, 16


class Levels:
    """Heights and widths of the levels, on the host and on a device."""

    def __init__(self, shapes: Sequence[Sequence[int]], device: Any) -> None:
        self.shapes: Shapes = tuple((int(h), int(w)) for h, w in shapes)
        rows, pixel, cell = [], 0, 0
        for height, width in self.shapes:
            rows.append([height, width, pixel, cell])
            pixel += height * width
            cell += (height + 1) * (width + 1)
        self.pixels, self.cells = pixel, cell
        self.table = torch.tensor(rows, dtype=torch.int32).to(device, non_blocking=True)


def levels_of(spatial_shapes: Tensor) -> Levels:
    """The levels that a (levels, 2) tensor of heights and widths describes.

    Reading a tensor on a GPU waits for the GPU, so what was read stays with the tensor: the layers of a model
    share one. Whoever knows the shapes already calls :func:`remember`.
    """
    if spatial_shapes.is_inference():  # whether it changes cannot be seen
        return Levels(spatial_shapes.tolist(), spatial_shapes.device)
    known = getattr(spatial_shapes, _KNOWN, None)
    if known is None or known[0] != spatial_shapes._version:
        return remember(spatial_shapes, spatial_shapes.tolist())
    levels: Levels = known[1]
    return levels


def remember(spatial_shapes: Tensor, shapes: Sequence[Sequence[int]]) -> Levels:
    """Note at the tensor what it holds."""
    levels = Levels(shapes, spatial_shapes.device)
    if not spatial_shapes.is_inference():
        setattr(spatial_shapes, _KNOWN, (spatial_shapes._version, levels))
    return levels


@on_its_device
def forward(value: Tensor, levels: Levels, location: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of bilinear samples.

    Args:
        value: (b, pixels, heads, size), the levels' maps one after the other, each by rows.
        levels: heights and widths of the maps.
        location: (b, queries, heads, levels, points, 2): x, y; 0 and 1 are the outer edges of a map.
        weight: (b, queries, heads, levels, points).

    Returns:
        (b, queries, heads * size), of the type of ``value``.

    Raises:
        ValueError: the shapes do not belong together, or a tensor is not contiguous.
    """
    _check(value, levels, location, weight)
    batch, pixels, heads, size = value.shape
    queries = location.shape[1]
    out = value.new_empty(batch, queries, heads * size)
    if out.numel() == 0:
        return out
    block, warps = _forward_blocks(queries)
    kernels.forward_kernel[(triton.cdiv(queries, block), batch * heads)](
        value,
        levels.table,
        location,
        weight,
        out,
        queries,
        pixels,
        heads,
        len(levels.shapes),
        location.shape[4],
        size,
        triton.next_power_of_2(size),
        block,
        _real(value),
        num_warps=warps,
    )
    return out


def backward(
    value: Tensor, levels: Levels, location: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, location and weight for the gradient of the output (b, queries, heads * size)."""
    _check(value, levels, location, weight)
    return _backward(value, levels, location, weight, grad_out.contiguous())


@on_its_device
def _backward(
    value: Tensor, levels: Levels, location: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if weight.numel() == 0:
        return torch.zeros_like(value), torch.zeros_like(location), torch.zeros_like(weight)
    # A cell of a level and a sample of a program together are one 32-bit key.
    most = max(_MOST, triton.next_power_of_2(location.shape[4]))
    way = by_pixels if location.shape[1] <= FEW and levels.cells < 2**31 // most else by_cells
    return way(value, levels, location, weight, grad_out)


def by_cells(
    value: Tensor, levels: Levels, location: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`backward` for many queries, at least one, contiguous tensors."""
    batch, pixels, heads, size = value.shape
    grad_value = torch.empty_like(value)
    grad_location, grad_weight = torch.empty_like(location), torch.empty_like(weight)
    order, runs = _sorted(value, levels, location, grad_location, grad_weight)
    all_cells, rows = batch * heads * levels.cells, batch * pixels * heads
    real, padded, count = _real(value), triton.next_power_of_2(size), len(levels.shapes)
    # Rows of cells without samples are neither written nor read.
    corners = torch.empty(all_cells, 4, size, dtype=_dtype(value), device=value.device)
    block, warps = _BACKWARD
    kernels.samples_kernel[(triton.cdiv(all_cells, block),)](
        grad_out,
        value,
        levels.table,
        location,
        weight,
        order,
        runs,
        grad_location,
        grad_weight,
        corners,
        all_cells,
        levels.cells,
        pixels,
        heads,
        count,
        location.shape[4],
        size,
        padded,
        block,
        real,
        num_warps=warps,
    )
    kernels.pixels_kernel[(triton.cdiv(rows, 32),)](
        corners,
        runs,
        levels.table,
        grad_value,
        rows,
        levels.cells,
        all_cells,
        pixels,
        heads,
        count,
        size,
        padded,
        32,
        real,
    )
    return grad_value, grad_location, grad_weight


def by_pixels(
    value: Tensor, levels: Levels, location: Tensor, weight: Tensor, grad_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`backward` for few queries, at least one, contiguous tensors."""
    batch, pixels, heads, size = value.shape
    queries, points, count = location.shape[1], location.shape[4], len(levels.shapes)
    real, planes = _real(value), batch * heads
    parts, part = _parts(queries, points)
    listed, all_cells = planes * count * parts * part * points, planes * levels.cells
    lists = torch.empty(2 * listed + 2 * parts * all_cells, dtype=torch.int32, device=value.device)
    most = triton.next_power_of_2(part * points)
    few.sort_kernel[(planes * count * parts,)](
        location,
        levels.table,
        lists,
        queries,
        part,
        levels.cells,
        all_cells,
        heads,
        count,
        points,
        parts,
        most,
        real,
        num_warps=min(max(most // _SORT, 1), 32),
    )
    grad_value = torch.empty_like(value)
    grad_location, grad_weight = torch.empty_like(location), torch.empty_like(weight)
    by_items, rows = triton.cdiv(queries, _ITEMS) * planes, planes * pixels
    few.gradients_kernel[(by_items + triton.cdiv(rows, _PIXELS),)](
        lists,
        listed,
        grad_out,
        value,
        levels.table,
        location,
        weight,
        grad_value,
        grad_location,
        grad_weight,
        queries,
        pixels,
        levels.cells,
        all_cells,
        rows,
        by_items,
        heads,
        count,
        points,
        parts,
        size,
        triton.next_power_of_2(size),
        _ITEMS,
        _PIXELS,
        real,
        num_warps=1,
    )
    return grad_value, grad_location, grad_weight


def _parts(queries: int, points: int) -> tuple[int, int]:
    """In how many parts the queries are sorted, and queries per part: no more than ``_MOST`` samples of a
    level, or those of one query."""
    parts: int = triton.cdiv(queries, max(_MOST // points, 1))
    return parts, triton.cdiv(queries, parts)


def _sorted(
    value: Tensor, levels: Levels, location: Tensor, grad_location: Tensor, grad_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The samples' numbers by their cells, and where in this list each cell's run begins and ends.

    Gradients of samples that touch no pixel are set to zero; the list holds them last.
    """
    batch, queries, heads, count, points, _ = location.shape
    samples, all_cells = location.numel() // 2, batch * heads * levels.cells
    cell = torch.empty(samples, dtype=torch.int32, device=value.device)
    runs = torch.empty(2, all_cells, dtype=torch.int32, device=value.device)
    grid = (triton.cdiv(samples, _SAMPLES),)
    kernels.cell_kernel[grid](
        location,
        levels.table,
        cell,
        runs,
        grad_location,
        grad_weight,
        samples,
        queries,
        levels.cells,
        all_cells,
        heads,
        count,
        points,
        _SAMPLES,
        _real(value),
    )
    cell, order = torch.sort(cell, stable=True)
    kernels.bounds_kernel[grid](cell, runs, samples, all_cells, _SAMPLES)
    return order, runs


class DeformableAttention(torch.autograd.Function):  # type: ignore[misc]
    """:func:`forward` and :func:`backward` for autograd: value, levels, location, weight."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, levels: Levels, location: Tensor, weight: Tensor) -> Tensor:
        """See :func:`forward`."""
        value, location, weight = value.contiguous(), location.contiguous(), weight.contiguous()
        ctx.levels = levels
        ctx.save_for_backward(value, location, weight)
        return forward(value, levels, location, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """See :func:`backward`."""
        value, location, weight = ctx.saved_tensors
        by_value, by_location, by_weight = _backward(
            value, ctx.levels, location, weight, grad_out.contiguous()
        )
        return by_value, None, by_location, by_weight


def deformable_attention(value: Tensor, spatial_shapes: Tensor, location: Tensor, weight: Tensor) -> Tensor:
    """Differentiable :func:`forward`; ``spatial_shapes`` is (levels, 2), heights and widths."""
    out: Tensor = DeformableAttention.apply(value, levels_of(spatial_shapes), location, weight)
    return out


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """mmcv's signature of :func:`forward`; the step has no meaning here."""
    return forward(
        value, levels_of(spatial_shapes), sampling_locations.contiguous(), attention_weights.contiguous()
    )


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """mmcv's signature of :func:`backward`: fills the three gradients."""
    location, weight = sampling_locations.contiguous(), attention_weights.contiguous()
    gradients = backward(value, levels_of(spatial_shapes), location, weight, grad_output)
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients):
        target.copy_(gradient)


def _forward_blocks(queries: int) -> tuple[int, int]:
    """Queries per program, and warps."""
    return (32, 8) if queries >= 1200 else (4, 1)


def _dtype(value: Tensor) -> torch.dtype:
    """Return the type that sums are kept in."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _real(value: Tensor) -> Any:
    return tl.float64 if value.dtype == torch.float64 else tl.float32


def _check(value: Tensor, levels: Levels, location: Tensor, weight: Tensor) -> None:
    batch, pixels, heads, _ = value.shape
    wanted = (batch, location.shape[1], heads, len(levels.shapes), location.shape[4])
    if pixels != levels.pixels or tuple(weight.shape) != wanted or tuple(location.shape) != (*wanted, 2):
        raise ValueError(
            f"deformable attention: value {tuple(value.shape)}, levels {levels.shapes}, location "
            f"{tuple(location.shape)} and weight {tuple(weight.shape)} do not belong together"
        )
    if not all(t.is_contiguous() for t in (value, location, weight)):
        raise ValueError("deformable attention: value, location and weight must be contiguous")
