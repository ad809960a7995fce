"""Tells whether a training has as many images an iteration as its learning rate is for."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from .finding import WARNING, Finding, lookup

_KEY = "auto_scale_lr.base_batch_size"  # of mmdet's configurations: images an iteration of all GPUs
_EACH = ("train_dataloader.batch_size", "data.train_dataloader.samples_per_gpu", "data.samples_per_gpu")


def check(cfg: Mapping[str, Any], processes: int) -> Iterator[Finding]:
    """Yield that a learning rate is for another batch size, as far as the configuration says for which.

    ``processes``: of all nodes; 0 if the run has no GPU, for nobody expects the paper's batch there.
    """
    base, scaled = lookup(cfg, _KEY), lookup(cfg, "auto_scale_lr.enable")
    each = next((n for n in (lookup(cfg, key) for key in _EACH) if isinstance(n, int)), None)
    steps = lookup(cfg, "optim_wrapper.accumulative_counts") or 1
    if not (processes and each and isinstance(base, int) and isinstance(steps, int)) or scaled is True:
        return
    images = each * processes * steps
    if base != images:
        of = f"{processes} x {each}" + (f" x {steps} accumulated" if steps > 1 else "")
        yield Finding(
            "batch",
            _KEY,
            f"the learning rate is for a total batch size of {base} ({_KEY}), but this run has {images} "
            f"({of}); give it other resources, or set auto_scale_lr.enable=True",
            level=WARNING,
        )
