"""The Triton operators against float64 and against the CPU's rule: on the GPU where there is one, else in
Triton's interpreter. Needs torch and triton."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined, Triton's own ones included
triton = pytest.importorskip("triton")
torch.set_num_threads(1)

from ddqjobs.detect.ops import deformable_attention as attention  # noqa: E402
from ddqjobs.detect.ops import (  # noqa: E402
    distinct,
    focal_kernels,
    focal_loss,
    nms,
    nms_kernels,
    rows_kernels,
    shuffle_kernels,
    sum_kernels,
)
from ddqjobs.detect.ops import roi_align as by_torch  # noqa: E402
from ddqjobs.detect.ops import roi_align_kernels as by_kernels  # noqa: E402


@triton.jit  # type: ignore[untyped-decorator]
def count_kernel(out: Any, count: Any) -> None:
    """A loop whose end is an argument, which the interpreter makes an array of one element."""
    for step in range(count):
        triton.language.store(out, step)


def require_interpreter() -> None:
    """Skip this file where Triton's interpreter and NumPy do not go together."""
    numpy = pytest.importorskip("numpy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            count_kernel[(1,)](torch.zeros(1, dtype=torch.int32), 2)
    except triton.runtime.errors.InterpreterError as error:
        if "0-dimensional" not in str(error):
            raise
        pytest.skip(
            f"Triton {triton.__version__}'s interpreter does not work with NumPy {numpy.__version__}; "
            "tests/triton-requirements.txt names versions that go together",
            allow_module_level=True,
        )


if DEVICE == "cpu":
    require_interpreter()
# The interpreter's own: it computes on masked elements, and turns arrays of one element into numbers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
    *([pytest.mark.gpu] if DEVICE == "cuda" else []),
]
# levels, heads, size of a head, points, queries: powers of two and others, a level of one pixel
CASES: list[Any] = [
    (((5, 7), (3, 4)), 2, 4, 2, 6),
    (((6, 5), (3, 3), (2, 2), (1, 1)), 2, 8, 4, 5),
    (((4, 3),), 3, 12, 3, 9),
    (((3, 2), (2, 2), (2, 1), (1, 2), (1, 1)), 1, 5, 1, 4),
]


def inputs(case: Any, dtype: Any) -> tuple[Any, ...]:
    shapes, heads, size, points, queries = case
    g = torch.Generator().manual_seed(sum(map(sum, shapes)))
    value = torch.randn(2, sum(h * w for h, w in shapes), heads, size, generator=g, dtype=torch.float64)
    # Locations from far outside to far inside. Not on pixel centres: the gradient has two values there.
    location = (
        torch.rand(2, queries, heads, len(shapes), points, 2, generator=g, dtype=torch.float64) * 1.8 - 0.4
    )
    weight = torch.rand(2, queries, heads, len(shapes), points, generator=g, dtype=torch.float64)
    grad = torch.randn(2, queries, heads * size, generator=g, dtype=torch.float64)
    return tuple(t.to(DEVICE, dtype) for t in (value, location, weight, grad))


