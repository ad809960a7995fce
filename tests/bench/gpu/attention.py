"""Deformable attention: ours, mmcv's CUDA operator (the yardstick, if built) and torch's grid_sample.

    python -m tests.bench.gpu.attention OUT.json [SHAPE ...]

Times are medians of triton's do_bench (the cache is flushed between runs). The floor is the least time in
which the
memory could be read and written once, at the copy bandwidth that this GPU shows. Exit code 1, with a line on
stderr for each, if a SHAPE is unknown or a repeated call of ours does not give the same bits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from triton.testing import do_bench

from ddqjobs.detect import ops
from ddqjobs.detect.ops import deformable_attention as ours
from tests.bench.gpu import verdict, yardstick

LEVELS = ((100, 167), (50, 84), (25, 42), (13, 21))  # strides 8 to 64 of 1333x800
PIXELS = sum(h * w for h, w in LEVELS)
SHAPES = {"encoder": PIXELS, "decoder 900": 900, "decoder 1350": 1350, "decoder 2446": 2446}
BATCH, HEADS, SIZE, POINTS = 2, 8, 32, 4


def inputs(queries: int, dtype: torch.dtype, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Value, location, weight, gradient of the output. Samples lie around a point, six pixels of deviation,
    as in a
    trained model; encoder queries are the pixels themselves."""
    g = torch.Generator("cuda").manual_seed(seed)
    value = torch.randn(BATCH, PIXELS, HEADS, SIZE, generator=g, device="cuda").to(dtype)
    if queries == PIXELS:
        axes = [
            torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
            for h, w in LEVELS
        ]
        centre = (
            torch.cat([torch.stack([x.flatten(), y.flatten()], -1) for y, x in axes])
            .cuda()[None]
            .expand(BATCH, -1, -1)
        )
    else:
        centre = torch.rand(BATCH, queries, 2, generator=g, device="cuda")
    offset = torch.randn(BATCH, queries, HEADS, 4, POINTS, 2, generator=g, device="cuda") * 6
    size = torch.tensor([[w, h] for h, w in LEVELS], device="cuda")[:, None]
    location = centre[:, :, None, None, None] + offset / size
    weight = torch.rand(BATCH, queries, HEADS, 4 * POINTS, generator=g, device="cuda").softmax(-1)
    grad = torch.randn(BATCH, queries, HEADS * SIZE, generator=g, device="cuda").to(dtype)
    return value, location.contiguous(), weight.view(BATCH, queries, HEADS, 4, POINTS).contiguous(), grad


def reference(value: Any, location: Any, weight: Any) -> Any:
    """By grid_sample, in the inputs' type (mmcv's own fallback)."""
    ops.install()
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, LEVELS, location, weight)


def both(function: Callable[..., Any], value: Any, location: Any, weight: Any, grad: Any) -> list[Any]:
    """Output and gradients."""
    leaves = [t.detach().clone().requires_grad_() for t in (value, location, weight)]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def error(results: list[Any], exact: list[Any]) -> list[float]:
    """||found - exact|| / ||exact|| of output and gradients."""
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(results, exact)]


def bandwidth() -> float:
    """Bytes per second of a large copy, read and written."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / (do_bench(lambda: target.copy_(source), return_mode="median") / 1e3)


def measure(name: str, queries: int, rate: float, compiled: Any) -> dict[str, Any]:
    """One row: milliseconds and errors."""
    row: dict[str, Any] = {"shape": name, "queries": queries}
    shapes = torch.tensor(LEVELS, device="cuda")
    start = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    value, location, weight, grad = inputs(queries, torch.float32)
    exact = both(reference, value.double(), location.double(), weight.double(), grad.double())
    ways: dict[str, Callable[..., Any]] = {
        "ours": lambda v, locations, w: ours.deformable_attention(v, shapes, locations, w),
        "grid_sample": reference,
    }
    if compiled is not None:
        ways["mmcv"] = lambda v, locations, w: yardstick.Function.apply(
            compiled, v, shapes, start, locations, w
        )
    for way, function in ways.items():
        results = both(function, value, location, weight, grad)
        row[f"{way} error"] = error(results, exact)
        again = both(function, value, location, weight, grad)
        row[f"{way} repeats"] = [bool(torch.equal(a, b)) for a, b in zip(results, again)]
        with torch.no_grad():
            row[f"{way} forward"] = do_bench(
                lambda f=function: f(value, location, weight), return_mode="median"
            )
        leaves = [t.detach().clone().requires_grad_() for t in (value, location, weight)]
        out = function(*leaves)
        run = lambda out=out, leaves=leaves: torch.autograd.grad(out, leaves, grad, retain_graph=True)
        row[f"{way} backward"] = do_bench(run, return_mode="median")
    levels = ours.levels_of(shapes)
    for alone in (ours.by_pixels, ours.by_cells):  # without autograd; the first is for few queries
        if queries <= ours.FEW or alone is ours.by_cells:
            row[f"{alone.__name__} alone"] = do_bench(
                lambda f=alone: f(value, levels, location, weight, grad), return_mode="median"
            )
    low, _, _, low_grad = inputs(queries, torch.bfloat16)
    row["ours bf16 error"] = error(both(ways["ours"], low, location, weight, low_grad), exact)
    with torch.no_grad():
        row["ours bf16 forward"] = do_bench(lambda: ways["ours"](low, location, weight), return_mode="median")
    leaves = [t.detach().clone().requires_grad_() for t in (low, location, weight)]
    out = ways["ours"](*leaves)
    row["ours bf16 backward"] = do_bench(
        lambda: torch.autograd.grad(out, leaves, low_grad, retain_graph=True), return_mode="median"
    )
    read = sum(t.numel() * t.element_size() for t in (value, location, weight))
    row["floor forward"] = (read + grad.numel() * 4) / rate * 1e3
    row["floor backward"] = (2 * read + grad.numel() * 4) / rate * 1e3
    return row


def main() -> int:
    """Write all rows; the exit code."""
    Path(sys.argv[1]).unlink(missing_ok=True)
    names = sys.argv[2:] or list(SHAPES)
    problems = [(name, "unknown shape") for name in names if name not in SHAPES]
    compiled = yardstick.load()
    rate = bandwidth()
    rows = [measure(name, queries, rate, compiled) for name, queries in SHAPES.items() if name in names]
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "bytes_per_s": rate,
        "rows": rows,
    }
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1))
    for row in rows:
        print(json.dumps(row))
    problems += [(row["shape"], "ours does not repeat") for row in rows if not all(row["ours repeats"])]
    return verdict.end(problems)


if __name__ == "__main__":
    sys.exit(main())
