"""Operators on this GPU against the CPU and against float64. ``python -m tests.bench.gpu.checks OUT.json``

Exit code 1, with a line on stderr for each, if a check failed, if nms or the distinct boxes are not the CPU's
to the last bit, or if an error of the others is no rounding.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from triton.testing import do_bench

from ddqjobs.detect.ops import (
    distinct,
    focal_kernels,
    focal_loss,
    nms,
    nms_kernels,
    roi_align,
    roi_align_kernels,
)
from tests.bench.gpu import verdict
from tests.bench.gpu.attention import bandwidth

# Relative errors that are no rounding of float32 any more.
LARGEST = {"check_focal": 1e-4, "check_roi_align": 1e-4}


def boxes(count: int, seed: int) -> tuple[Any, Any]:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g)
    return torch.cat([corner, corner + torch.rand(count, 2, generator=g) * 0.2], 1), torch.randperm(
        count, generator=g
    ) / count  # no two alike


def check_nms() -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for count in (1, 33, 900, 2446, 22223):
        box, score = boxes(count, count)
        same = [
            torch.equal(nms_kernels.nms(box.cuda(), score.cuda(), t).cpu(), nms.nms(box, score, t))
            for t in (0.3, 0.8)
        ]
        on_gpu = (box.cuda(), score.cuda())
        rows[str(count)] = {
            "same": same,
            "ms": do_bench(lambda g=on_gpu: nms_kernels.nms(*g, 0.8), return_mode="median"),
        }
    import torchvision

    box, score = (t.cuda() for t in boxes(22223, 1))
    rows["torchvision 22223 ms"] = do_bench(
        lambda: torchvision.ops.nms(box, score, 0.8), return_mode="median"
    )
    two = box.expand(2, -1, -1).contiguous(), score.expand(2, -1).contiguous()
    rows["distinct 2x22223, 900 ms"] = do_bench(
        lambda: distinct.distinct(*two, 0.8, 900), return_mode="median"
    )
    small = two[0][:, :900].contiguous(), two[1][:, :900].contiguous()
    rows["distinct 2x900 ms"] = do_bench(lambda: distinct.distinct(*small, 0.8, 900), return_mode="median")
    a, b = distinct.distinct(*two, 0.8, 900), distinct.distinct(two[0].cpu(), two[1].cpu(), 0.8, 900)
    rows["distinct same"] = [torch.equal(x.cpu(), y) for x, y in zip(a, b)]
    return rows


def check_focal() -> dict[str, Any]:
    # Not up to the logits where 1 - p is 0 in float32 and mmcv's rule stops the logarithm.
    x = torch.randn(5000, 80, device="cuda", generator=torch.Generator("cuda").manual_seed(0)) * 2
    t = torch.randint(0, 81, (5000,), device="cuda")
    none = x.new_empty(0)
    out = [torch.empty_like(x) for _ in range(2)]
    exact = [torch.empty_like(x, dtype=torch.float64) for _ in range(2)]
    for module, target, logits in ((focal_kernels, out, x), (focal_loss, exact, x.double())):
        module.sigmoid_focal_loss_forward(logits, t, none, target[0], 2.0, 0.25)
        module.sigmoid_focal_loss_backward(logits, t, none, target[1], 2.0, 0.25)
    run: Callable[[], Any] = lambda: focal_kernels.sigmoid_focal_loss_forward(x, t, none, out[0], 2.0, 0.25)
    return {
        "errors": [float((a - b).norm() / b.norm()) for a, b in zip(out, exact)],
        "ms": do_bench(run, return_mode="median"),
    }


def check_roi_align() -> dict[str, Any]:
    """Against torchvision and float64; the floors read and write everything once."""
    import torchvision

    feature = torch.randn(2, 256, 100, 168, device="cuda", requires_grad=True)
    box, _ = boxes(600, 3)
    rois = torch.cat([torch.arange(600)[:, None] % 2, box * 1000], 1).float().cuda()
    out, grad = feature.new_empty(600, 256, 7, 7), torch.randn(600, 256, 7, 7, device="cuda")
    none, options = feature.new_empty(0), (7, 7, 0.125, 2, 1, True)
    plain, feature_grad = feature.detach(), torch.zeros_like(feature)
    again = torch.zeros_like(feature)

    def forward(module: Any, features: Any, to: Any) -> None:
        module.roi_align_forward(features, rois.to(features), to, none, none, *options)

    def backward(module: Any, gradient: Any, to: Any) -> None:
        module.roi_align_backward(gradient, rois.to(gradient), none, none, to.zero_(), *options)

    exact = [t.detach().double().clone() for t in (out, feature)]
    forward(roi_align, plain.double(), exact[0])
    backward(roi_align, grad.double(), exact[1])
    forward(roi_align_kernels, plain, out)
    backward(roi_align_kernels, grad, feature_grad)
    backward(roi_align_kernels, grad, again)
    theirs = torchvision.ops.roi_align(feature, rois, 7, 0.125, 2, True)
    ways: dict[str, Callable[[], Any]] = {
        "ms": lambda: forward(roi_align_kernels, plain, out),
        "backward ms": lambda: backward(roi_align_kernels, grad, again),
        "torchvision ms": lambda: torchvision.ops.roi_align(plain, rois, 7, 0.125, 2, True),
        "torchvision backward ms": lambda: torch.autograd.grad(theirs, feature, grad, retain_graph=True),
        "torch ms": lambda: forward(roi_align, plain, out),
        "torch backward ms": lambda: backward(roi_align, grad, again),
    }
    pair = ((out, exact[0]), (feature_grad, exact[1]))
    backward(roi_align_kernels, grad, again)
    repeats = bool(torch.equal(feature_grad, again))
    return {
        "errors": [float((a - b).norm() / b.norm()) for a, b in pair],
        "repeats": repeats,
        "floor ms": (plain.numel() + out.numel()) * 4 / bandwidth() * 1e3,
        **{name: do_bench(way, return_mode="median") for name, way in ways.items()},
    }


def judge(name: str, result: Any) -> str:
    """Describe the fault of a check's result; empty if there is none."""
    if isinstance(result, str):
        return result
    if name == "check_nms":
        same = {count: row["same"] for count, row in result.items() if isinstance(row, dict)}
        same["distinct"] = result["distinct same"]
        differ = [count for count, each in same.items() if not all(each)]
        return f"not the CPU's: {', '.join(differ)}" if differ else ""
    if not result.get("repeats", True):
        return "does not repeat"
    errors = result["errors"]
    right = all(math.isfinite(e) and e <= LARGEST[name] for e in errors)
    return "" if right else f"errors {errors}, at most {LARGEST[name]} is rounding"


def main() -> int:
    """Run all; an error is a result too. The exit code."""
    Path(sys.argv[1]).unlink(missing_ok=True)
    results: dict[str, Any] = {}
    for check in (check_nms, check_focal, check_roi_align):
        try:
            results[check.__name__] = check()
        except Exception:
            results[check.__name__] = traceback.format_exc()[-2500:]
        print(check.__name__, json.dumps(results[check.__name__]), flush=True)
    Path(sys.argv[1]).write_text(json.dumps(results, indent=1))
    judged = {name: judge(name, result) for name, result in results.items()}
    return verdict.end([(name, wrong) for name, wrong in judged.items() if wrong])


if __name__ == "__main__":
    sys.exit(main())
