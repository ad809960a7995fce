"""The machine that an attempt runs on: what numbers depend on, from files and one command, without torch.

Standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Mapping, Sequence

# Of a processor's flags, those by which libraries choose their code.
_SETS = (
    "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_bf16", "amx_tile", "asimd", "sve", "sve2",
)  # fmt: skip
_QUERY = ("nvidia-smi", "--query-gpu=uuid,name,driver_version", "--format=csv,noheader")
_QUERY_S = 1.0
_DRIVER = Path("/proc/driver/nvidia")


def describe(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return processor, instruction sets, GPUs, driver and threads of this node, as the job may use them."""
    name, flags = _processor(Path("/proc/cpuinfo"))
    gpus, driver = _gpus(variables)
    return {
        "processor": name,
        "instructions": [word for word in _SETS if word in flags],
        "cpus": len(os.sched_getaffinity(0)),
        "threads": variables.get("OMP_NUM_THREADS", ""),
        "gpus": gpus,
        "driver": driver,
        "system": platform.release(),
    }


def _processor(path: Path) -> tuple[str, frozenset[str]]:
    try:
        text = path.read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.machine(), frozenset()
    fields: dict[str, str] = dict(re.findall(r"^([\w ]+?)\s*: *(.*)$", text, re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), frozenset(flags.split())


def _gpus(variables: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the names of the GPUs that CUDA_VISIBLE_DEVICES shows, and the driver's version."""
    visible = variables.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1") or not _DRIVER.exists():
        return [], ""
    try:
        done = subprocess.run(
            _QUERY, stdin=subprocess.DEVNULL, capture_output=True, timeout=_QUERY_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ["unknown"], ""
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.decode().splitlines()]
    whole = [row for row in rows if len(row) == 3]
    return [row[1] for row in _shown(whole, visible)], whole[0][2] if whole else ""


def _shown(rows: Sequence[Sequence[str]], visible: str | None) -> Sequence[Sequence[str]]:
    """Return the rows that CUDA_VISIBLE_DEVICES names by index or UUID; all, if it cannot be read."""
    if visible is None:
        return rows
    known = {str(i): row for i, row in enumerate(rows)}
    known.update({row[0]: row for row in rows})
    shown = [known[word] for word in visible.split(",") if word in known]
    return shown or rows
