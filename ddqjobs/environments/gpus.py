"""Compare the GPUs that an environment can serve with those of a site. Pure.

Code for one compute capability runs on those of the same major version from there on (CUDA C++ Programming
Guide, "Binary compatibility").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# NVIDIA, "CUDA GPU Compute Capability": GPUs as schedulers and nvidia-smi name them.
_CAPABILITIES = {
    "6.0": ("p100",),
    "7.0": ("v100", "v100s"),
    "7.5": ("t4", "2080", "2080ti"),
    "8.0": ("a100", "a800", "a30"),
    "8.6": ("a40", "a10", "a16", "a6000", "a5000", "3090"),
    "8.9": ("l4", "l40", "l40s", "4090"),
    "9.0": ("h100", "h200", "h800", "h20", "gh200"),
    "10.0": ("b100", "b200", "gb200"),
    "12.0": ("5090",),
}


def capability_of(gpu: str) -> str:
    """Return the compute capability of a GPU by its name (a100, NVIDIA H200, tesla_v100-sxm2); empty if it is
    not known."""
    parts = re.split(r"[^a-z0-9]+", gpu.lower())
    return next((c for c, names in _CAPABILITIES.items() if set(names) & set(parts)), "")


def serves(capabilities: Iterable[str], capability: str) -> bool:
    """Return whether what was compiled for some compute capabilities runs on a GPU of this one."""
    major, minor = _numbers(capability)[:2]
    return any(m == major and n <= minor for m, n in (_numbers(c)[:2] for c in capabilities))


def common(several: Iterable[Sequence[str]]) -> list[str]:
    """Return the compute capabilities of known GPUs that all of these lists serve."""
    lists = list(several)
    return [c for c in _CAPABILITIES if all(serves(one, c) for one in lists)]


def older(driver: str, least: str) -> bool:
    """Return whether a driver's version is lower than another. One that is not known is not."""
    return bool(driver and least) and _numbers(driver) < _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
