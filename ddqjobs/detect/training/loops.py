"""mmengine's two training loops, begun at any batch as if this process had done those before
(docs/explanation/resume.md)."""

from __future__ import annotations

import abc
import copy
import itertools
from typing import Any, Iterator, Protocol

import torch
from mmengine import dist
from mmengine.hooks import LoggerHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner import loops as _loops

from . import batches, randomness


class Hook(Protocol):
    """The part of the resume hook that loops call."""

    begun: dict[str, Any] | None

    def between(self, runner: Any, loop: Loop, done: int) -> None:
        """Look, and stop or save if that is asked for, after batch ``done`` (from 1)."""


class Loop(abc.ABC):
    """The part that mmengine's two loops share here: they begin at any batch."""

    runner: Any
    dataloader: Any
    hook: Hook
    unsettled = False  # whether the first iteration of a process that goes on is still to come

    @abc.abstractmethod
    def place(self, done: int) -> str:
        """Return where the training is, in words."""

    @abc.abstractmethod
    def validates_after(self, done: int) -> bool:
        """Return whether a validation follows batch ``done`` (from 1)."""

    def _begin(self, epoch: int, length: int) -> tuple[int, Iterator[Any]]:
        """Yield how many of ``length`` batches are done, and the others, with everything as it was before
        them."""
        begun, self.hook.begun = self.hook.begun, None
        order = self.dataloader.batch_sampler
        if begun:
            order.seed_sampler(begun["sampler_seed"])
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = begun["batches"] if begun else 0
        order.seek(self.runner.seed, epoch, done)
        # Nothing may be left, but the end: then no worker is started.
        iterator = order.begin(self.dataloader) if done < length else iter(())
        if begun:
            self._as_it_was(begun["ranks"][dist.get_rank()])
        return done, self._settled(iterator)

    def _as_it_was(self, mine: dict[str, Any]) -> None:
        """Everything as it was between the two iterations."""
        self.unsettled = True
        randomness.restore(mine["generators"])
        for name, buffer in self.runner.model.named_buffers():
            if name in mine.get("buffers", {}):
                buffer.copy_(mine["buffers"][name])
        for name, parameter in self.runner.model.named_parameters():
            if name in mine["gradients"]:
                kept = mine["gradients"][name]
                parameter.grad = torch.zeros_like(parameter)
                if kept is not None:
                    parameter.grad.copy_(kept)

    def _settled(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """The same batches; before the first one of a process that goes on, its buckets are made as they
        were."""
        model = self.runner.model
        if not self.unsettled or not isinstance(model, torch.nn.parallel.DistributedDataParallel):
            return iterator
        first = list(itertools.islice(iterator, 1))
        for batch in first:
            drawn = randomness.state()
            _settle_buckets(model, copy.deepcopy(batch), self.runner.optim_wrapper)
            randomness.restore(drawn)
            self.unsettled = False
        return itertools.chain(first, iterator)


class EpochLoop(Loop, EpochBasedTrainLoop):  # type: ignore[misc]
    """mmengine's loop by epochs."""

    def __init__(self, loop: Any, hook: Hook) -> None:
        loader = batches.positioned(loop.dataloader, dist.get_rank())
        super().__init__(loop.runner, loader, loop.max_epochs, loop.val_begin, loop.val_interval)
        self.dynamic_milestones, self.dynamic_intervals = loop.dynamic_milestones, loop.dynamic_intervals
        self.hook = hook

    def place(self, done: int) -> str:
        """Return where the training is, in words."""
        return f"at epoch {self.epoch + 1}, iteration {done}"

    def validates_after(self, done: int) -> bool:
        """Return whether a validation follows batch ``done`` (from 1) of this epoch."""
        epoch = self.epoch + 1
        return (
            done == len(self.dataloader)
            and self.runner.val_loop is not None
            and epoch >= self.val_begin
            and (epoch % self.val_interval == 0 or epoch == self.max_epochs)
        )

    def run_epoch(self) -> None:
        """One epoch, or the rest of it."""
        done, iterator = self._begin(self.epoch, len(self.dataloader))
        for idx, batch in enumerate(iterator, done):
            self.run_iter(idx, batch)
            self.hook.between(self.runner, self, idx + 1)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class _Unbegun(_loops._InfiniteDataloaderIterator):  # type: ignore[misc]
    """The source that mmengine's loop by iterations reads from, not begun before it is read from: workers
    that read ahead would have used up what the samplers keep between two batches when the hook gets them."""

    def __init__(self, dataloader: Any) -> None:
        self._dataloader, self._iterator, self._epoch = dataloader, None, 0

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._dataloader)
        return super().__next__()


_loops._InfiniteDataloaderIterator = _Unbegun


class IterationLoop(Loop, IterBasedTrainLoop):  # type: ignore[misc]
    """mmengine's loop by iterations."""

    def __init__(self, loop: Any, hook: Hook) -> None:
        self.__dict__.update(loop.__dict__)
        self.dataloader = batches.positioned(loop.dataloader, dist.get_rank(), endless=True)
        self.hook = hook
        for other in self.runner.hooks:
            if isinstance(other, LoggerHook):
                other.log_metric_by_epoch = False  # it would be 0 for every validation
        self.runner.log_processor.by_epoch = False  # and all iterations would be of the first epoch

    def place(self, done: int) -> str:
        """Return where the training is, in words."""
        return f"at iteration {done}"

    def validates_after(self, done: int) -> bool:
        """Return whether a validation follows batch ``done`` (from 1)."""
        return (
            self.runner.val_loop is not None
            and done >= self.val_begin
            and (done % self.val_interval == 0 or done == self.max_iters)
        )

    def run(self) -> Any:
        """The training, or the rest of it."""
        self.runner.call_hook("before_train")
        done, iterator = self._begin(0, self.max_iters)
        self._decide_current_val_interval()
        if done and self.validates_after(done):  # whoever was interrupted after it had begun left no place
            self.runner.val_loop.run()
        for batch in itertools.islice(iterator, self.max_iters - done):
            if getattr(self, "stop_training", False):
                break
            self.runner.model.train()
            self.run_iter(batch)
            self._decide_current_val_interval()
            self.hook.between(self.runner, self, self.iter)
            if self.validates_after(self.iter):
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model


LOOPS: dict[type, Any] = {EpochBasedTrainLoop: EpochLoop, IterBasedTrainLoop: IterationLoop}


class _Backward:
    """Stands for the optimizer's wrapper in an iteration that changes no weight."""

    def __init__(self, real: Any) -> None:
        self.optim_context = real.optim_context

    def update_params(self, loss: Any, *_: Any, **__: Any) -> None:
        """Backward only."""
        loss.backward()


def _settle_buckets(model: Any, batch: Any, optim_wrapper: Any) -> None:
    """An iteration for nothing. DistributedDataParallel makes its buckets anew after the first one, and
    from three processes on the sums of gradients depend on the buckets in their last digits."""
    before = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None
    model.train_step(batch, optim_wrapper=_Backward(optim_wrapper))
    for parameter, gradient in zip(model.parameters(), gradients):
        parameter.grad = gradient
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if (
                name in before
            ):  # DDQ DETR's decoder gets a second name for a part of its head in the first one
                value.copy_(before[name])
