"""A data loader whose batches depend on their place in the training only. torch 1.9 clean.

Every sample is loaded with generators of its own, seeded from the run's seed and the sample's place: epoch,
process, batch, place in the batch. So it does not matter how many workers there are, which of them loads a
sample, how far they read ahead, or how long they have lived; and a training that goes on in the middle of an
epoch needs no worker's state, only the place.
"""

from __future__ import annotations

import itertools
from typing import Any, Iterator, NamedTuple

from torch.utils.data import DataLoader, Dataset, IterableDataset

from . import randomness

_WORKER_OPTIONS = (
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
    "persistent_workers",
)


_AT_ONCE = 1024  # batches of a sampler that does not tell how many it has
OTHER_LOOPS = (
    "no loop that goes on where it was interrupted; use mmengine's or mmcv's own, by epochs or by "
    "iterations, or leave ResumeHook out"
)


class CannotPosition(ValueError):
    """A training that could not go on where it was interrupted; the message says why, in one line."""


class Sample(NamedTuple):
    """The request to a worker."""

    index: Any  # the data set's own
    seed: int


class SeededDataset(Dataset):  # type: ignore[misc]
    """The data set, asked for a :class:`Sample` instead of an index. Else it is the data set itself."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, sample: Sample) -> Any:
        with randomness.seeded(sample.seed):
            return self.dataset[sample.index]

    def __getattr__(self, name: str) -> Any:
        # Not `__getitems__`, which would go round the seeds; not `dataset`, which is not there while
        # unpickling.
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Batches:
    """The batch sampler, whose batches know their place. Else it is the batch sampler itself."""

    def __init__(self, inner: Any, rank: int) -> None:
        self.inner = inner
        self.rank = rank
        self.seed = self.epoch = self.done = 0

    def seek(self, seed: int, epoch: int, done: int) -> None:
        """Let the next iteration be of this epoch, from its batch ``done`` (from 0) on; no image is
        loaded."""
        self.seed, self.epoch, self.done = seed, epoch, done

    @property
    def sampler_seed(self) -> int | None:
        """The sampler's own seed, which may be another than the run's; None if it has none."""
        seed = getattr(self._sampler(), "seed", None)
        return seed if isinstance(seed, int) else None

    def seed_sampler(self, seed: int | None) -> None:
        """Give the sampler the seed that it had; None: it has none."""
        if seed is not None:
            self._sampler().seed = seed

    def _sampler(self) -> Any:
        """Return what the order is drawn by; mmdet 2.x has batch samplers that do it themselves."""
        return getattr(self.inner, "sampler", self.inner)

    def begin(self, loader: Any) -> Iterator[Any]:
        """An iterator of ``loader``, made without drawing: whether it is made anew in an epoch depends on
        how long its workers have lived."""
        with randomness.seeded(randomness.sample_seed(self.seed, self.epoch, self.rank, -1, 1)):
            return iter(loader)

    def __iter__(self) -> Iterator[list[Sample]]:
        seed, epoch, done = self.seed, self.epoch, self.done
        # The whole order at once: some samplers draw from the process's generators, all processes the same.
        with randomness.seeded(randomness.sample_seed(seed, epoch, 0, -1, 0)):
            order = list(self.inner)
        for number, batch in enumerate(order[done:], done):
            places = (randomness.sample_seed(seed, epoch, self.rank, number, i) for i in range(len(batch)))
            yield [Sample(index, place) for index, place in zip(batch, places)]

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class Endless(Batches):
    """The batch sampler of a training by iterations: its passes one after the other, without end. A place in
    it is the number of batches before it (epoch 0); the sampler may be endless itself."""

    def __iter__(self) -> Iterator[list[Sample]]:
        seed, epoch, done = self.seed, self.epoch, self.done
        for number, batch in enumerate(itertools.islice(self._passes(seed), done, None), done):
            places = (randomness.sample_seed(seed, epoch, self.rank, number, i) for i in range(len(batch)))
            yield [Sample(index, place) for index, place in zip(batch, places)]

    def _passes(self, seed: int) -> Iterator[Any]:
        try:
            at_once = max(1, len(self.inner))  # as many as a pass has, if a pass has an end
        except TypeError:
            at_once = _AT_ONCE
        for number in itertools.count():
            for part in itertools.count():
                # Some samplers draw from the process's generators, all processes the same.
                with randomness.seeded(randomness.sample_seed(seed, number, 0, -2, part)):
                    if not part:
                        if number and hasattr(self._sampler(), "set_epoch"):  # as the runners do
                            self._sampler().set_epoch(number)
                        batches = iter(self.inner)
                    some = list(itertools.islice(batches, at_once))
                if not some and not part:
                    raise CannotPosition("the data loader's sampler has no batch")
                yield from some
                if len(some) < at_once:
                    break


def positioned(loader: Any, rank: int, endless: bool = False) -> Any:
    """The same loader over :class:`Batches` of a :class:`SeededDataset`; ``endless``, over :class:`Endless`.
    Raises CannotPosition."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise CannotPosition("the data loader has no batch sampler")
    options = {"collate_fn": loader.collate_fn, "pin_memory": loader.pin_memory}
    if loader.generator is not None:
        options["generator"] = loader.generator
    if loader.num_workers:
        options.update({name: getattr(loader, name) for name in _WORKER_OPTIONS})
    batches = (Endless if endless else Batches)(loader.batch_sampler, rank)
    return DataLoader(
        SeededDataset(loader.dataset), batch_sampler=batches, num_workers=loader.num_workers, **options
    )
