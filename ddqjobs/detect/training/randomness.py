"""States of the random generators of one process: taken, put back, and set for one sample. torch 1.9
clean."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import Any, Iterator


def state() -> dict[str, Any]:
    """Python's, NumPy's, torch's and the current CUDA device's generators, as tensors and plain data."""
    import numpy as np
    import torch

    legacy: Any = np.random.get_state()
    kind, keys, place, has_gauss, gauss = legacy
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": random.getstate(),
        # int64: torch has no uint32, and plain tensors need no permission to be loaded.
        "numpy": [
            str(kind),
            torch.from_numpy(keys.astype("int64")),
            int(place),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
    }


def restore(state: dict[str, Any]) -> None:
    """Put back what :func:`state` took, in this process or an earlier one."""
    import numpy as np
    import torch

    version, internal_state, gauss = state["python"]
    random.setstate((version, tuple(internal_state), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def sample_seed(seed: int, epoch: int, rank: int, batch: int, place: int) -> int:
    """A seed below 2**63 for what is drawn while one sample is loaded; no two places of a run share one."""
    text = f"{seed}/{epoch}/{rank}/{batch}/{place}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from generators of this seed inside; outside, nothing of it is to be noticed."""
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
