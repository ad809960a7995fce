"""Runs the tests that need a GPU, and says which ran and which did not.

    python -m tests.gpu [PYTHON]

PYTHON, this one if none is given, has a CUDA build of torch, mmengine, mmdet, mmcv-lite and Triton; where it
has no pytest, the one that tests/requirements.txt names is installed in a temporary folder. Exit code 1 if a
test failed or none ran, in particular where there is no GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FILES = (
    "unit/detect/test_triton.py",
    "unit/detect/test_verify.py",
    "unit/detect/test_speed.py",
    "unit/detect/test_speed_fcn.py",
    "unit/detect/test_speed_graphs.py",
    "training/test_repeat.py",
    "training/test_ahead.py",
    "training/test_usage.py",
    "training/test_epochs.py",
)
ROOT = Path(__file__).resolve().parents[1]
LOOK = """
import platform, numpy, torch
names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
try:
    from triton import __version__ as triton
except ImportError:
    triton = "none"
print(f"Python {platform.python_version()}, torch {torch.__version__}, Triton {triton}, ", end="")
print(f"NumPy {numpy.__version__}, GPUs: {', '.join(names) or 'none'}")
raise SystemExit(not names)
"""


def main() -> int:
    """Look for a GPU and run the tests; the exit code."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    result = subprocess.run([python, "-W", "ignore", "-c", LOOK], text=True, capture_output=True)
    lines = (result.stdout.strip() or result.stderr.strip()).splitlines()
    print(f"{python}: {lines[-1] if lines else 'no answer'}", flush=True)
    if result.returncode:
        print(f"*** NO TEST RAN: {python} sees no GPU ***")
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        if subprocess.run([python, "-c", "import pytest, pytest_timeout, hypothesis"]).returncode:
            from tests.support import inside

            paths.append(str(inside.tools(Path(temporary))))
        known = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        known["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        argv = [python, "-m", "pytest", "-rA", "--tb=short", "--show-capture=no", "--durations=10"]
        argv += ["--noconftest", "-p", "no:cacheprovider", "-m", "gpu", *(f"tests/{file}" for file in FILES)]
        return subprocess.run(argv, cwd=ROOT, env=known).returncode


if __name__ == "__main__":
    sys.exit(main())
