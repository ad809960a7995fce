"""ddqjobs.detect.ops against slow, obvious loops that follow mmcv's CPU operators. Needs torch."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # tiny tensors: threads only get in each other's way

from ddqjobs.detect import ops  # noqa: E402
from ddqjobs.detect.ops.device import on_its_device  # noqa: E402
from ddqjobs.detect.ops.nms import nms  # noqa: E402
from ddqjobs.detect.ops.roi_align import roi_align_backward, roi_align_forward  # noqa: E402


def slow_nms(boxes: Any, scores: Any, threshold: float, offset: int) -> list[int]:
    order = scores.sort(0, descending=True)[1].tolist()
    limit, box = np.float32(threshold), boxes.numpy()
    alive = [True] * len(order)
    for a, i in enumerate(order):
        if not alive[a]:
            continue
        for b in range(a + 1, len(order)):
            j = order[b]
            w = max(np.float32(0), min(box[i, 2], box[j, 2]) - max(box[i, 0], box[j, 0]) + np.float32(offset))
            h = max(np.float32(0), min(box[i, 3], box[j, 3]) - max(box[i, 1], box[j, 1]) + np.float32(offset))
            inter = w * h
            area = [
                (box[k, 2] - box[k, 0] + np.float32(offset)) * (box[k, 3] - box[k, 1] + np.float32(offset))
                for k in (i, j)
            ]
            with np.errstate(invalid="ignore"):
                if inter / (area[0] + area[1] - inter) > limit:
                    alive[b] = False
    return [i for a, i in enumerate(order) if alive[a]]


@pytest.mark.bits
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 24),
    st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_nms(seed: int, count: int, threshold: float, offset: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 15], 1)
    scores = torch.rand(count, generator=generator)
    if ties:  # whole coordinates and few scores: equal boxes, equal scores, overlaps of exactly the threshold
        boxes, scores = boxes.round(), (scores * 3).round() / 3
    assert nms(boxes, scores, threshold, offset).tolist() == slow_nms(boxes, scores, threshold, offset)


@pytest.mark.bits
def test_nms_over_several_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(700, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 20], 1)
    scores = torch.rand(700, generator=generator)
    assert nms(boxes, scores, 0.3).tolist() == slow_nms(boxes, scores, 0.3, 0)


def test_nms_at_the_threshold() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1]], dtype=torch.float32)
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1]
    assert nms(boxes[:0], torch.zeros(0), 0.5).dtype == torch.int64


def test_nms_keeps_boxes_without_area() -> None:
    boxes = torch.zeros(3, 4)
    assert nms(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.5).tolist() == [1, 2, 0]


def sample(y: float, x: float, height: int, width: int) -> list[tuple[int, int, float]]:
    """Pixels and weights of a bilinear sample."""
    if y < -1 or y > height or x < -1 or x > width:
        return []
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    ly = 0.0 if y0 == height - 1 else y - y0
    lx = 0.0 if x0 == width - 1 else x - x0
    return [
        (y0, x0, (1 - ly) * (1 - lx)),
        (y0, x1, (1 - ly) * lx),
        (y1, x0, ly * (1 - lx)),
        (y1, x1, ly * lx),
    ]


def slow_roi_align(
    features: Any,
    rois: Any,
    size: tuple[int, int],
    scale: float,
    ratio: int,
    mode: int,
    aligned: bool,
    weight: Any,
) -> tuple[Any, Any]:
    """Output, and gradient of the features for the gradient ``weight`` of the output. Double precision."""
    _, channels, height, width = features.shape
    pixels, weights = features.tolist(), weight.tolist()
    out = torch.zeros(len(rois), channels, *size, dtype=torch.float64)
    grad = torch.zeros_like(features)
    for n, roi in enumerate(rois.tolist()):
        image, shift = int(roi[0]), 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (v * scale - shift for v in roi[1:])
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        bh, bw = h / size[0], w / size[1]
        gh, gw = (ratio, ratio) if ratio > 0 else (math.ceil(bh), math.ceil(bw))
        for c in range(channels):
            for ph in range(size[0]):
                for pw in range(size[1]):
                    points = [
                        sample(
                            y1 + ph * bh + (iy + 0.5) * bh / gh,
                            x1 + pw * bw + (ix + 0.5) * bw / gw,
                            height,
                            width,
                        )
                        for iy in range(gh)
                        for ix in range(gw)
                    ]
                    values = [sum(pixels[image][c][y][x] * f for y, x, f in point) for point in points]
                    g = weights[n][c][ph][pw]
                    if mode == 1:
                        out[n, c, ph, pw] = sum(values) / max(len(points), 1)
                        shares = [(point, g / len(points)) for point in points]
                    else:
                        out[n, c, ph, pw] = max(values, default=-10000.0)
                        shares = [(points[values.index(max(values))], g)] if values else []
                    for corners, share in shares:
                        for y, x, f in corners:
                            grad[image, c, y, x] += share * f
    return out, grad


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_roi_align(seed: int, ratio: int, mode: int, aligned: bool, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(2, 2, 7, 9, generator=generator, dtype=torch.float64)
    corner = torch.rand(4, 2, generator=generator, dtype=torch.float64) * 14 - 4
    extent = torch.rand(4, 2, generator=generator, dtype=torch.float64) * 16
    extent[0] = 0  # a box without area
    image = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)[:, None]
    rois = torch.cat([image, corner, corner + extent], 1)
    weight = torch.rand(4, 2, 2, 3, generator=generator, dtype=torch.float64)
    expected = slow_roi_align(features, rois, (2, 3), scale, ratio, mode, aligned, weight)

    out = torch.zeros(4, 2, 2, 3, dtype=torch.float64)
    argmax: Any = [torch.zeros_like(out), torch.zeros_like(out)] if mode == 0 else [torch.zeros(0)] * 2
    options: Any = (2, 3, scale, ratio, mode, aligned)
    roi_align_forward(features, rois, out, argmax[0], argmax[1], *options)
    torch.testing.assert_close(out, expected[0], atol=1e-9, rtol=1e-9)
    grad = torch.zeros_like(features)
    roi_align_backward(weight, rois, argmax[0], argmax[1], grad, *options)
    torch.testing.assert_close(grad, expected[1], atol=1e-9, rtol=1e-9)


def test_roi_align_of_nothing_and_of_negative_boxes() -> None:
    features, out = torch.rand(1, 2, 4, 4), torch.zeros(0, 2, 2, 2)
    roi_align_forward(features, torch.zeros(0, 5), out, out, out, 2, 2, 1.0, 0, 1, True)
    box = torch.tensor([[0, 3.0, 3.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="negative"):
        roi_align_forward(features, box, torch.zeros(1, 2, 2, 2), out, out, 2, 2, 1.0, 0, 1, True)


def test_stand_in_has_every_operator_and_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("mmcv")
    package.__path__ = []
    package.__spec__ = importlib.util.spec_from_loader("mmcv", None)
    monkeypatch.setitem(sys.modules, "mmcv", package)
    monkeypatch.delitem(sys.modules, ops.NAME, raising=False)
    assert ops.install()
    assert ops.install()
    extension = sys.modules[ops.NAME]
    assert importlib.util.find_spec(ops.NAME) is extension.__spec__
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    assert extension.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() == [1]
    assert hasattr(extension, "softnms")
    with pytest.raises(ops.MissingOp, match=r"softnms.*compiled"):
        extension.softnms(1, 2)
    with pytest.raises(AttributeError):
        extension._private  # noqa: B018
    monkeypatch.delitem(sys.modules, ops.NAME)


def test_kernels_run_on_the_gpu_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: two are pretended, of which the first is the current."""
    current = [0]

    @contextlib.contextmanager
    def device(target: Any) -> Iterator[None]:
        current.append(target.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", device)
    launch = on_its_device(lambda first, more: (current[-1], more))
    tensors = [types.SimpleNamespace(is_cuda=True, device=types.SimpleNamespace(index=n)) for n in (0, 1)]
    assert [launch(tensor, more=7) for tensor in tensors] == [(0, 7), (1, 7)]
    assert current == [0]
    assert launch(torch.zeros(1), 7) == (0, 7)


def test_compiled_operators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = types.ModuleType(ops.NAME)
    monkeypatch.setitem(sys.modules, ops.NAME, compiled)
    assert not ops.install()
    assert sys.modules[ops.NAME] is compiled
