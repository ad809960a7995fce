"""Records what one implementation makes of a batch, for ``ddqjobs.detect.align modules`` and ``losses``.

    python -m ddqjobs.detect.capture CONFIG --out dump.npz (--weights CKPT | --seed S)
        [--split train|test] [--images 0 1] [--batch OTHER.npz] [--mode predict|loss]
        [--points POINTS.json --side SIDE] [--iterations K --scalars scalars.json] [--cfg-options k=v ...]

Runs in the implementation's own environment; the comparison needs NumPy only. The dump begins with the data:
the batch as the model gets it (``data.inputs``), boxes, labels, sizes of each image. With ``--batch`` the
data are another dump's, so that what differs then is the model's. After that comes the output of every module
in the order in which they end, inner ones before outer ones. ``--points`` adds functions that are no modules,
and names for what is called differently; JSON, ``{name: path}`` or ``{name: {side: path}}``, a path as
``bbox_head.conv_cls`` or, with brackets, a method: ``bbox_head.main_loss.assigner.assign()``.

With ``--iterations`` the model is trained that long with the configuration's optimizer, images in the order
of the data set, random numbers from the seed: loss terms and gradient norms go to ``--scalars`` (JSON lines).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from . import dumps, files, parity, runtime

# Of objects that are neither containers nor data elements: mmdet's AssignResult.
_FIELDS = ("gt_inds", "labels", "max_overlaps", "assign_metrics")
_META = ("img_shape", "ori_shape", "scale_factor", "flip")


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
    parser.add_argument("--batch", type=Path, help="a dump whose data to use")
    parser.add_argument("--mode", choices=("predict", "loss"), default="loss")
    parser.add_argument("--points", type=Path)
    parser.add_argument("--side", default="new")
    parser.add_argument("--iterations", type=int, default=0)
    parser.add_argument("--scalars", type=Path)
    parser.add_argument("--cfg-options", nargs="*", default=[], metavar="key=value")
    args = parser.parse_args(argv)
    try:
        dump, rows = _capture(args)
    except (ValueError, OSError) as error:
        print(f"capture: {error}", file=sys.stderr)
        return 2
    dumps.write(args.out, dump)
    if args.scalars is not None:
        files.replace_text(args.scalars, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"capture: {len(dump)} arrays, {len(rows)} iterations")
    return 0


def _capture(args: argparse.Namespace) -> tuple[dumps.Arrays, list[dict[str, float]]]:
    runtime.set_up()
    cfg = runtime.load_config(args.config, args.cfg_options)
    cfg.model.backbone.init_cfg = None
    model = runtime.build_model(cfg)
    if args.weights is not None:
        _load(model, args.weights)
    else:
        parity.fill(model, args.seed)
    points = points_of(json.loads(args.points.read_text()) if args.points else {}, args.side)
    recorder = Recorder()
    seed = args.seed or 0
    if args.batch is not None:
        inputs, samples = from_dump(dumps.read(args.batch))
    else:
        inputs, samples = load(cfg, model, args.split, args.images, seed)
    recorder.add("data", data(inputs, samples))
    with recorder.watch(model, points):
        run(model, inputs, samples, args.mode, seed)
    rows = train(cfg, model, args.split, len(args.images), args.iterations, seed)
    return recorder.arrays, rows


def _load(model: Any, path: Path) -> None:
    state = runtime.load_checkpoint(path)
    try:
        model.load_state_dict(state.get("state_dict", state), strict=True)
    except RuntimeError as error:
        raise runtime.CannotLoad(f"{path} does not fit: {' '.join(str(error).split())[:300]}") from error


class Recorder:
    """Arrays in the order in which they came."""

    def __init__(self) -> None:
        self.arrays: dumps.Arrays = {}
        self._calls: dict[str, int] = {}
        self._order = 0

    def add(self, name: str, value: Any) -> None:
        """Record a value, which may be anything that holds tensors."""
        call = self._calls[name] = self._calls.get(name, -1) + 1
        for part, array in leaves(value):
            self.arrays[f"{self._order:06d}|{name}|{call}|{part}"] = array
        self._order += 1

    @contextlib.contextmanager
    def watch(self, model: Any, points: Mapping[str, str]) -> Iterator[None]:
        """Record the outputs of all modules and of the points while the block runs."""
        known = {path: name for name, path in points.items()}
        undo: list[Callable[[], Any]] = []
        try:
            for path, module in model.named_modules():
                if path:
                    hook = module.register_forward_hook(self._hook(known.get(path, path)))
                    undo.append(hook.remove)
            for name, path in points.items():
                if path.endswith("()"):
                    undo.append(self._wrap(model, name, path[:-2]))
            yield
        finally:
            for action in undo:
                action()

    def _hook(self, name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: self.add(name, output)

    def _wrap(self, model: Any, name: str, path: str) -> Callable[[], Any]:
        owner_path, _, method = path.rpartition(".")
        try:
            owner = functools.reduce(_member, filter(None, owner_path.split(".")), model)
            original = getattr(owner, method)
        except (AttributeError, IndexError) as error:
            raise ValueError(f"point {name}: the model has no {path}()") from error

        def recorded(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            self.add(name, output)
            return output

        # Past nn.Module's own __setattr__, which would register what it gets.
        vars(owner)[method] = recorded
        return lambda: vars(owner).pop(method)


def _member(owner: Any, name: str) -> Any:
    return owner[int(name)] if name.isdigit() else getattr(owner, name)


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(part, array) of everything in a value that holds numbers."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        yield prefix or "value", value.detach().cpu().numpy().copy()
    elif isinstance(value, (bool, int, float, np.ndarray, np.generic)):
        yield prefix or "value", np.array(value)
    elif isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{prefix}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from leaves(item, f"{prefix}.{number}".lstrip("."))
    elif hasattr(value, "pred_instances") or (hasattr(value, "items") and callable(value.items)):
        found = value.pred_instances if hasattr(value, "pred_instances") else value
        yield from leaves(dict(found.items()), prefix)
    else:
        fields = {name: getattr(value, name, None) for name in _FIELDS}
        yield from leaves({k: v for k, v in fields.items() if v is not None}, prefix)


def points_of(declared: Mapping[str, Any], side: str) -> dict[str, str]:
    """Name -> path of one side. Raises ValueError for a side that a point does not name."""
    found = {}
    for name, path in declared.items():
        chosen = path if isinstance(path, str) else path.get(side)
        if not isinstance(chosen, str):
            raise ValueError(f"point {name}: no path for side {side!r}")
        found[name] = chosen
    return found


def data(inputs: Any, samples: Sequence[Any]) -> dict[str, Any]:
    """A batch as it is dumped: inputs (N, 3, H, W), and per image boxes, labels and sizes."""
    import numpy as np

    found: dict[str, Any] = {"inputs": inputs}
    for number, sample in enumerate(samples):
        meta = {key: np.array(sample.metainfo[key]) for key in _META if key in sample.metainfo}
        instances = sample.gt_instances
        objects = {"boxes": instances.bboxes, "labels": instances.labels} if "bboxes" in instances else {}
        found[str(number)] = {**meta, **objects}
    return found


def from_dump(dump: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """(inputs, data samples) of the data in a dump. Raises ValueError if it has none."""
    import numpy as np
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    parts = {key.split("|")[3]: value for key, value in dump.items() if key.split("|")[1] == "data"}
    if "inputs" not in parts:
        raise ValueError("the dump holds no data")
    inputs = torch.from_numpy(parts["inputs"])
    samples = []
    for number in range(len(inputs)):
        meta = {k: tuple(parts[f"{number}.{k}"].tolist()) for k in _META[:3] if f"{number}.{k}" in parts}
        shape = tuple(inputs.shape[2:])
        sample = DetDataSample(metainfo={**meta, "batch_input_shape": shape, "pad_shape": shape})
        boxes = torch.from_numpy(parts.get(f"{number}.boxes", np.zeros((0, 4), np.float32)))
        labels = torch.from_numpy(parts.get(f"{number}.labels", np.zeros(len(boxes), np.int64)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return inputs, samples


def load(cfg: Any, model: Any, split: str, images: Sequence[int], seed: int) -> tuple[Any, list[Any]]:
    """(inputs, data samples) of images of the data set, through pipeline and preprocessor, which augment with
    random numbers of the seed."""
    import random

    import numpy as np
    import torch
    from mmdet.registry import DATASETS
    from mmengine.dataset import pseudo_collate

    settings = (cfg.train_dataloader if split == "train" else cfg.test_dataloader).dataset
    dataset = DATASETS.build(settings)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    batch = pseudo_collate([dataset[index % len(dataset)] for index in images])
    done = model.data_preprocessor(batch, training=split == "train")
    return done["inputs"], done["data_samples"]


def run(model: Any, inputs: Any, samples: Sequence[Any], mode: str, seed: int) -> None:
    """Predict, or take the losses and their gradient."""
    import torch

    torch.manual_seed(seed)
    if mode == "predict":
        model.eval()
        with torch.no_grad():
            model(inputs, samples, mode="predict")
        return
    model.train()
    model(inputs, samples, mode="loss")


def train(cfg: Any, model: Any, split: str, size: int, iterations: int, seed: int) -> list[dict[str, float]]:
    """Train some iterations; a row of loss terms and the gradient's norm, before clipping, for each."""
    import torch
    from mmengine.optim import build_optim_wrapper

    if not iterations:
        return []
    model.train()
    wrapper, rows = build_optim_wrapper(model, cfg.optim_wrapper), []
    for step in range(iterations):
        images = range(step * size, (step + 1) * size)
        inputs, samples = load(cfg, model, split, images, seed + step)
        torch.manual_seed(seed + step)
        total, terms = model.parse_losses(model(inputs, samples, mode="loss"))
        model.zero_grad()
        total.backward()
        row = {key: float(value.detach()) for key, value in terms.items()}
        rows.append({**row, "grad_norm": parity.gradient_norm(model), "epoch": 1, "step": step + 1})
        if wrapper.clip_grad_kwargs:
            wrapper._clip_grad()
        wrapper.optimizer.step()
    return rows


if __name__ == "__main__":
    sys.exit(main())
