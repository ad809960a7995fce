"""One forward and backward of every operator that a detector may need, against a reference in float64.

The references are written from the definitions, in plain torch, and share no code with mmcv or with our own
operators. Works with mmcv 1.4 to 2.1, compiled or not, on the CPU and on a GPU. Each ``check_*`` raises
:class:`Wrong`; values are compared with a relative tolerance of float32's own rounding over such sums.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

_RTOL, _ATOL = 1e-4, 1e-5


class Wrong(Exception):
    """An operator's result is not the known one."""


def check_nms(device: str) -> None:
    """200 boxes with whole corners, so that no overlap is decided by rounding; one at the threshold."""
    from mmcv.ops import nms

    corner = _whole(200, 2, 0, 60)
    boxes = torch.cat([corner, corner + _whole(200, 2, 5, 40)], 1)
    scores = torch.randperm(200, generator=_random()).float() / 200
    # Overlaps of exactly the threshold stay: two boxes of 100 and 50, far from the others.
    boxes = torch.cat([boxes, torch.tensor([[900.0, 900, 910, 910], [900, 900, 910, 905]])])
    scores = torch.cat([scores, torch.tensor([0.9975, 0.9925])])
    kept = nms(boxes.to(device), scores.to(device), 0.5)[1].cpu()
    wanted = nms_reference(boxes.double(), scores, 0.5)
    if kept.tolist() != wanted:
        raise Wrong(f"nms keeps boxes {kept.tolist()[:8]}..., not {wanted[:8]}...")


