"""The forward pass of a test as one CUDA graph, which the host launches at once instead of kernel by kernel.

A graph runs the kernels that it was made of, on the same memory: the same bits. It is made for a shape of
batch that comes again and again, and for batches without padding, where nothing but the images differs from
one batch to the next.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch
from torch import Tensor, nn

from . import host

_AGAIN = 4  # times that a shape has come before it is worth a graph: making one takes as long as three passes
_MOST = 100  # graphs; they share their memory, but for the results
_WARM = 2  # passes before one is recorded: kernels are compiled and libraries choose theirs

# prepare(image, samples): what follows from the shapes alone; forward(image, that): tensors.
Prepare = Callable[[Tensor, Sequence[Any]], Any]
Forward = Callable[[Tensor, Any], "tuple[Tensor, ...]"]


def fit(image: Tensor, samples: Sequence[Any]) -> bool:
    """Return whether a batch (b, 3, h, w) can be passed by a graph: on a GPU, nothing to be differentiated,
    no autocast, no padding."""
    if not image.is_cuda or torch.is_grad_enabled() or torch.is_autocast_enabled():
        return False
    height, width = image.shape[-2:]
    return all(tuple(sample.img_shape[:2]) == (height, width) for sample in samples)


@dataclass(frozen=True)
class _Graph:
    replay: Callable[[], None]
    image: Tensor
    outputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    places: tuple[int, ...]  # of the weights, in memory
    kept: Any  # its constants, which live as long as it

    def stale(self) -> bool:
        """Return whether a weight lies elsewhere: the graph would read the old one."""
        return _places(self.weights) != self.places


def _places(weights: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple([weight.data_ptr() for weight in weights])


class Graphs:
    """The graphs of one model. A copy of it has none."""

    def __init__(self) -> None:
        self._seen: dict[Any, int] = {}
        self._graphs: dict[Any, _Graph] = {}
        self._pool: Any = None
        self._stream: Any = None  # that records; those who share memory share it
        self._able = True

    def __reduce__(self) -> Any:
        return Graphs, ()

    def clear(self) -> None:
        """Forget all, since weights may get other places in memory."""
        self._seen.clear()
        self._graphs.clear()
        self._pool = self._stream = None

    def run(
        self, model: nn.Module, image: Tensor, samples: Sequence[Any], prepare: Prepare, forward: Forward
    ) -> tuple[Tensor, ...] | None:
        """Return the outputs of the forward pass; None where no graph is, nor shall be, for such a batch.

        The graph's own are those of its next batch as soon as that is launched, so these are copies.
        """
        key = (tuple(image.shape), image.dtype, image.device)
        known = self._graphs.get(key)
        if known is not None and known.stale():
            self.clear()
            known = None
        if known is None:
            self._seen[key] = self._seen.get(key, 0) + 1
            if not self._able or self._seen[key] < _AGAIN or len(self._graphs) >= _MOST:
                return None
            known = self._recorded(model, image, samples, prepare, forward)
            if known is None:
                return None
            self._graphs[key] = known
        known.image.copy_(image)
        known.replay()
        return tuple(output.clone() for output in known.outputs)

    def _recorded(
        self, model: nn.Module, image: Tensor, samples: Sequence[Any], prepare: Prepare, forward: Forward
    ) -> _Graph | None:
        """Return a new graph; None, and never again one, where it cannot be made: a test does not fail for
        it."""
        try:
            # Whatever happens while it is recorded, this thread's stream is the old one afterwards.
            with torch.cuda.device(image.device), torch.cuda.stream(torch.cuda.current_stream(image.device)):
                return self._record(model, image, samples, prepare, forward)
        except (RuntimeError, TypeError, AttributeError) as error:  # another torch, a driver, memory
            self._able = False
            print(f"speed: no graph of the forward pass: {str(error).splitlines()[0]}", file=sys.stderr)
        self.clear()
        torch.cuda.empty_cache()
        return None

    def _record(
        self, model: nn.Module, image: Tensor, samples: Sequence[Any], prepare: Prepare, forward: Forward
    ) -> _Graph:
        image = image.clone()
        prepared, constants = prepare(image, samples), host.Constants()
        current = torch.cuda.current_stream()
        if self._pool is None:
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), constants:  # libraries prepare themselves for a stream
            for _ in range(_WARM):
                forward(image, prepared)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile: one that pins the next batch does.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with constants, recording:
            outputs = forward(image, prepared)
        weights = (*model.parameters(), *model.buffers())
        return _Graph(graph.replay, image, outputs, weights, _places(weights), (prepared, constants))
