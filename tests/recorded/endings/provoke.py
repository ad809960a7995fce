# ruff: noqa: E501
"""Provoke the crashes whose last words lie beside this file: ``python provoke.py OUT``, with torch on a CPU.

Each is a program of its own, ended by what really went wrong; its output and its exit code are kept. Paths and
process numbers are as they came.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

DATASET = """
import torch, os, signal, time
class D(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i):
        {body}
def main():
    for _ in torch.utils.data.DataLoader(D(), num_workers=2, batch_size=2): pass
main()
"""
GROUP = """
import os, sys, time, torch, torch.distributed as dist, datetime
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=8))
rank = dist.get_rank()
def main():
    if rank == 1:
        {body}
    for _ in range(100): dist.all_reduce(torch.ones(1)); time.sleep(0.05)
main()
"""
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--rdzv-backend=c10d",
            "--rdzv-endpoint=127.0.0.1:0"]  # fmt: skip
PROGRAMS: dict[str, str] = {
    "loader-killed": DATASET.format(body="os.kill(os.getpid(), signal.SIGKILL)"),
    "loader-exited": DATASET.format(body="os._exit(3)"),
    "loader-bus-error": DATASET.format(body="os.kill(os.getpid(), signal.SIGBUS)"),
    "loader-no-file": DATASET.format(body="return open(f'/data/coco/train2017/{i:012d}.jpg').read()"),
    "loader-key": DATASET.format(body="return {'bbox': 1}['area']"),
    "loader-disk-full": DATASET.format(body="open('/dev/full', 'w', buffering=1).write('x' * 100000)"),
    "loader-import": DATASET.format(body="import albumentations_that_is_not_there"),
    "port-taken": "import socket, torch.distributed as d\n"
    "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
    "d.TCPStore('127.0.0.1', s.getsockname()[1], 1, True)",
    "port-taken-plain": "import socket\ns = socket.socket(); s.bind(('', 0)); s.listen()\n"
    "socket.socket().bind(('', s.getsockname()[1]))",
    "rendezvous-timeout": "import datetime, torch.distributed as d\n"
    "d.TCPStore('127.0.0.1', 0, 2, True, datetime.timedelta(seconds=1))",
    "rendezvous-refused": "import datetime, torch.distributed as d\n"
    "d.TCPStore('127.0.0.1', 1, 2, False, datetime.timedelta(seconds=1))",
    "disk-full-checkpoint": "import torch\ntorch.save({'w': torch.ones(100000)}, '/dev/full')",
    "disk-full-log": "f = open('/dev/full', 'w')\nf.write('x' * 100000)\nf.flush()",
    "open-files": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
    "kept = [open('/dev/null') for _ in range(99)]",
    "open-files-loader": "import resource, torch\nresource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
    "from torch.utils.data import DataLoader\n"
    "list(DataLoader([torch.ones(1)] * 400, num_workers=8, batch_size=1))",
    "host-memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\nx = bytearray(1 << 33)",
    "host-memory-torch": "import torch\nx = torch.empty(1 << 46)",
    "no-cuda-build": "import torch\ntorch.ones(1).cuda()",
    "no-library": "import ctypes\nctypes.CDLL('libcudart.so.10.1')",
    "no-module": "import mmcv_full_that_is_not_there",
    "json": "import json\njson.loads('{\"images\": [')",
    "not-utf8": "b'c\\xe9rcle'.decode()",
    "weights-only": "import torch, fractions, io\nb = io.BytesIO(); torch.save({'x': fractions.Fraction(1)}, b)\n"
    "b.seek(0); torch.load(b, weights_only=True)",
    "no-network": "import torch.hub\ntorch.hub.load_state_dict_from_url('http://download.invalid/r50.pth', '/tmp/x')",
    "chained": "try:\n    import apex_that_is_not_there\nexcept ImportError:\n    raise AssertionError('lr must be positive')",
    "cause": "try:\n    open('/data/coco/a.json')\nexcept OSError as e:\n    raise RuntimeError('dataset') from e",
    "caught-before": "import traceback\ntry:\n    import apex_that_is_not_there\nexcept ImportError:\n"
    "    traceback.print_exc()\nprint('go on without apex', flush=True)\nraise KeyError('DDQDETR is not in the registry')",
    "warned-before": "import warnings\nwarnings.warn('Failed to load image Python extension: libc10_cuda.so: "
    "cannot open shared object file: No such file or directory')\nraise KeyError('DDQDETR is not in the registry')",
    "diverged": "import numpy, scipy.optimize as o\no.linear_sum_assignment(numpy.full((2, 2), numpy.nan))",
    "shape": "import torch\ntorch.ones(2, 3) @ torch.ones(2, 3)",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "segmentation-fault": "import ctypes\nctypes.string_at(0)",
    "ranks-key-error": GROUP.format(body="raise KeyError('gt_bboxes')"),
    "ranks-no-file": GROUP.format(body="open('/data/coco/b.json')"),
    "ranks-killed": GROUP.format(body="os.kill(os.getpid(), 9)"),
    "ranks-memory": GROUP.format(body="torch.empty(1 << 46)"),
    "ranks-hang": GROUP.format(body="time.sleep(40)"),
}  # fmt: skip


def main(out: Path) -> None:
    """Run all, or those that are named behind the folder."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    codes = {}
    for name, program in PROGRAMS.items():
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        script = out / "train.py"
        script.write_text(program)
        argv = [sys.executable, *(TORCHRUN if name.startswith("ranks") else []), str(script)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        text = done.stdout.decode(errors="replace")
        (out / f"{name}.txt").write_text(text[-6000:])
        codes[name] = done.returncode if done.returncode >= 0 else 128 - done.returncode
        print(name, codes[name], flush=True)
    (out / "codes.json").write_text(json.dumps(codes, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
