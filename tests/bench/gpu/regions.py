"""Kernel launches, waits for the GPU and requests for items, by part of a training iteration.

:func:`mark` names the parts of a model and of its optimizer for torch's profiler; :func:`table` counts a
profile's events by the innermost part that the main thread is in. What another thread does is autograd's: the
backward pass.
"""

from __future__ import annotations

import collections
from typing import Any

import torch

MARK = "region: "
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
# attribute paths of a detector and the methods there; what a model lacks is passed over
_MODEL = {
    "data_preprocessor": ("forward",),
    "backbone": ("forward",),
    "neck": ("forward",),
    "encoder": ("forward",),
    "dn_query_generator": ("__call__",),
    "decoder": ("forward",),
    "bbox_head": ("forward", "loss", "loss_by_feat"),
    "rpn_head": (
        "forward",
        "dense_queries",
        "distinct_queries",
        "losses",
        "losses_and_distinct",
        "proposals",
    ),
    "roi_head": ("loss",),
    "": ("pre_transformer", "pre_decoder", "parse_losses"),
}
_OPTIMIZER = ("backward", "_clip_grad", "step", "zero_grad")


def mark(model: Any, wrapper: Any) -> None:
    """Name the parts of a model and of an optimizer's wrapper in a profile from now on."""
    for path, methods in _MODEL.items():
        owner = getattr(model, path, None) if path else model
        for method in methods:
            _name(owner, method, f"{path}.{method}".strip(".").replace(".forward", ""))
    for method in _OPTIMIZER:
        _name(wrapper, method, f"optimizer.{method.strip('_')}")


def _name(owner: Any, method: str, name: str) -> None:
    inner = getattr(owner, method, None)
    if inner is None:
        return

    def outer(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(MARK + name):
            return inner(*args, **kwargs)

    if method == "__call__":  # looked up at the class
        methods = {method: lambda _, *args: outer(*args)}
        owner.__class__ = type(owner.__class__.__name__, (owner.__class__,), methods)
    else:
        setattr(owner, method, outer)


def table(events: Any, iterations: int) -> dict[str, dict[str, float]]:
    """Per iteration and part: launches, waits, items, and milliseconds of the host, those of inner parts
    left out."""
    here = [e for e in events if e.device_type == torch.autograd.DeviceType.CPU]
    spans = [e for e in here if e.name.startswith(MARK)]
    main = spans[0].thread if spans else -1
    totals: dict[str, Any] = collections.defaultdict(collections.Counter)
    stack: list[Any] = []
    for event in sorted(here, key=lambda e: (e.time_range.start, -e.time_range.end)):
        region = "backward" if event.thread != main else "the rest"
        if event.thread == main:
            while stack and stack[-1].time_range.end <= event.time_range.start:
                stack.pop()
            region = stack[-1].name[len(MARK) :] if stack else region
            if event.name.startswith(MARK):
                milliseconds = event.time_range.elapsed_us() / 1000
                if stack:
                    totals[region]["ms"] -= milliseconds
                totals[event.name[len(MARK) :]]["ms"] += milliseconds
                stack.append(event)
        if kind := kind_of(event.name):
            totals[region][kind] += 1
    return {
        name: {key: round(n / iterations, 2) for key, n in sorted(row.items())}
        for name, row in totals.items()
    }


def kind_of(name: str) -> str:
    """``launches``, ``waits``, ``items``, or nothing."""
    if "LaunchKernel" in name:
        return "launches"
    if name in WAITS:
        return "waits"
    return "items" if name == "aten::item" else ""