def by_grid_sample(value: Any, shapes: Any, location: Any, weight: Any) -> Any:
    """Equation 3 of Deformable DETR with torch's own interpolation."""
    batch, _, heads, size = value.shape
    queries = location.shape[1]
    total: Any = 0
    maps = value.split([h * w for h, w in shapes], dim=1)
    for level, ((height, width), pixels) in enumerate(zip(shapes, maps, strict=True)):
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, size, height, width)
        grid = 2 * location[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = torch.nn.functional.grid_sample(image, grid, "bilinear", "zeros", align_corners=False)
        share = weight[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
        total = total + (sampled * share).sum(-1)
    return total.view(batch, heads * size, queries).transpose(1, 2)


def run(function: Any, value: Any, location: Any, weight: Any, grad: Any) -> list[Any]:
    leaves = [t.clone().requires_grad_() for t in (value, location, weight)]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


@pytest.mark.parametrize("case", CASES)
def test_deformable_attention_and_its_gradients(case: Any) -> None:
    shapes = torch.tensor(case[0], device=DEVICE)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        tensors = inputs(case, dtype)
        results = run(
            lambda v, locations, w: attention.deformable_attention(v, shapes, locations, w), *tensors
        )
        expected = run(
            lambda v, locations, w: by_grid_sample(v, case[0], locations, w), *(t.double() for t in tensors)
        )
        for a, b in zip(results, expected, strict=True):
            assert a.dtype == dtype
            assert float((a.double() - b).norm()) <= tolerance * float(b.norm())


@pytest.mark.parametrize("most", [2048, 4])
@pytest.mark.parametrize("case", CASES)
def test_both_ways_to_the_gradients(case: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pixels, as for a decoder, sorted in one part or in several, and by cells, as for an encoder; each
    gives the same bits again."""
    monkeypatch.setattr(attention, "_MOST", most)
    levels = attention.Levels(case[0], DEVICE)
    value, location, weight, grad = inputs(case, torch.float64)
    location[:, 1::2] = location[:, :1]  # many samples in one cell, and in cells beside each other
    exact = run(
        lambda v, locations, w: by_grid_sample(v, case[0], locations, w), value, location, weight, grad
    )
    for way in (attention.by_pixels, attention.by_cells):
        gradients, again = (way(value, levels, location, weight, grad) for _ in range(2))
        for a, b, c in zip(gradients, exact[1:], again, strict=True):
            assert float((a - b).norm()) <= 1e-12 * float(b.norm())
            assert torch.equal(a, c)


@pytest.mark.parametrize("points", [1, 3, 4, 5, 12, 3000])
def test_a_part_is_no_larger_than_its_key_allows(points: int) -> None:
    """Cell and sample share 32 bits, and `backward` relies on so many for the sample."""
    most = max(attention._MOST, triton.next_power_of_2(points))
    for queries in range(1, attention.FEW + 1):
        parts, part = attention._parts(queries, points)
        assert (parts - 1) * part < queries <= parts * part
        assert triton.next_power_of_2(part * points) <= most


@pytest.mark.parametrize("what", ["gradient", "weight"])
def test_a_sample_outside_has_no_gradient_even_where_it_overflowed(what: str) -> None:
    """As under a gradient scaler that tries too large a scale."""
    levels = attention.Levels(CASES[0][0], DEVICE)
    value, location, weight, grad = inputs(CASES[0], torch.float32)
    location[:, 0] = 5.0
    (grad if what == "gradient" else weight)[:, 0] = torch.inf
    for way in (attention.by_pixels, attention.by_cells):
        gradients = way(value, levels, location, weight, grad)
        assert not gradients[1][:, 0].any()
        assert not gradients[2][:, 0].any()
        assert all(torch.isfinite(t).all() for t in gradients)


def test_derivative_of_deformable_attention() -> None:
    value, location, weight, _ = inputs(CASES[0], torch.float64)
    location = location[:, 1:3] * 0.37 + 0.21  # away from pixel centres, where it has none
    leaves = [t.clone().requires_grad_() for t in (value, location, weight[:, 1:3])]
    shapes = torch.tensor(CASES[0][0], device=DEVICE)
    assert torch.autograd.gradcheck(
        lambda v, locations, w: attention.deformable_attention(v, shapes, locations, w),
        leaves,
        fast_mode=True,
    )


def test_in_inference_mode() -> None:
    value, location, weight, _ = inputs(CASES[0], torch.float32)
    shapes = torch.tensor(CASES[0][0], device=DEVICE)
    expected = attention.deformable_attention(value, shapes, location, weight)
    with torch.inference_mode():
        for shapes in (torch.tensor(CASES[0][0], device=DEVICE), torch.tensor(CASES[0][0], device=DEVICE)):
            assert torch.equal(attention.deformable_attention(value, shapes, location, weight), expected)
            attention.remember(shapes, CASES[0][0])


def test_what_does_not_belong_together_is_refused() -> None:
    value, location, weight, _ = inputs(CASES[0], torch.float32)
    with pytest.raises(ValueError, match="do not belong together"):
        attention.forward(value, attention.Levels([(5, 7)], DEVICE), location, weight)
    turned = value.transpose(1, 2).contiguous().transpose(1, 2)
    with pytest.raises(ValueError, match="contiguous"):
        attention.forward(turned, attention.Levels(CASES[0][0], DEVICE), location, weight)


def test_levels_are_read_again_when_their_tensor_changes() -> None:
    shapes = torch.tensor([[5, 7], [3, 4]], device=DEVICE)
    assert attention.levels_of(shapes) is attention.levels_of(shapes)
    shapes[0, 0] = 2
    assert attention.levels_of(shapes).shapes == ((2, 7), (3, 4))


@pytest.mark.bits
@pytest.mark.parametrize(
    ("count", "threshold", "offset"), [(1, 0.5, 0), (40, 0.3, 0), (200, 0.8, 1), (300, 0.2, 0)]
)
def test_nms_is_the_one_of_the_cpu(count: int, threshold: float, offset: int) -> None:
    g = torch.Generator().manual_seed(count)
    corner = (
        torch.rand(count, 2, generator=g) * 60
    ).round()  # whole pixels: overlaps of exactly the threshold
    boxes = torch.cat([corner, corner + (torch.rand(count, 2, generator=g) * 25).round()], 1)
    scores = torch.randperm(count, generator=g).float()
    indices = nms_kernels.nms(boxes.to(DEVICE), scores.to(DEVICE), threshold, offset)
    assert indices.tolist() == nms.nms(boxes, scores, threshold, offset).tolist()


def test_nms_of_equal_scores_keeps_the_order_of_the_boxes() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], dtype=torch.float32)
    boxes, scores = boxes.to(DEVICE), torch.ones(3, device=DEVICE)
    assert nms_kernels.nms(boxes, scores, 0.5).tolist() == [0, 2]
    assert nms_kernels.nms(boxes[:0], scores[:0], 0.5).dtype == torch.int64


@pytest.mark.bits
@pytest.mark.parametrize("most", [7, 90])
def test_distinct_boxes_of_a_batch(most: int) -> None:
    g = torch.Generator().manual_seed(most)
    corner = torch.rand(2, 90, 2, generator=g) * 50
    boxes = torch.cat([corner, corner + torch.rand(2, 90, 2, generator=g) * 30], 2)
    scores = torch.rand(2, 90, generator=g)
    valid = torch.rand(2, 90, generator=g) > 0.3
    keep, first = distinct.distinct(boxes, scores, 0.4, most, valid)
    # The same through the kernels, as on a GPU.
    boxes, scores, valid = (t.to(DEVICE) for t in (boxes, scores, valid))
    ranked = torch.where(valid, scores, -torch.inf).sort(dim=1, descending=True, stable=True)[1]
    image = torch.arange(2, device=DEVICE)[:, None]
    highest = torch.where(valid[..., None], boxes, -torch.inf).amax((1, 2))
    moved = boxes + (highest + 1)[:, None, None]
    alive = valid.sum(1, dtype=torch.int32)
    selection = nms_kernels.keep_sorted(moved[image, ranked], ranked, alive, 0.4, 0, most)
    assert torch.equal(selection[0].cpu(), keep)
    assert torch.equal(selection[1].cpu(), first)
    assert not keep[~valid.cpu()].any()
    assert keep.sum(1).tolist() == (first >= 0).sum(1).tolist()


@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_focal_loss_and_its_derivative(gamma: float) -> None:
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(40, 7, generator=g) * 2
    labels = torch.randint(0, 8, (40,), generator=g)  # 7 is background
    exact = logits.double().requires_grad_()
    positive = torch.nn.functional.one_hot(labels, 8)[:, :7].double()
    probability = exact.sigmoid()
    log = torch.nn.functional.logsigmoid
    loss = -(
        0.25 * positive * (1 - probability) ** gamma * log(exact)
        + 0.75 * (1 - positive) * probability**gamma * log(-exact)
    )
    loss.sum().backward()
    logits, labels = logits.to(DEVICE), labels.to(DEVICE)
    for module in (focal_loss, focal_kernels):
        out, grad = torch.empty_like(logits), torch.empty_like(logits)
        module.sigmoid_focal_loss_forward(logits, labels, logits.new_empty(0), out, gamma, 0.25)
        module.sigmoid_focal_loss_backward(logits, labels, logits.new_empty(0), grad, gamma, 0.25)
        torch.testing.assert_close(out.double().cpu(), loss.detach(), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(grad.double().cpu(), exact.grad, atol=1e-6, rtol=1e-4)


def test_focal_loss_with_weights_per_class() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    labels = torch.tensor([0, 1, 2, 3, 0, 3], device=DEVICE)
    plain, weighted = torch.empty_like(logits), torch.empty_like(logits)
    focal_kernels.sigmoid_focal_loss_forward(logits, labels, logits.new_empty(0), plain, 2.0, 0.25)
    of_classes = torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
    focal_kernels.sigmoid_focal_loss_forward(logits, labels, of_classes, weighted, 2.0, 0.25)
    factor = torch.tensor([1.0, 2.0, 3.0, 0.0, 1.0, 0.0], device=DEVICE)[:, None]
    torch.testing.assert_close(weighted, plain * factor, atol=1e-5, rtol=1e-4)


def roi_inputs() -> tuple[Any, ...]:
    """Features of several tiles, boxes that reach outside, one without area, and a gradient: float64."""
    g = torch.Generator().manual_seed(5)
    features = torch.randn(2, 3, 10, 11, generator=g, dtype=torch.float64)
    corner = torch.rand(4, 2, generator=g, dtype=torch.float64) * 18 - 5
    extent = torch.rand(4, 2, generator=g, dtype=torch.float64) * 20
    extent[0] = 0
    image = torch.tensor([0.0, 1, 1, 0], dtype=torch.float64)[:, None]
    grad = torch.randn(4, 3, 2, 3, generator=g, dtype=torch.float64)
    return features, torch.cat([image, corner, corner + extent], 1), grad


def align(module: Any, features: Any, rois: Any, grad: Any, *options: Any, start: float = 0.0) -> list[Any]:
    """Output, and the gradient of the features on top of ``start``."""
    out, feature_grad, none = (
        torch.full_like(grad, 7.0),
        torch.full_like(features, start),
        features.new_empty(0),
    )
    rest = (2, 3, *options)
    if options[2] == 0:  # maxima
        none = torch.zeros_like(grad)
    places = (none, none.clone())
    module.roi_align_forward(features, rois, out, *places, *rest)
    module.roi_align_backward(grad, rois, *places, feature_grad, *rest)
    return [out, feature_grad]


@pytest.mark.parametrize("options", [(0.3, 0, 1, False), (0.5, 2, 1, True)], ids=str)
def test_roi_align_and_its_gradient(options: Any) -> None:
    """scale, samples per bin and axis, average, aligned: as the form in torch in float64."""
    tensors = roi_inputs()
    exact = align(by_torch, *tensors, *options, start=1.0)
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        moved = [t.to(DEVICE, dtype) for t in tensors]
        results = align(by_kernels, *moved, *options, start=1.0)
        for a, b in zip(results, exact, strict=True):
            assert a.dtype == dtype
            assert float((a.double().cpu() - b).norm()) <= tolerance * float(b.norm())
    again = align(by_kernels, *moved, *options, start=1.0)
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))


def test_roi_align_of_maxima_and_of_features_that_are_not_contiguous() -> None:
    """Those go through torch."""
    features, rois, grad = (t.to(DEVICE) for t in roi_inputs())
    for feature_map, options in (
        (features, (0.5, 2, 0, True)),
        (features.contiguous(memory_format=torch.channels_last), (0.5, 2, 1, True)),
    ):
        results, expected = (
            align(module, feature_map, rois, grad, *options) for module in (by_kernels, by_torch)
        )
        assert all(torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in zip(results, expected, strict=True))


def test_roi_align_of_nothing_and_of_boxes_that_are_no_numbers() -> None:
    features, rois, grad = (t.to(DEVICE) for t in roi_inputs())
    for ratio in (0, 2):
        out, feature_grad = align(by_kernels, features, rois[:0], grad[:0], 0.5, ratio, 1, True)
        assert out.numel() == 0
        assert not feature_grad.any()
    out, feature_grad = align(by_kernels, features, rois * torch.nan, grad, 0.5, 0, 1, True)
    assert not out.any()
    assert not feature_grad.any()


def shuffled(feats: Any, size: int) -> list[Any]:
    """``DDQFCNHead.shuffle`` with torch's resize of a deterministic training."""
    from torch._decomp.decompositions import _upsample_linear_vec as resize

    own, mixed = feats[0].shape[1] - 2 * size, []
    for level, feat in enumerate(feats):
        above, below = feats[min(level + 1, len(feats) - 1)], feats[max(level - 1, 0)]
        taken = (above[:, own + size :], below[:, own : own + size])
        parts = [resize(part, list(feat.shape[-2:]), True, None) for part in taken]
        mixed.append(torch.cat([feat[:, :own], *parts], 1))
    return mixed


@pytest.mark.bits
@pytest.mark.parametrize("sizes", [[(6, 7), (3, 4), (1, 2)], [(4, 3)]], ids=str)
def test_the_pyramid_shuffle_has_the_bits_of_torchs_deterministic_one(sizes: Any) -> None:
    """In a training's size on a GPU, where torch sums in another way for few channels."""
    g, channels, size = torch.Generator().manual_seed(2), 5, 2
    if DEVICE == "cuda":
        channels, size = 256, 64
        torch.use_deterministic_algorithms(True)
        sizes = [(8 * height, 8 * width) for height, width in sizes]
    feats, grads = ([torch.randn(2, channels, *s, generator=g).to(DEVICE) for s in sizes] for _ in range(2))
    results = []
    for way in (lambda x: shuffled(x, size), lambda x: shuffle_kernels.Shuffle.apply(size, *x)):
        leaves = [feat.clone().requires_grad_() for feat in feats]
        out = way(leaves)
        results.append([*out, *torch.autograd.grad(out, leaves, grads)])
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_rows_and_their_gradient() -> None:
    table = torch.arange(21.0, device=DEVICE).view(7, 3).requires_grad_()
    index = torch.tensor([5, -1, 0, 6], device=DEVICE)
    rows = rows_kernels.Rows.apply(table, index)
    assert rows.tolist() == [[15.0, 16, 17], [0, 0, 0], [0, 1, 2], [18, 19, 20]]
    (gradient,) = torch.autograd.grad((rows * rows.new_tensor([[1], [2], [3], [4]])).sum(), table)
    assert gradient[:, 0].tolist() == [3, 0, 0, 0, 0, 1, 4]


def test_losses_are_added_one_after_the_other() -> None:
    """1e8 + 1 - 1e8 is 0 in float32, and 1e8 - 1e8 + 1 is 1."""
    values = torch.tensor([1e8, 1.0, -1e8, 5.0, 1e8, -1e8, 1.0], device=DEVICE).requires_grad_()
    marks = torch.tensor([2, 2, 2, 1, 0, 0, 2], dtype=torch.int32, device=DEVICE)
    counted = torch.tensor([1.0, 1, 1, 0, 1, 1, 1], device=DEVICE)
    total, sums = sum_kernels.Sums.apply(values, marks, counted)
    assert sums.tolist()[:6] == [1.0, 1e8, 1.0, -1e8, 5.0, 1.0]
    assert float(total.detach()) == 1.0
    assert torch.autograd.grad(total, values)[0].tolist() == counted.tolist()
