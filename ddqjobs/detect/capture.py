"""Records what one implementation makes of a batch, for ``ddqjobs.detect.align modules`` and ``losses``.

    python -m ddqjobs.detect.capture CONFIG --out dump.npz (--weights CKPT | --seed S)
        [--split train|test] [--images 0 1] [--scale W H] [--values N] [--batch OTHER.npz]
        [--mode predict|loss] [--points POINTS.json --side SIDE] [--iterations K --scalars scalars.json]
        [--imports MODULE ...] [--cfg-options k=v ...]

Runs in the implementation's own environment, with mmdet 3.x (:mod:`.compare.capture_mmdet3`) or mmdet 2.x
(:mod:`.compare.capture_mmdet2`), on the CPU, whether or not the machine has a GPU: ``.cuda()``, which the
release calls in its forward passes, does nothing. The comparison needs NumPy only. The dump begins with the
data: the batch as the model gets it (``data.inputs``), boxes, labels, sizes of each image. With ``--batch``
the data are another dump's, those of the iterations too, so that what differs then is the model's. After that
comes the output of every module in the order in which they end, inner ones before outer ones.

Of DDQ DETR and two images of 330x200 pixels that is 4 GB. ``--values`` keeps at most so many of each output,
spread evenly over it, and its shape; what differs elsewhere is seen in the modules that follow. ``--scale``
is what the data set's pipeline resizes images to, in place of its own.

``--points`` is JSON, ``{class: {name: point}}``; a class's points hold if the model has a module of that
class. They add functions that are no modules, and names for what is called differently. A point is a path, or
``{side: path}``. A path is a module, ``bbox_head.conv_cls``, or, with brackets, a method,
``bbox_head.dense_queries()``; ``{"path": ..., "fields": [...]}`` records these values of each image, named
where the method returns a list of images per value, and ``"by": FIELD`` orders them by one, so that two equal
scores may change places; where that field is no single number (boxes), the comparison matches the rows of
each image as a set. A point that is null is a module that is not recorded, because each side structures
its output in its own way.

``--imports`` are modules that register what the configuration names and does not import itself. With
``--iterations`` the model is trained that long with the configuration's optimizer, images in the order of the
data set, random numbers from the seed: loss terms and gradient norms go to ``--scalars`` (JSON lines). The
dump holds the data of each iteration as well: ``data`` of call 1, 2, ...
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from . import convert, files, layouts, parity, runtime
from .compare import dumps, mappings, modules
from .compare.batch import Batch, data, from_dump
from .compare.recorder import Recorder, points_of
from .configurations import located


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.capture", description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path)
    source.add_argument("--seed", type=int)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1], help="indices in the data set")
    parser.add_argument("--scale", type=int, nargs=2, metavar=("W", "H"), help="of the images, in pixels")
    parser.add_argument("--values", type=int, default=0, metavar="N", help="of each output; 0: all")
    parser.add_argument("--batch", type=Path, help="a dump whose data to use")
    parser.add_argument("--mode", choices=("predict", "loss"), default="loss")
    parser.add_argument("--points", type=Path)
    parser.add_argument("--side", default="new")
    parser.add_argument("--iterations", type=int, default=0)
    parser.add_argument("--scalars", type=Path)
    parser.add_argument("--imports", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    try:
        inputs = (Path(args.config), args.weights, args.batch, args.points)
        files.keep_apart({"--out": args.out, "--scalars": args.scalars}, inputs)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with on_the_cpu():
            dump, rows = _capture(args)
        dumps.write(args.out, dump)
        if args.scalars is not None:
            files.replace_text(args.scalars, "".join(json.dumps(row) + "\n" for row in rows))
    except (ValueError, OSError, ImportError) as error:
        print(f"capture: {error}", file=sys.stderr)
        return 2
    print(f"capture: {len(dump)} arrays, {len(rows)} iterations")
    return 0


def _capture(args: argparse.Namespace) -> tuple[dumps.Arrays, list[dict[str, float]]]:
    runtime.set_up()
    for name in args.imports:
        importlib.import_module(name)
    side = _side()
    cfg = runtime.load_config(located(args.config), args.cfg_options)
    cfg.model.backbone.init_cfg = None
    if args.scale is not None:
        resize(side.pipeline(cfg, args.split), tuple(args.scale))
    model = runtime.build_model(cfg)
    if args.weights is not None:
        _load(model, args.weights)
    else:
        parity.fill(model, args.seed)
    points = points_of(json.loads(args.points.read_text()) if args.points else {}, args.side, model)
    recorder = Recorder(args.values)
    seed = args.seed or 0
    batches = _batches(args, functools.partial(side.load, cfg, model, args.split), recorder, seed)
    batch = next(batches)  # before anything is watched: the preprocessor is a module, too
    with recorder.watch(model, points):
        run(side, model, batch, args.mode, seed)
    return recorder.arrays, train(side, cfg, model, batches, seed)


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """Let ``.cuda()`` of tensors and modules return them as they are: values stay beside the model's weights,
    where both sides compute alike, on machines with a GPU and without."""
    import torch

    owners: Sequence[Any] = (torch.Tensor, torch.nn.Module)
    originals = [owner.cuda for owner in owners]

    def unmoved(self: Any, *_: Any, **__: Any) -> Any:
        return self

    try:
        for owner in owners:
            owner.cuda = unmoved
        yield
    finally:
        for owner, original in zip(owners, originals):
            owner.cuda = original


def _batches(
    args: argparse.Namespace, load: Callable[[Sequence[int], int], Batch], recorder: Recorder, seed: int
) -> Iterator[Batch]:
    """The batch that is looked at, then those of the iterations, each recorded."""
    other = dumps.read(args.batch) if args.batch is not None else None
    size = len(args.images)
    for iteration in range(args.iterations + 1):
        images = range((iteration - 1) * size, iteration * size) if iteration else args.images
        if other is not None:
            batch = from_dump(other, iteration)
        else:
            batch = load(images, seed + max(iteration - 1, 0))
        recorder.add(modules.DATA, data(batch))
        yield batch


def resize(pipeline: Sequence[Any], scale: tuple[int, int]) -> None:
    """Give every step of a data set's pipeline that has one scale another. Raises ValueError if none has."""
    steps = [step for step in pipeline if "scale" in step or "img_scale" in step]
    if not steps:
        raise ValueError("--scale: no step of the pipeline has a scale")
    for step in steps:
        step["scale" if "scale" in step else "img_scale"] = scale