def nms_reference(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """Indices that stay, by falling score: a box goes if it overlaps a better one by more than that."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for index in scores.argsort(descending=True).tolist():
        low = torch.max(boxes[index, :2], boxes[kept, :2])
        high = torch.min(boxes[index, 2:], boxes[kept, 2:])
        common = (high - low).clamp(min=0).prod(1)
        overlap = common / (areas[index] + areas[kept] - common)
        if not bool((overlap > threshold).any()):
            kept.append(index)
    return kept


def check_roi_align(device: str) -> None:
    """Three boxes of two images, averaged, aligned, two samples a bin and side; one reaches outside."""
    from mmcv.ops import roi_align

    features = _normal(2, 3, 8, 10)
    rois = torch.tensor([[0, 1.0, 2.0, 13.0, 9.5], [1, 0.3, 0.7, 6.2, 15.1], [1, -4.0, 3.0, 25.0, 8.0]])

    def ours(value: Tensor) -> Tensor:
        return roi_align(value, rois.to(value), (2, 3), 0.5, 2, "avg", True)

    def reference(value: Tensor) -> Tensor:
        return roi_align_reference(value, rois.to(value), (2, 3), 0.5, 2)

    _compare("roi_align", ours, reference, features, device)


def roi_align_reference(value: Tensor, rois: Tensor, size: Any, scale: float, samples: int) -> Tensor:
    """(k, C, *size): means of samples on a regular grid of each bin (He et al., "Mask R-CNN", ICCV 2017),
    pixel centres at whole numbers after a shift by half a pixel."""
    rows = []
    for roi in rois:
        x1, y1, x2, y2 = (roi[1:] * scale - 0.5).unbind()
        y = y1 + (y2 - y1) * (torch.arange(size[0] * samples).to(value) + 0.5) / (size[0] * samples)
        x = x1 + (x2 - x1) * (torch.arange(size[1] * samples).to(value) + 0.5) / (size[1] * samples)
        image = value[int(roi[0])]
        sampled = torch.stack([torch.stack([_at_border(image, v, u) for u in x]) for v in y])
        grid = sampled.reshape(size[0], samples, size[1], samples, -1).mean(3).mean(1)
        rows.append(grid.permute(2, 0, 1))
    return torch.stack(rows)


def check_deformable_attention(device: str) -> None:
    """Two images, two heads, two levels, three points; some samples fall outside."""
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = torch.tensor([[6, 4], [3, 2]])
    start = torch.tensor([0, 24])
    value = _normal(2, 30, 2, 8)
    places = torch.rand(2, 5, 2, 2, 3, 2, generator=_random()) * 1.2 - 0.1
    weights = torch.rand(2, 5, 2, 2, 3, generator=_random())
    weights = weights / weights.sum((-1, -2), keepdim=True)

    def ours(value: Tensor) -> Tensor:
        rest = [t.to(value.device) for t in (shapes, start)]
        if device == "cpu":  # what mmcv's own module does there
            return multi_scale_deformable_attn_pytorch(value, rest[0], places, weights)
        return MultiScaleDeformableAttnFunction.apply(value, *rest, places.to(value), weights.to(value), 64)

    def reference(value: Tensor) -> Tensor:
        return attention_reference(value, shapes, places.to(value), weights.to(value))

    _compare("deformable attention", ours, reference, value, device)


def attention_reference(value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """(images, queries, heads x channels): equation 3 of Zhu et al., "Deformable DETR", ICLR 2021."""
    images, queries, heads, _, points, _ = places.shape
    begin, out = 0, value.new_zeros(images, queries, heads, value.shape[-1])
    for level, (height, width) in enumerate(shapes.tolist()):
        part = value[:, begin : begin + height * width].reshape(images, height, width, heads, -1)
        begin += height * width
        for n in range(images):
            for head in range(heads):
                image = part[n, :, :, head].permute(2, 0, 1)
                for query in range(queries):
                    for point in range(points):
                        x, y = places[n, query, head, level, point].unbind()
                        sample = _at_outside(image, y * height - 0.5, x * width - 0.5)
                        term = weights[n, query, head, level, point] * sample
                        out = out.index_put((_i(n), _i(query), _i(head)), term[None], accumulate=True)
    return out.flatten(2)


def check_focal_loss(device: str) -> None:
    """Through mmdet's loss, which takes mmcv's operator on a GPU and its own formula on the CPU."""
    from mmdet.models.losses import FocalLoss

    target = torch.tensor([0, 2, 3, 1, 3])  # 3: background
    loss = FocalLoss(use_sigmoid=True, gamma=2.0, alpha=0.25, reduction="none", loss_weight=1.0)

    def ours(logits: Tensor) -> Tensor:
        values: Tensor = loss(logits, target.to(logits.device))
        return values

    def reference(logits: Tensor) -> Tensor:
        return focal_loss_reference(logits, target, 2.0, 0.25)

    _compare("sigmoid_focal_loss", ours, reference, 3 * _normal(5, 3), device)


def focal_loss_reference(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """(n, classes): equation 5 of Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017."""
    positive = target[:, None] == torch.arange(logits.shape[1])
    probability = torch.sigmoid(logits)
    good = -alpha * (1 - probability) ** gamma * torch.log(probability)
    return torch.where(positive, good, -(1 - alpha) * probability**gamma * torch.log(1 - probability))


CHECKS: dict[str, Callable[[str], None]] = {
    "nms": check_nms,
    "roi_align": check_roi_align,
    "deformable_attention": check_deformable_attention,
    "sigmoid_focal_loss": check_focal_loss,
}


def _compare(
    name: str,
    ours: Callable[[Tensor], Tensor],
    reference: Callable[[Tensor], Tensor],
    data: Tensor,
    device: str,
) -> None:
    """Result and gradient of a weighted sum of it, in float32 on the device and in float64 here."""
    x = data.clone().to(device).requires_grad_()
    y = data.double().requires_grad_()
    result, wanted = ours(x), reference(y)
    if tuple(result.shape) != tuple(wanted.shape):
        raise Wrong(f"{name} gives a tensor of {tuple(result.shape)}, not {tuple(wanted.shape)}")
    factors = torch.randn(wanted.shape, generator=_random())
    (result * factors.to(device)).sum().backward()
    (wanted * factors.double()).sum().backward()
    for what, a, b in (("result", result, wanted), ("gradient", x.grad, y.grad)):
        gap = (a.detach().cpu().double() - b.detach()).abs()
        if not bool((gap <= _ATOL + _RTOL * b.detach().abs()).all()):
            raise Wrong(f"the {what} of {name} is wrong by up to {float(gap.max()):.3g}")


def _at_border(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(C,) bilinear sample; up to one pixel outside counts as the border, farther out as zero."""
    height, width = image.shape[-2:]
    if not (-1.0 <= float(y) <= height and -1.0 <= float(x) <= width):
        return image.new_zeros(image.shape[0])
    return _bilinear(image, y.clamp(0, height - 1), x.clamp(0, width - 1))


def _at_outside(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(C,) bilinear sample; every pixel outside is zero."""
    return _bilinear(image, y, x)


def _bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    out = image.new_zeros(image.shape[0])
    for row in (int(y.floor()), int(y.floor()) + 1):
        for column in (int(x.floor()), int(x.floor()) + 1):
            if 0 <= row < height and 0 <= column < width:
                out = out + image[:, row, column] * (1 - (y - row).abs()) * (1 - (x - column).abs())
    return out


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_random())


def _whole(rows: int, columns: int, low: int, high: int) -> Tensor:
    generator = torch.Generator().manual_seed(low + high)
    return torch.randint(low, high, (rows, columns), generator=generator).float()


def _i(number: int) -> Tensor:
    return torch.tensor([number])
