"""The same for mmcv 1.x: an interrupted training of an EpochBasedRunner goes on in the middle of its epoch,
one of an IterBasedRunner after its last iteration.

For mmdet 2.x (tried with mmcv 1.4.7)::

    custom_imports = dict(imports=['ddqjobs.detect.hooks.resume_mmcv1'], allow_failed_imports=False)
    custom_hooks = [dict(type='ResumeHook', priority='VERY_HIGH')]

What differs from mmengine is said in docs/explanation/resume.md. Python 3.8 and torch 1.9 clean.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Iterator

import torch
from mmcv.runner import (
    HOOKS,
    EpochBasedRunner,
    Hook,
    IterBasedRunner,
    get_dist_info,
    iter_based_runner,
    save_checkpoint,
)

from ddqjobs.detect import files
from ddqjobs.detect.job import checkpoints, claim, progress, stopping
from ddqjobs.detect.training import batches, randomness

KEY = "ddqjobs"  # of what the meta data of a checkpoint hold for us


@HOOKS.register_module(force=True)
class ResumeHook(Hook):  # type: ignore[misc]
    """Finds the checkpoint to go on from, and takes new ones: every ``every`` (iterations, or minutes as
    ``15m``), at the end of an epoch, and on the stop file; the last ``keep`` stay.

    Raises stopping.Stopped (exit code 75), stopping.Diverged and batches.CannotPosition as the hook for
    mmengine does.
    """

    def __init__(self, every: str | None = None, keep: int | None = None) -> None:
        self.settings = stopping.settings(every, keep)
        self.job = claim.from_environment()
        self.watch = stopping.Watch(self.job, self.settings.every)
        self.rank, self.processes = get_dist_info()
        self.begun: dict[str, Any] | None = None
        self.progress: progress.Progress | None = None
        self.loaders: dict[int, Any] = {}
        self.passes: Passes | None = None  # of a training by iterations
        self.seed = 0
        self.unsettled = False

    def before_run(self, runner: Any) -> None:
        """Take over the loop, and an earlier attempt's checkpoint."""
        by_epochs = type(runner).train is EpochBasedRunner.train
        if not by_epochs and type(runner).train is not IterBasedRunner.train:
            raise batches.CannotPosition(f"{type(runner).__name__}: {batches.OTHER_LOOPS}")
        work_dir = Path(runner.work_dir)
        given = (runner.meta or {}).get("seed")
        seed = given if given is not None or self.rank else checkpoints.seed(self.job, work_dir)
        path = (
            None
            if self.rank
            else checkpoints.take_over(self.job, work_dir, runner.timestamp, runner.logger.info)
        )
        self.seed, checkpoint = self._from_first([seed, str(path) if path else None])
        if checkpoint is not None:
            self._resume(runner, checkpoint)
        if not self.rank:
            self.progress = progress.Progress(work_dir, runner.iter)
        runner.save_checkpoint = self._guarded(runner.save_checkpoint)
        if by_epochs:
            runner.train = lambda loader, **keys: self.epoch(runner, loader, keys)
        else:
            iteration = runner.train
            runner.train = lambda loader, **keys: self.iteration(runner, iteration, loader, keys)

    def epoch(self, runner: Any, loader: Any, keys: dict[str, Any]) -> None:
        """One epoch, or the rest of it: EpochBasedRunner.train, which can begin in the middle."""
        loader = self.loaders.setdefault(id(loader), batches.positioned(loader, self.rank))
        runner.model.train()
        runner.mode, runner.data_loader = "train", loader
        runner._max_iters = runner._max_epochs * len(loader)
        runner.call_hook("before_train_epoch")
        done = self.begun["batches"] if self.begun else 0
        iterator = self._batches(runner, checkpoints.Place(runner.epoch, done), keys, done < len(loader))
        for index, batch in enumerate(iterator, done):
            runner._inner_iter = index
            runner.call_hook("before_train_iter")
            runner.run_iter(batch, train_mode=True, **keys)
            runner.call_hook("after_train_iter")
            runner._iter += 1
            where = f"at epoch {runner.epoch + 1}, iteration {index + 1}"
            end = index + 1 == len(loader)
            self.between(runner, checkpoints.Place(runner.epoch, index + 1), where, end)
        runner.call_hook("after_train_epoch")
        runner._epoch += 1

    def iteration(self, runner: Any, train: Any, loader: Any, keys: dict[str, Any]) -> None:
        """One iteration of a training by iterations: IterBasedRunner.train, with our batches."""
        other = self.passes is not None and self.passes.source is not loader
        if other or not isinstance(loader, _Unbegun):
            raise batches.CannotPosition(f"{type(runner).__name__} and its loaders: {batches.OTHER_LOOPS}")
        if self.passes is None:
            runner.data_loader = batches.positioned(loader._dataloader, self.rank, endless=True)
            iterator = self._batches(runner, checkpoints.Place(0, runner.iter), keys, True)
            self.passes = Passes(loader, runner.data_loader, iterator)
        self.passes.epoch = runner.iter // max(1, len(self.passes))
        train(self.passes, **keys)
        self.between(runner, checkpoints.Place(0, runner.iter), f"at iteration {runner.iter}", end=False)

    def _batches(self, runner: Any, place: checkpoints.Place, keys: dict[str, Any], left: bool) -> Any:
        """The batches after a place, if any are left, with everything as it was before them."""
        begun, self.begun = self.begun, None
        order = runner.data_loader.batch_sampler
        if begun:
            order.seed_sampler(begun["sampler_seed"])
        order.seek(self.seed, place.epochs, place.batches)
        iterator = order.begin(runner.data_loader) if left else iter(())
        if begun:
            self._as_it_was(runner, begun["ranks"][self.rank])
        return self._settled(runner, iterator, keys)

    def between(self, runner: Any, place: checkpoints.Place, where: str, end: bool) -> None:
        """After an iteration; ``end``, if it was the last one of an epoch."""
        if self.progress is not None:
            self.progress.done(runner.iter)
        loss = runner.outputs.get("loss") if isinstance(runner.outputs, dict) else None
        finite = loss is None or bool(torch.isfinite(torch.as_tensor(loss)).all())
        seen = self._agree(runner, self.watch.look(runner.iter, finite))
        if seen.bad and "fp16" not in (runner.meta or {}):
            raise stopping.Diverged(f"loss is NaN or Inf {where} (iteration {runner.iter} of the training)")
        if not seen.lost and (seen.stop or seen.due or end):
            self._save(runner, place)
        if seen.lost or seen.stop:
            runner.logger.info(f"Stopped {where}: {self.watch.reason()}")
            if not self.rank:
                stopping.leave_marker(where, saved=not seen.lost)
            sys.stdout.flush()
            raise stopping.Stopped(f"{self.watch.reason()}, {where}")

    def _save(self, runner: Any, place: checkpoints.Place) -> None:
        buffer = runner.log_buffer
        mine = {
            "generators": randomness.state(),
            "buffers": {n: b.cpu().clone() for n, b in runner.model.named_buffers()} if self.rank else {},
            "log": [dict(buffer.val_history), dict(buffer.n_history)],
        }
        ranks: list[Any] = [None] * self.processes
        if self.processes > 1:
            torch.distributed.all_gather_object(ranks, mine)
        else:
            ranks = [mine]
        sampler_seed = runner.data_loader.batch_sampler.sampler_seed
        state = {"batches": place.batches, "sampler_seed": sampler_seed, "seed": self.seed, "ranks": ranks}
        meta = {**(runner.meta or {}), "epoch": runner.epoch, "iter": runner.iter, KEY: state}

        def write(temporary: Path) -> None:
            self._speaks()
            save_checkpoint(runner.model, str(temporary), optimizer=runner.optimizer, meta=meta)
            self._speaks()

        if not self.rank:
            files.replace(Path(runner.work_dir) / place.name, write)
            checkpoints.prune(self.job, Path(runner.work_dir), self.settings.keep)
        self.watch.saved()

    def _resume(self, runner: Any, path: str) -> None:
        meta = torch.load(path, map_location="cpu")["meta"]
        state = meta[KEY]
        if len(state["ranks"]) != self.processes:
            count = len(state["ranks"])
            raise ValueError(f"{path} is of {count} processes, this training has {self.processes}")
        runner.resume(path, map_location="cpu")
        # An IterBasedRunner does not take over what hooks keep there, the best score for one.
        runner.meta = {**(runner.meta or {}), "hook_msgs": dict(meta.get("hook_msgs") or {})}
        runner.meta.pop(KEY, None)  # the logger writes the meta data into its file
        for name, value in list(runner.meta["hook_msgs"].items()):
            if name in ("last_ckpt", "best_ckpt"):
                runner.meta["hook_msgs"][name] = str(Path(runner.work_dir) / Path(value).name)
        self.begun, self.seed, self.unsettled = state, state["seed"], True

    def _as_it_was(self, runner: Any, mine: dict[str, Any]) -> None:
        """Everything as it was between the two iterations."""
        randomness.restore(mine["generators"])
        for name, buffer in runner.model.named_buffers():
            if name in mine["buffers"]:
                buffer.copy_(mine["buffers"][name])
        runner.log_buffer.val_history, runner.log_buffer.n_history = map(OrderedDict, mine["log"])

    def _settled(self, runner: Any, iterator: Iterator[Any], keys: dict[str, Any]) -> Iterator[Any]:
        """As in the hook for mmengine: the buckets of DistributedDataParallel as they were."""
        model = runner.model
        if not self.unsettled or not isinstance(model, torch.nn.parallel.DistributedDataParallel):
            return iterator
        first = list(itertools.islice(iterator, 1))
        for batch in first:
            drawn = randomness.state()
            before = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            model.train_step(copy.deepcopy(batch), runner.optimizer, **keys)["loss"].backward()
            for parameter in model.parameters():
                parameter.grad = None
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    value.copy_(before[name])
            randomness.restore(drawn)
            self.unsettled = False
        return itertools.chain(first, iterator)

    def _agree(self, runner: Any, seen: stopping.Seen) -> stopping.Seen:
        if self.processes == 1:
            return seen
        flags = torch.tensor(list(seen), device=next(runner.model.parameters()).device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return stopping.Seen(*flags.tolist())

    def _from_first(self, values: list[Any]) -> list[Any]:
        if self.processes > 1:
            torch.distributed.broadcast_object_list(values)
        return values

    def _guarded(self, save: Any) -> Any:
        def guarded(*args: Any, **keys: Any) -> None:
            self._speaks()
            save(*args, **keys)

        return guarded

    def _speaks(self) -> None:
        why = self.job.lost()
        if why:
            raise stopping.Stopped(f"no checkpoint is written: {why}")


class _Unbegun(iter_based_runner.IterLoader):  # type: ignore[misc]
    """An IterLoader that is not begun before it is read from: for a training our batches are taken in its
    place, and workers that read ahead would have used up what samplers keep between two batches."""

    def __init__(self, dataloader: Any) -> None:
        self._dataloader, self.iter_loader, self._epoch = dataloader, None, 0

    def __next__(self) -> Any:
        if self.iter_loader is None:
            # In which attempt it is begun must not be noticed.
            rank, _ = get_dist_info()
            with randomness.seeded(randomness.sample_seed(torch.initial_seed(), 0, rank, -3, 0)):
                self.iter_loader = iter(self._dataloader)
        return super().__next__()


iter_based_runner.IterLoader = _Unbegun


class Passes:
    """Stands for mmcv's IterLoader: what IterBasedRunner takes its batches from."""

    def __init__(self, source: Any, loader: Any, iterator: Iterator[Any]) -> None:
        self.source, self.loader, self.iterator, self.epoch = source, loader, iterator, 0

    def __next__(self) -> Any:
        return next(self.iterator)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)