def _side() -> Any:
    """The functions that speak to the installed mmdet: ``pipeline``, ``load``, ``predict``, ``losses``,
    ``optimizer``."""
    if runtime.generation() < 3:
        from .compare import capture_mmdet2

        return capture_mmdet2
    from .compare import capture_mmdet3

    return capture_mmdet3


def _load(model: Any, path: Path) -> None:
    """Fill the model; raises CannotLoad unless the weights are the model's, but for copies and averages."""
    target, rules = model.state_dict(), mappings.MAPPINGS["identity"]
    layout = layouts.choose(runtime.load_checkpoint(path), target, rules.__call__, None, path)
    fitted = convert.fit(layout, target, rules, path)
    model.load_state_dict(fitted.state, strict=True)


def run(side: Any, model: Any, batch: Batch, mode: str, seed: int) -> None:
    """Predict, or take the losses."""
    import torch

    torch.manual_seed(seed)
    model.train(mode == "loss")
    if mode == "loss":
        side.losses(model, batch)
        return
    with torch.no_grad():
        side.predict(model, batch)


def train(side: Any, cfg: Any, model: Any, batches: Iterable[Batch], seed: int) -> list[dict[str, float]]:
    """Train an iteration with each batch; a row of loss terms and the gradient's norm, before clipping, for
    each."""
    import torch

    optimizer: Any = None
    rows: list[dict[str, float]] = []
    for step, batch in enumerate(batches):
        if optimizer is None:
            model.train()
            optimizer, limit = side.optimizer(cfg, model)
        torch.manual_seed(seed + step)
        total, terms = side.losses(model, batch)
        model.zero_grad()
        total.backward()
        row = {key: _float(value) for key, value in terms.items()}
        rows.append({**row, "grad_norm": parity.gradient_norm(model), "epoch": 1, "step": step + 1})
        _clip(model, limit)
        optimizer.step()
    return rows


def _float(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def _clip(model: Any, limit: Mapping[str, Any] | None) -> None:
    import torch

    weights = [weight for weight in model.parameters() if weight.grad is not None]
    if limit:
        torch.nn.utils.clip_grad_norm_(weights, **limit)


if __name__ == "__main__":
    sys.exit(main())
