"""Verifies an environment from inside: versions, GPU, operators, a configuration.

    python -m ddqjobs.detect.verify [--expect NAME=VERSION ...] [--compiled] [--gpu] [--ops NAME,...]
                                    [--module NAME ...] [--config CONFIG]

Prints one JSON object on stdout, ``{"ok": ..., "python": ..., "torch": ..., "mmcv": ..., "mmdet": ...,
"ops": "stand-in" | "compiled", "checked": [...], "error": ...}`` and more; what the libraries print goes to
stderr. Exit code 0, or 1 with the error, in one line, on stderr too. CONFIG may begin with ``$VARIABLE``, or
with ``mmdet::`` for a configuration that mmdet's wheel brings.

What is compared: versions with ``--expect`` (of code trees too, which no lock knows), the CUDA version that
mmcv was compiled with against torch's, torch's GPU architectures against the GPU, operators against
references (:mod:`.verify_ops`). Compilers are only recorded: torch's wheels and mmcv are hardly ever made by
the same one, and what must fit, their binary interface, is tried by importing.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

from .verify_ops import CHECKS, Wrong

_NO_CUDA = "not available"  # mmcv's own words


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.verify", description=__doc__.split("\n")[0])
    parser.add_argument("--expect", action="append", default=[], metavar="NAME=VERSION")
    parser.add_argument(
        "--compiled", action="store_true", help="the stand-in for mmcv's operators will not do"
    )
    parser.add_argument("--gpu", action="store_true", help="there must be a GPU; the operators run on it")
    parser.add_argument("--ops", default=",".join(CHECKS), help="which operators")
    parser.add_argument(
        "--module", action="append", default=[], help="import it before, for what it registers"
    )
    parser.add_argument("--config", default="", help="also build this configuration's model; see above")
    args = parser.parse_args(argv)
    faulthandler.enable(all_threads=False)  # a compiled module that crashes leaves no other word
    report: dict[str, Any] = {"ok": False, "python": platform.python_version()}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            verify(report, args)
        report["ok"] = True
    except Exception as error:  # whatever a broken environment raises is the answer
        report["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"verify: {report['error']}", file=sys.stderr)
    print(json.dumps(report, sort_keys=True))
    return 0 if report["ok"] else 1


def verify(report: dict[str, Any], args: argparse.Namespace) -> None:
    """Fill ``report`` and try everything; raises whatever goes wrong."""
    _versions(report, args.expect)
    _gpu(report, args.gpu)
    from . import ops

    report["ops"] = "stand-in" if ops.install() else "compiled"
    if report["ops"] == "compiled":
        _compiled(report, args.gpu)
    elif args.compiled:
        raise Wrong("mmcv has no compiled operators; build it with MMCV_WITH_OPS=1")
    _set_up()
    unknown = [name for name in args.ops.split(",") if name not in CHECKS]
    if unknown:
        raise Wrong(f"no check of operator {', '.join(unknown)}; there are: {', '.join(CHECKS)}")
    report["checked"] = []
    for name in args.ops.split(","):
        CHECKS[name]("cuda" if args.gpu else "cpu")
        report["checked"].append(name)
    for name in args.module:
        importlib.import_module(name)
    if args.config:
        _build(args.config)
        report["config"] = args.config


def _versions(report: dict[str, Any], expected: Sequence[str]) -> None:
    import numpy
    import torch

    report.update(torch=torch.__version__, numpy=numpy.__version__)
    for name in ("torchvision", "mmcv", "mmengine", "mmdet", "pycocotools"):
        if importlib.util.find_spec(name) is not None:
            module = (
                importlib.import_module(name) if name != "mmdet" else importlib.import_module("mmdet.version")
            )
            report[name] = str(getattr(module, "__version__", "there"))
    for pair in expected:
        name, _, version = pair.partition("=")
        if report.get(name, "missing") != version:
            raise Wrong(f"{name} is {report.get(name, 'missing')}, not {version}")


def _gpu(report: dict[str, Any], needed: bool) -> None:
    """Driver, GPU and torch must fit together, if there is a GPU or one is needed."""
    import torch

    report.update(torch_cuda=torch.version.cuda or "", gpus=torch.cuda.device_count())
    if needed and not torch.version.cuda:
        raise Wrong("this torch was built without CUDA")
    if needed:
        torch.cuda.init()  # says itself that there is no driver, or one too old
    if not report["gpus"] or not torch.version.cuda:
        return
    major, minor = torch.cuda.get_device_capability(0)
    built = torch.cuda.get_arch_list()
    report.update(gpu=torch.cuda.get_device_name(0), capability=f"{major}.{minor}", architectures=built)
    if built and not any(_runs_on(name, 10 * major + minor) for name in built):
        raise Wrong(f"torch was built for {', '.join(built)}, not for this GPU, sm_{major}{minor}")


def _runs_on(built: str, capability: int) -> bool:
    """Return whether code for ``sm_86`` or ``compute_70`` runs on a GPU of this capability (10 x major +
    minor): machine code within its major version, the intermediate language on everything later (CUDA C++
    Programming Guide, "Binary compatibility", "PTX compatibility")."""
    kind, _, text = built.partition("_")
    if not text.isdigit():  # sm_90a runs on just that
        return text.rstrip("af") == str(capability)
    number = int(text)
    return number <= capability and (kind == "compute" or number // 10 == capability // 10)


def _compiled(report: dict[str, Any], gpu: bool) -> None:
    """Load mmcv's compiled module, which fails if it was made for another torch; and compare CUDA. One that
    was compiled without it is good for the CPU, whatever torch has."""
    import torch

    importlib.import_module("mmcv._ext")
    report.update(_compiled_with())
    cuda = report.get("mmcv_cuda", "")
    if cuda == _NO_CUDA:
        if gpu:
            raise Wrong("mmcv was compiled without CUDA; build it with FORCE_CUDA=1 and a CUDA compiler")
        return
    if torch.version.cuda and cuda and cuda != torch.version.cuda:
        raise Wrong(f"mmcv was compiled with CUDA '{cuda}', torch with {torch.version.cuda}")


def _compiled_with() -> dict[str, str]:
    """Return what mmcv says of the compiler and CUDA that made it, asked in a process of its own: where its
    C++ runtime was linked into it statically, beside the one that torch uses, writing the version crashes
    (seen with mmcv 2.1.0), though the operators work. Then there is just a note; the operators decide."""
    program = (
        "from mmcv.ops import get_compiler_version, get_compiling_cuda_version as cuda\n"
        "print(get_compiler_version(), cuda(), sep=chr(10))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"mmcv_note": f"mmcv crashed when asked what it was compiled with (signal {-done.returncode})"}
    if done.returncode:
        raise Wrong(f"mmcv does not say what it was compiled with: {done.stderr.strip().splitlines()[-1]}")
    compiler, cuda = done.stdout.splitlines()[-2:]
    return {"mmcv_compiler": compiler, "mmcv_cuda": cuda}


def _set_up() -> None:
    """Registers mmdet's models, of whichever generation."""
    if importlib.util.find_spec("mmengine") is None:
        importlib.import_module("mmdet.models")  # mmcv 1.x and mmdet 2.x
        return
    from . import runtime

    runtime.set_up()


def _build(config: str) -> None:
    """Loads a configuration and constructs its model."""
    config = os.path.expandvars(config)
    if config.startswith("mmdet::"):
        spec = importlib.util.find_spec("mmdet")
        root = Path(str(spec.origin)).parent if spec else Path()
        config = str(root / ".mim" / "configs" / config[len("mmdet::") :])
    if importlib.util.find_spec("mmengine") is None:
        from mmcv import Config
        from mmdet.models import build_detector

        cfg = Config.fromfile(config)
        build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
        return
    from . import runtime

    runtime.build_model(runtime.load_config(config))


if __name__ == "__main__":
    sys.exit(main())
