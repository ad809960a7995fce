"""Measure how busy a GPU is, by NVIDIA's management library, which comes with the driver. No package is
needed."""

from __future__ import annotations

import ctypes
from typing import Any, Callable


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t: percent of the last sample period (1/6 to 1 s, by GPU) in which a kernel ran, and in
    which memory was read or written."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def meter(device: int) -> Callable[[], float | None]:
    """A function that samples the busy share, 0 to 1, of torch's CUDA device ``device``.

    It gives None where nothing can tell: no library, torch before 2.4 (which does not name a device's UUID),
    a slice of a GPU (MIG).
    """
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return _unknown
    return _unknown if uuid is None else _meter(library, str(uuid))


def _unknown() -> float | None:
    return None


def _meter(library: Any, uuid: str) -> Callable[[], float | None]:
    handle = ctypes.c_void_p()
    name = (uuid if uuid.startswith("GPU-") else f"GPU-{uuid}").encode()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return _unknown
    utilization = _Utilization()

    def busy() -> float | None:
        if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(utilization)):
            return None
        return float(utilization.gpu) / 100

    return busy
