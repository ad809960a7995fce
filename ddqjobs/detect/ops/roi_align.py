"""RoIAlign, forward and backward, by the rule of mmcv 2.1.0, ``ops/csrc/pytorch/cpu/roi_align.cpp``.

Vectorised: boxes with the same sampling grid go together, in pieces of bounded memory. The four corners of
each sample are gathered from the feature map (forward) or added to it (backward).
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

import torch
from torch import Tensor

_ELEMENTS = 1 << 24  # gathered values held at once, about 64 MB
_NOTHING = -10000.0  # mmcv's start value of a maximum


class _Piece(NamedTuple):
    """Sample positions of some boxes: y (r, ph, gh) and x (r, pw, gw), in pixels of the feature map."""

    rows: Tensor  # (r,) which boxes
    y: Tensor
    x: Tensor


class _Corners(NamedTuple):
    """Bilinear interpolation of samples: four flat pixel indices and weights, each of the samples' shape."""

    place: list[Tensor]
    weight: list[Tensor]


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
    """Fill ``output``; for maximum pooling ``argmax_y`` and ``argmax_x`` as well. Signature of mmcv's.

    Args:
        input: (b, c, h, w) features. rois: (n, 5) image index and xyxy in pixels of the image.
        output: (n, c, aligned_height, aligned_width); argmax of the same shape, or empty.
        spatial_scale: feature pixels per image pixel.
        sampling_ratio: samples per bin and axis; 0 takes as many as the bin has pixels, rounded up.
        pool_mode: 0 maximum, 1 average.
        aligned: whether pixel centres are at half coordinates.

    Raises:
        ValueError: with ``aligned``, a box has a negative width or height (mmcv stops there too).
    """
    size = (aligned_height, aligned_width)
    flat = input.flatten(2)
    for piece in _pieces(rois, size, spatial_scale, sampling_ratio, aligned, input.shape[1]):
        image = rois[piece.rows, 0].long()
        y, x = _grid(piece)
        corners = _corners(y, x, input.shape[2], input.shape[3])
        samples = _interpolate(flat, image, corners).reshape(len(image), input.shape[1], *y.shape[1:])
        samples = samples.permute(0, 1, 2, 4, 3, 5).flatten(4)  # (r, c, ph, pw, gh * gw)
        if pool_mode == 1:
            output[piece.rows] = samples.sum(-1) / max(samples.shape[-1], 1)
        else:
            _take_maximum(samples, y, x, piece.rows, output, argmax_y, argmax_x)


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
    """Add the gradient of the features to ``grad_input`` (b, c, h, w). Signature of mmcv's.

    Arguments as in :func:`roi_align_forward`; ``grad_output`` is (n, c, aligned_height, aligned_width).
    """
    size = (aligned_height, aligned_width)
    channels, height, width = grad_input.shape[1:]
    flat = grad_input.view(grad_input.shape[0], channels, height * width)
    for piece in _pieces(rois, size, spatial_scale, sampling_ratio, aligned, channels):
        image = rois[piece.rows, 0].long()
        grad = grad_output[piece.rows]
        if pool_mode == 1:
            y, x = _grid(piece)
            count = y.shape[2] * y.shape[4]
            spread = (grad / max(count, 1))[:, :, :, None, :, None].expand(-1, -1, *y.shape[1:])
            corners = _corners(y, x, height, width)
            _scatter(flat, image, corners, spread.flatten(2))
        else:
            corners = _corners(argmax_y[piece.rows], argmax_x[piece.rows], height, width)
            # -1 is mmcv's mark of a bin without a sample.
            _scatter_each(flat, image, corners, grad * (argmax_y[piece.rows] != -1.0))


