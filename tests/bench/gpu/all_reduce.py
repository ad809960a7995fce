"""Measure the cost of asking all processes whether each has a box in its batch, as ``speed=True`` does
once per iteration:

    torchrun --nproc_per_node N -m tests.bench.gpu.all_reduce

Microseconds of a question, median of 500 after 50; through NCCL with a GPU for each process, else gloo.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import torch

from ddqjobs.detect.speed import host


def main() -> None:
    """Rank 0 prints."""
    rank, several = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count() >= int(os.environ["WORLD_SIZE"])
    device = torch.device("cuda", rank) if several else torch.device("cpu")
    if several:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if several else "gloo")
    spent = []
    for _ in range(550):
        began = time.perf_counter()
        assert host.everywhere(True, device)
        spent.append(1e6 * (time.perf_counter() - began))
    if rank == 0:
        backend, processes = torch.distributed.get_backend(), torch.distributed.get_world_size()
        print(
            json.dumps(
                {"backend": backend, "processes": processes, "us": round(statistics.median(spent[50:]), 1)}
            )
        )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
