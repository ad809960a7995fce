"""Verifies an environment from inside: imports, operators, a configuration.

    python -m ddqjobs.detect.verify [--config CONFIG]

Prints one JSON object on stdout, ``{"ok": ..., "python": ..., "torch": ..., "mmengine": ..., "mmdet": ...,
"mmcv": ..., "numpy": ..., "ops": "stand-in" | "compiled", "error": ...}``; what the libraries print goes
to stderr. Exit code 0, or 1 with the error, in one line, on stderr too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
from typing import Any, Sequence


class Wrong(Exception):
    """An operator's result is not the known one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.verify", description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="", help="also build this configuration's model")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {"ok": False, "python": platform.python_version()}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            verify(found, args.config)
        found["ok"] = True
    except Exception as error:  # whatever a broken environment raises is the answer
        found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"verify: {found['error']}", file=sys.stderr)
    print(json.dumps(found, sort_keys=True))
    return 0 if found["ok"] else 1


def verify(found: dict[str, Any], config: str = "") -> None:
    """Fill ``found`` with versions and try everything; raises whatever goes wrong."""
    import numpy
    import torch

    found.update(torch=torch.__version__, numpy=numpy.__version__, gpus=torch.cuda.device_count())
    from . import ops, runtime

    found["ops"] = "stand-in" if ops.install() else "compiled"
    import mmcv
    import mmdet
    import mmengine

    found.update(mmcv=mmcv.__version__, mmdet=mmdet.__version__, mmengine=mmengine.__version__)
    runtime.set_up()
    check_nms()
    check_roi_align()
    cfg = runtime.load_config(config) if config else None
    if cfg is not None:
        runtime.build_model(cfg)
    import pycocotools

    found["pycocotools"] = getattr(pycocotools, "__version__", "")


def check_nms() -> None:
    """An overlap of exactly the threshold stays, one above it goes. Raises Wrong."""
    import torch
    from mmcv.ops import nms

    boxes = torch.tensor(
        [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 9], [20, 20, 30, 30]], dtype=torch.float32
    )
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5)[1].tolist()
    if kept != [0, 1, 3]:
        raise Wrong(f"nms keeps {kept}, not [0, 1, 3]")


def check_roi_align() -> None:
    """Two by two bins of a ramp, and the gradient of their sum. Raises Wrong."""
    import torch
    from mmcv.ops import roi_align

    ramp = torch.arange(16, dtype=torch.float32).reshape(1, 1, 4, 4).requires_grad_()
    box = torch.tensor([[0, 0.5, 0.5, 2.5, 2.5]])
    pooled = roi_align(ramp, box, (2, 2), 1.0, 2, "avg", True)
    if (pooled.flatten() - torch.tensor([2.5, 3.5, 6.5, 7.5])).abs().max() > 1e-5:
        raise Wrong(f"roi_align gives {pooled.flatten().tolist()}, not [2.5, 3.5, 6.5, 7.5]")
    pooled.sum().backward()
    total = float(ramp.grad.sum())
    if abs(total - 4.0) > 1e-5 or float(ramp.grad[0, 0, 3].abs().max()) != 0.0:
        raise Wrong(f"the gradient of roi_align sums to {total}, not 4, or is where no bin is")


if __name__ == "__main__":
    sys.exit(main())