def _pieces(
    rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool, channels: int
) -> Iterator[_Piece]:
    """Groups of boxes with the same number of samples per bin, with the positions of their samples."""
    if len(rois) == 0:
        return
    shift = 0.5 if aligned else 0.0
    box = rois[:, 1:] * scale - shift
    extent = box[:, 2:] - box[:, :2]  # width, height
    if aligned and bool((extent < 0).any()):
        raise ValueError("roi_align: a box has a negative width or height")
    if not aligned:
        extent = extent.clamp(min=1.0)
    bins = extent / extent.new_tensor([size[1], size[0]])
    grid = torch.full_like(bins, ratio) if ratio > 0 else bins.ceil()
    for counts in torch.unique(grid.long(), dim=0).tolist():
        rows = (grid.long() == grid.new_tensor(counts).long()).all(1).nonzero()[:, 0]
        per_box = channels * size[0] * size[1] * max(counts[0] * counts[1], 1) * 4
        for part in rows.split(max(1, _ELEMENTS // per_box)):
            x = _positions(box[part, 0], bins[part, 0], size[1], counts[0])
            y = _positions(box[part, 1], bins[part, 1], size[0], counts[1])
            yield _Piece(part, y, x)


def _positions(start: Tensor, bin_size: Tensor, bins: int, count: int) -> Tensor:
    """(r, bins, count) sample positions along one axis."""
    step = torch.arange(count, dtype=start.dtype, device=start.device) + 0.5
    first = start[:, None] + torch.arange(bins, dtype=start.dtype, device=start.device) * bin_size[:, None]
    return first[:, :, None] + step * bin_size[:, None, None] / max(count, 1)


def _grid(piece: _Piece) -> tuple[Tensor, Tensor]:
    """Positions of all samples, both (r, ph, gh, pw, gw)."""
    y, x = piece.y[:, :, :, None, None], piece.x[:, None, None]
    shape = torch.broadcast_shapes(y.shape, x.shape)
    return y.expand(shape), x.expand(shape)


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> _Corners:
    """Interpolation at (y, x): more than one pixel outside counts nothing, less is moved to the border."""
    inside = ((y >= -1.0) & (y <= height) & (x >= -1.0) & (x <= width)).to(y.dtype)
    y_low, y_high, y_part = _axis(y, height)
    x_low, x_high, x_part = _axis(x, width)
    y_rest, x_rest = 1.0 - y_part, 1.0 - x_part
    return _Corners(
        [y_low * width + x_low, y_low * width + x_high, y_high * width + x_low, y_high * width + x_high],
        [
            y_rest * x_rest * inside,
            y_rest * x_part * inside,
            y_part * x_rest * inside,
            y_part * x_part * inside,
        ],
    )


def _axis(position: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper pixel and the share of the upper one, along one axis."""
    position = position.clamp(min=0)
    low = position.long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    return low, high, torch.where(low >= length - 1, torch.zeros_like(position), position - low)


def _interpolate(flat: Tensor, image: Tensor, corners: _Corners) -> Tensor:
    """(r, c, samples) of features (b, c, h * w)."""
    value = None
    for place, weight in zip(corners.place, corners.weight):
        picked = flat[image[:, None], :, place.flatten(1)].permute(0, 2, 1)  # (r, c, samples)
        term = picked * weight.flatten(1)[:, None]
        value = term if value is None else value + term
    assert value is not None
    return value


def _take_maximum(
    samples: Tensor, y: Tensor, x: Tensor, rows: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor
) -> None:
    """The largest sample of each bin (r, c, ph, pw, gh * gw) and where it was. The first of equal ones."""
    if samples.shape[-1] == 0:  # a box without area has no samples: mmcv leaves its start values
        output[rows], argmax_y[rows], argmax_x[rows] = _NOTHING, -1.0, -1.0
        return
    best = samples.max(-1, keepdim=True)[0]
    # torch's max names any of several equal places; mmcv keeps the first.
    count = torch.arange(samples.shape[-1], device=samples.device).expand_as(samples)
    first = torch.where(samples == best, count, torch.full_like(count, samples.shape[-1] - 1)).min(-1)[0]
    places = [
        coordinate.permute(0, 1, 3, 2, 4).flatten(3)[:, None].expand_as(samples) for coordinate in (y, x)
    ]
    has_maximum = best > _NOTHING
    for target, value, start in (
        (output, best, _NOTHING),
        (argmax_y, places[0], -1.0),
        (argmax_x, places[1], -1.0),
    ):
        picked = value if value is best else value.gather(-1, first[..., None])
        target[rows] = torch.where(has_maximum, picked, torch.full_like(picked, start))[..., 0]


def _scatter(flat: Tensor, image: Tensor, corners: _Corners, grad: Tensor) -> None:
    """Add ``grad`` (r, c, samples), the same samples for all channels, to ``flat`` (b, c, h * w)."""
    for place, weight in zip(corners.place, corners.weight):
        values = (grad * weight.flatten(1)[:, None]).permute(0, 2, 1)  # (r, samples, c)
        batch = image[:, None].expand(values.shape[:2])
        row = (batch * flat.shape[2] + place.flatten(1)).flatten()
        total = torch.zeros(
            flat.shape[0] * flat.shape[2], flat.shape[1], dtype=flat.dtype, device=flat.device
        )
        total.index_add_(0, row, values.reshape(-1, flat.shape[1]))
        flat += total.view(flat.shape[0], flat.shape[2], flat.shape[1]).permute(0, 2, 1)


def _scatter_each(flat: Tensor, image: Tensor, corners: _Corners, grad: Tensor) -> None:
    """Add ``grad`` (r, c, ph, pw), where each channel has samples of its own, to ``flat`` (b, c, h * w)."""
    channel = torch.arange(flat.shape[1], device=flat.device)[None, :, None, None]
    batch = image[:, None, None, None].expand_as(grad)
    for place, weight in zip(corners.place, corners.weight):
        flat.index_put_((batch, channel.expand_as(grad), place), grad * weight, accumulate=True)
