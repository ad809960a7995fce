"""An interrupted training goes on where it was, also in the middle of an epoch, as if nothing had happened
(docs/explanation/resume.md).

Works in any program that trains with mmengine's runner (0.6 to 0.10.7)::

    custom_imports = dict(imports=['ddqjobs.detect.hooks.resume'])
    custom_hooks = [dict(type='ResumeHook')]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop

from ddqjobs.detect import files, runtime
from ddqjobs.detect.job import checkpoints, claim, progress, stopping
from ddqjobs.detect.speed import groups
from ddqjobs.detect.training import batches, loops, randomness

KEY = "ddqjobs"  # of what a checkpoint holds beside mmengine's own
_AMP_PATIENCE = 20  # iterations in a row without a finite loss, where a loss scaler may find its scale


@HOOKS.register_module(force=True)
class ResumeHook(Hook):  # type: ignore[misc]
    """Finds the checkpoint to go on from, and takes new ones: every ``every`` (iterations, or minutes as
    ``15m``), before a validation, and on the stop file; the last ``keep`` stay.

    Raises stopping.Stopped (exit code 75) on the stop file or when the attempt was given up,
    stopping.Diverged when the loss is NaN, and batches.CannotPosition before the first iteration of a
    training with a loop of its own.
    """

    priority = "VERY_HIGH"

    def __init__(self, every: str | None = None, keep: int | None = None) -> None:
        self.settings = stopping.settings(every, keep)
        self.job = claim.from_environment()
        self.watch = stopping.Watch(self.job, self.settings.every)
        self.begun: dict[str, Any] | None = None  # what the checkpoint that was resumed from holds for us
        self.saving: dict[str, Any] | None = None  # what the one that is being written is to hold
        self.progress: progress.Progress | None = None
        self.active = False  # whether this is a training
        self._finite: Any = True
        self._bad = 0

    def before_run(self, runner: Any) -> None:
        """Take over the loop, the writing of checkpoints, and an earlier attempt's checkpoint."""
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return  # a test or a validation alone: the training's loop is not even built
        kind = loops.LOOPS.get(type(loop))
        if kind is None:
            raise batches.CannotPosition(f"{type(loop).__name__}: {batches.OTHER_LOOPS}")
        self.active = True
        runtime.allow_checkpoints()
        runner._train_loop = kind(loop, self)
        runner.save_checkpoint = Writer(runner, self.job)
        paths: list[Any] = [None]
        if dist.is_main_process():
            path = checkpoints.take_over(
                self.job, Path(runner.work_dir), runner.timestamp, runner.logger.info
            )
            paths = [str(path) if path else None]
        dist.broadcast_object_list(paths)
        if paths[0] is not None:
            runner._load_from, runner._resume = paths[0], True

    def before_train(self, runner: Any) -> None:
        """Begin to count."""
        if self.active and dist.is_main_process():
            self.progress = progress.Progress(Path(runner.work_dir), runner.iter)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep our part of a checkpoint that is resumed from; files that it names lie in this work_dir
        now."""
        if not runner._resume or KEY not in checkpoint:
            return
        state = checkpoint[KEY]
        if len(state["ranks"]) != dist.get_world_size():
            count, now = len(state["ranks"]), dist.get_world_size()
            raise runtime.CannotLoad(f"{runner._load_from} is of {count} processes, this training has {now}")
        self.begun = state
        info = checkpoint["message_hub"]["runtime_info"]
        for name, value in info.items():
            moved = Path(runner.work_dir) / Path(value).name if isinstance(value, str) else None
            if moved is not None and (name == "last_ckpt" or name.startswith("best_ckpt")):
                info[name] = str(moved)
        states = checkpoint.get("param_schedulers")
        if isinstance(states, list):  # of one optimizer
            try:
                groups.fit_schedulers(states, runner.optim_wrapper)
            except ValueError as error:
                raise runtime.CannotLoad(f"{runner._load_from}: {error}") from error

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put our part into a checkpoint to go on from; those of other hooks stay as they are."""
        if self.saving is not None:
            checkpoint["meta"].update(epoch=runner.epoch, iter=runner.iter)
            checkpoint[KEY] = self.saving

    def after_train_iter(self, _runner: Any, outputs: Any = None, **_: Any) -> None:
        """Note whether the loss is finite, without waiting for it."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        self._finite = torch.isfinite(torch.as_tensor(loss)).all() if loss is not None else True

    def after_val_iter(self, runner: Any, **_: Any) -> None:
        """End in the middle of a validation: the checkpoint before it is there already."""
        self._sign_of_life(runner)
        uneven = not getattr(runner.val_loop.dataloader.sampler, "round_up", True)
        if not self.active or (uneven and dist.is_distributed()):
            return  # processes with different numbers of batches would wait for each other
        seen = self._agree(runner, self.watch.look(0, True)._replace(due=0.0))
        if seen.stop or seen.lost:
            self._end(runner, "in a validation", saved=True)

    def between(self, runner: Any, loop: loops.Loop, done: int) -> None:
        """After iteration ``done`` (from 1) of an epoch, or of a training by iterations, when all other hooks
        have had their turn."""
        self._sign_of_life(runner)
        seen = self._agree(runner, self.watch.look(runner.iter, bool(self._finite)))
        self._bad = self._bad + 1 if seen.bad else 0
        where = loop.place(done)
        if self._bad >= (_AMP_PATIENCE if hasattr(runner.optim_wrapper, "loss_scaler") else 1):
            raise stopping.Diverged(f"loss is NaN or Inf {where} (iteration {runner.iter} of the training)")
        if seen.lost:
            self._end(runner, where, saved=False)
        if seen.stop or seen.due or loop.validates_after(done):
            self._save(runner, loop, done, needed=bool(seen.stop))
        if seen.stop:
            self._end(runner, where, saved=True)

    def _sign_of_life(self, runner: Any) -> None:
        if self.progress is not None:
            self.progress.done(runner.iter)

    def _agree(self, runner: Any, seen: stopping.Seen) -> stopping.Seen:
        """Return what any process has seen: all see it."""
        if not dist.is_distributed():
            return seen
        flags = torch.tensor(list(seen), device=next(runner.model.parameters()).device)
        dist.all_reduce(flags, "max")
        return stopping.Seen(*flags.tolist())

    def _save(self, runner: Any, loop: loops.Loop, done: int, needed: bool) -> None:
        mine = {"generators": randomness.state(), "gradients": _gradients(runner)}
        if not dist.is_main_process():
            # Statistics of batch norms differ between processes until the next forward pass: a validation
            # sees it.
            mine["buffers"] = {name: buffer.cpu().clone() for name, buffer in runner.model.named_buffers()}
        ranks = dist.all_gather_object(mine)
        place = checkpoints.Place(runner.epoch, done)
        sampler_seed = loop.dataloader.batch_sampler.sampler_seed
        self.saving = {"batches": done, "sampler_seed": sampler_seed, "ranks": ranks}
        try:
            runner.save_checkpoint(runner.work_dir, place.name, by_epoch=False)
            self.watch.saved()
            if dist.is_main_process():
                checkpoints.prune(self.job, Path(runner.work_dir), self.settings.keep)
        except OSError as error:
            if needed:
                raise
            runner.logger.error(f"{place.name} could not be written: {error}; the training goes on")
        finally:
            self.saving = None

    def _end(self, runner: Any, where: str, saved: bool) -> None:
        why = self.watch.reason()
        runner.logger.info(f"Stopped {where}: {why}")
        if dist.is_main_process():
            stopping.leave_marker(where, saved)
        sys.stdout.flush()
        raise stopping.Stopped(f"{why}, {where}")


class Writer:
    """Stands for ``runner.save_checkpoint``: atomically, and only while this attempt speaks for the run."""

    def __init__(self, runner: Any, job: claim.Job) -> None:
        self.save = runner.save_checkpoint
        self.job = job

    def __call__(self, out_dir: str, filename: str, *args: Any, **keys: Any) -> None:
        """As Runner.save_checkpoint. Raises stopping.Stopped if this attempt was given up."""
        if not dist.is_main_process():
            return

        def write(temporary: Path) -> None:
            self._speaks()
            self.save(out_dir, temporary.name, *args, **keys)
            self._speaks()  # a node may sleep for hours in between

        files.replace(Path(out_dir) / filename, write)

    def _speaks(self) -> None:
        why = self.job.lost()
        if why:
            raise stopping.Stopped(f"no checkpoint is written: {why}")


def _gradients(runner: Any) -> dict[str, Any]:
    """Gradients by parameter: themselves while they are being accumulated, None where they are zeros.

    torch before 2.0 leaves zeros after a step where later versions leave nothing, and that is not the same
    to an optimizer with weight decay.
    """
    wrapper = runner.optim_wrapper
    between = getattr(wrapper, "_inner_count", 0) % getattr(wrapper, "_accumulative_counts", 1)
    named = [
        (name, parameter.grad)
        for name, parameter in runner.model.named_parameters()
        if parameter.grad is not None
    ]
    return {name: grad.detach().cpu() if between else None for name, grad in named}
