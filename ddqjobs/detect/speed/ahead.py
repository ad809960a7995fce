"""Tests and validations that launch a batch before they evaluate the one before it.

Otherwise the GPU waits while the host brings detections over, evaluates them and fetches the next image.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any, Callable, Iterator

import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import TestLoop, ValLoop


@functools.lru_cache(maxsize=None)
def _aside(device: torch.device) -> Any:
    """Return the stream on which results are read. Its few small kernels go first."""
    return torch.cuda.Stream(device, priority=-1)


@dataclass(frozen=True)
class Launched:
    """A batch that is on its way through a detector.

    ``results()`` are its data samples. ``device`` is the GPU that has its forward pass to do, None where
    ``results`` begins it.
    """

    batch: Any
    results: Callable[[], Any]
    device: torch.device | None
    event: Any = None  # when the forward pass is done

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Within it, what waits for the GPU waits for this batch, and not for what was launched after it."""
        if self.device is None:
            yield
            return
        stream, current = _aside(self.device), torch.cuda.current_stream(self.device)
        stream.wait_event(self.event)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)


class LaunchesAhead:
    """For a detector: ``test_step`` and ``val_step`` of a batch that :meth:`launch` took return its results.

    The detector has ``begin(image, samples)``: a callable that returns the results, and whether the GPU has
    the forward pass to do.
    """

    _launched: Launched | None = None

    def launch(self, batch: Any) -> Launched:
        """Begin with a batch of the loader."""
        data = self.data_preprocessor(batch, False)  # type: ignore[attr-defined]
        image = data["inputs"]
        results, begun = self.begin(image, data["data_samples"])  # type: ignore[attr-defined]
        if not begun:
            return Launched(batch, results, None)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(image.device))
        return Launched(batch, results, image.device, event)

    @contextlib.contextmanager
    def read(self, launched: Launched) -> Iterator[None]:
        """Within it, the steps of this batch return its results."""
        self._launched = launched
        try:
            with launched.read():
                yield
        finally:
            self._launched = None

    def test_step(self, data: Any) -> Any:
        """As mmengine's."""
        launched = self._launched
        if launched is None or launched.batch is not data:
            return super().test_step(data)  # type: ignore[misc]
        return launched.results()

    def val_step(self, data: Any) -> Any:
        """As mmengine's."""
        return self.test_step(data)


class _Ahead:
    """A loop of mmengine's: what it does with a batch happens when the next one has been launched."""

    _waiting: tuple[int, Launched] | None = None

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """As mmengine's, for the batch before; for this one too, if it is the last."""
        model = self._detector()
        if model is None:
            super().run_iter(idx, data_batch)  # type: ignore[misc]
            return
        before, self._waiting = self._waiting, (idx, model.launch(data_batch))
        if before is not None and idx:
            self._evaluate(model, *before)
        if idx + 1 == len(self.dataloader):  # type: ignore[attr-defined]
            last, self._waiting = self._waiting, None
            self._evaluate(model, *last)

    def _detector(self) -> Any:
        """Return the detector; None if it does not launch ahead, as with mmengine's test-time
        augmentation."""
        model = self.runner.model  # type: ignore[attr-defined]
        model = model.module if is_model_wrapper(model) else model
        able = isinstance(model, LaunchesAhead) and not self.fp16  # type: ignore[attr-defined]
        return model if able else None

    def _evaluate(self, model: LaunchesAhead, idx: int, launched: Launched) -> None:
        with model.read(launched):
            super().run_iter(idx, launched.batch)  # type: ignore[misc]


@LOOPS.register_module(force=True)
class AheadTestLoop(_Ahead, TestLoop):  # type: ignore[misc]
    """mmengine's test loop, one batch ahead."""


@LOOPS.register_module(force=True)
class AheadValLoop(_Ahead, ValLoop):  # type: ignore[misc]
    """mmengine's loop of a validation, one batch ahead."""
