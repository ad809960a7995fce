"""Compares models with numbers that were recorded from another implementation, the release.

    python -m ddqjobs.detect.parity --case CONFIG RECORD [--case ...] --junit junit.xml

Weights and images come from a seed (:mod:`ddqjobs.detect.inputs`), on the CPU. Each case is two tests,
``predictions`` and ``losses``. Exit code 0, 1 if a test fails, 2 for inputs that cannot be used. A record is
JSON::

    measured    with which versions
    seed        of weights, images and of torch before the losses (DETR's denoising queries)
    images      per image: detections (how many), score_sum, box_sum (4 numbers), label_sum over all of them;
                scores, labels, boxes (xyxy, pixels of the original image) of the best ones
    losses      every value that training logs in one iteration, and grad_norm, before any clipping
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Sequence
from xml.etree import ElementTree

from . import files, inputs, runtime

PREDICTIONS = 1e-5  # largest difference of scores, and of boxes in parts of SIZE
SIZE = 256.0  # pixels; larger than any recorded image
LOSSES = 1e-4  # largest relative difference of a loss term


class Ran(NamedTuple):
    """The results of a model for the recorded inputs: detections per image, best first, and loss terms."""

    images: list[dict[str, Any]]
    losses: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.parity", description=__doc__.split("\n")[0])
    parser.add_argument("--case", nargs=2, action="append", required=True, metavar=("CONFIG", "RECORD"))
    parser.add_argument("--junit", type=Path, required=True)
    args = parser.parse_args(argv)
    suite = ElementTree.Element("testsuite", name="parity")
    try:
        for config, path in args.case:
            start = time.monotonic()
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            ran = run(build(config), record["seed"])
            problems_by_kind = {"predictions": predictions(ran, record), "losses": losses(ran, record)}
            _add(suite, Path(path).stem, problems_by_kind, time.monotonic() - start)
    except (OSError, ValueError, KeyError) as error:
        print(f"parity: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    failures = sum(case.find("failure") is not None for case in suite)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    files.replace_text(args.junit, ElementTree.tostring(suite, encoding="unicode") + "\n")
    print(f"parity: {len(suite) - failures} of {len(suite)} equal")
    return 1 if failures else 0


def _add(
    suite: ElementTree.Element, name: str, problems_by_kind: dict[str, list[str]], seconds: float
) -> None:
    for kind, problems in problems_by_kind.items():
        taken = str(round(seconds / len(problems_by_kind), 3))
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=kind, time=taken)
        if problems:
            ElementTree.SubElement(case, "failure", message=problems[0]).text = "\n".join(problems)
        print(f"parity: {name} {kind}: {problems[0] if problems else 'equal'}")


def build(config: str) -> Any:
    """The model of a configuration, whose backbone is not downloaded."""
    runtime.set_up()
    cfg = runtime.load_config(config)
    cfg.model.backbone.init_cfg = None
    return runtime.build_model(cfg)


def fill(model: Any, seed: int) -> None:
    """Give the model the weights of a seed."""
    import torch

    state = model.state_dict()
    weights = inputs.weights({key: tuple(value.shape) for key, value in state.items()}, seed)
    with torch.no_grad():
        for key, value in weights.items():
            state[key].copy_(torch.from_numpy(value))


def data_samples(chosen: Sequence[inputs.Sample], shape: Sequence[int]) -> list[Any]:
    """mmdet's data samples of the images of a batch whose shape is (height, width)."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for sample in chosen:
        size = sample.image.shape[:2]
        data_sample = DetDataSample(
            metainfo={
                "img_shape": size,
                "ori_shape": size,
                "pad_shape": tuple(shape),
                "batch_input_shape": tuple(shape),
                "scale_factor": (inputs.SCALE, inputs.SCALE),
            }
        )
        boxes, labels = torch.from_numpy(sample.boxes), torch.from_numpy(sample.labels)
        data_sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(data_sample)
    return samples


def run(model: Any, seed: int) -> Ran:
    """Predict and take the losses of the recorded images with the weights of a seed."""
    import torch

    fill(model, seed)
    chosen = inputs.guard(seed)
    batch = torch.from_numpy(inputs.batch(chosen, model.data_preprocessor.pad_size_divisor))
    shape = batch.shape[2:]
    model.eval()
    with torch.no_grad():
        samples = model.predict(batch, data_samples(chosen, shape), rescale=True)
    images = [_detections(sample.pred_instances) for sample in samples]
    model.train()
    torch.manual_seed(seed)
    total, terms = model.parse_losses(model.loss(batch, data_samples(chosen, shape)))
    total.backward()
    values = {key: float(value.detach()) for key, value in terms.items()}
    return Ran(images, {**values, "grad_norm": gradient_norm(model)})


def gradient_norm(model: Any) -> float:
    """Euclidean norm of the gradients of all weights, summed in double precision."""
    import torch

    norms = [weight.grad.double().norm() for weight in model.parameters() if weight.grad is not None]
    return float(torch.stack(norms).norm())


def _detections(instances: Any) -> dict[str, Any]:
    import numpy as np

    boxes, scores, labels = (getattr(instances, key).numpy() for key in ("bboxes", "scores", "labels"))
    order = np.lexsort((labels, -scores))
    return {"boxes": boxes[order], "scores": scores[order], "labels": labels[order]}


def predictions(ran: Ran, record: dict[str, Any]) -> list[str]:
    """Return what differs from the recorded detections by more than PREDICTIONS."""
    if len(ran.images) != len(record["images"]):
        return [f"{len(ran.images)} images, recorded are {len(record['images'])}"]
    problems: list[str] = []
    for number, (now, then) in enumerate(zip(ran.images, record["images"])):
        if len(now["scores"]) != then["detections"]:
            problems.append(f"image {number}: {len(now['scores'])} detections, not {then['detections']}")
            continue
        for what, value in _differences(now, then).items():
            if not value <= PREDICTIONS:
                problems.append(f"image {number}: {what} differ by {value:.3g}")
    return problems


def _differences(now: dict[str, Any], then: dict[str, Any]) -> dict[str, float]:
    import numpy as np

    best, count = len(then["scores"]), max(then["detections"], 1)
    boxes, scores = now["boxes"].astype(np.float64), now["scores"].astype(np.float64)
    return {
        "labels": float(np.abs(now["labels"][:best] - np.array(then["labels"])).max()),
        "scores": float(np.abs(scores[:best] - then["scores"]).max()),
        "boxes": float(np.abs(boxes[:best] - then["boxes"]).max()) / SIZE,
        "mean scores": abs(scores.sum() - then["score_sum"]) / count,
        "mean boxes": float(np.abs(boxes.sum(0) - then["box_sum"]).max()) / count / SIZE,
        "all labels": abs(int(now["labels"].sum()) - then["label_sum"]),
    }


def losses(ran: Ran, record: dict[str, Any]) -> list[str]:
    """Return what differs from the recorded loss terms by more than LOSSES."""
    expected: dict[str, float] = record["losses"]
    problems = [f"{name} is only on one side" for name in sorted(set(ran.losses) ^ set(expected))]
    for name in [name for name in expected if name in ran.losses]:
        x, y = ran.losses[name], expected[name]
        if not abs(x - y) <= LOSSES * max(abs(x), abs(y)) + 1e-8:
            problems.append(f"{name} is {x:.9g}, recorded is {y:.9g}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
