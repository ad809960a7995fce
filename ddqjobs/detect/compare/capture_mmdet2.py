"""Answer for mmdet 2.x what ``ddqjobs.detect.capture`` asks: the data set, predictions, losses, an optimizer.

torch 1.9 clean.
"""

from __future__ import annotations

import random
import re
from typing import Any, Sequence

from .batch import META, Batch, objects, pair


def pipeline(cfg: Any, split: str) -> Any:
    """Return what the data set does to an image, step by step."""
    return _dataset(cfg, split).pipeline


def _dataset(cfg: Any, split: str) -> Any:
    return cfg.data.train if split == "train" else cfg.data.test


def load(cfg: Any, model: Any, split: str, images: Sequence[int], seed: int) -> Batch:
    """Images of the data set, through its pipeline, which augments with random numbers of the seed. Those of
    the test split have their annotations as the file has them: mmdet 3.x loads them so, after resizing."""
    import numpy as np
    import torch
    from mmdet.datasets import build_dataset

    del model  # mmdet 2.x normalises and pads in the pipeline
    dataset = build_dataset(_dataset(cfg, split))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    chosen = [index % len(dataset) for index in images]
    results = [{key: _plain(value) for key, value in dataset[index].items()} for index in chosen]
    batch_images = []
    for index, result in zip(chosen, results):
        if split == "test":
            annotations = dataset.get_ann_info(index)
            result["gt_bboxes"] = torch.from_numpy(annotations["bboxes"])
            result["gt_labels"] = torch.from_numpy(annotations["labels"])
        batch_images.append(_image(result, split))
    return Batch(_stack([result["img"] for result in results]), batch_images)


def _plain(value: Any) -> Any:
    """Out of mmcv's DataContainer, and of the list over test-time augmentations, of which there is one."""
    while True:
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        elif hasattr(value, "cpu_only"):
            value = value.data
        else:
            return value


def _image(result: Any, split: str) -> dict[str, Any]:
    meta = result["img_metas"]
    image: dict[str, Any] = {key: pair(meta[key], key != "scale_factor") for key in META[:2]}
    width, height = meta["scale_factor"][:2]
    image["scale_factor"] = (float(width), float(height))
    if split == "train":
        image["flip"] = bool(meta["flip"])
    return {**image, "boxes": result["gt_bboxes"], "labels": result["gt_labels"]}


def _stack(images: Sequence[Any]) -> Any:
    """(N, 3, H, W) of images (3, h, w), padded with zeros at the right and at the bottom."""
    import torch

    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    stacked = torch.zeros(len(images), images[0].shape[0], height, width)
    for place, image in zip(stacked, images):
        place[:, : image.shape[1], : image.shape[2]] = image
    return stacked


def predict(model: Any, batch: Batch) -> Any:
    """Per image and class, detections (n, 5) in pixels of the original images."""
    return model.simple_test(batch.inputs, _metas(batch), rescale=True)


def losses(model: Any, batch: Batch) -> tuple[Any, Any]:
    """The loss, and every value that a training logs, stages called as in mmdet 3.x."""
    boxes, labels = zip(*(objects(image) for image in batch.images))
    stage_losses = model.forward_train(batch.inputs, _metas(batch), list(boxes), list(labels))
    total, values = model._parse_losses(stage_losses)
    return total, {re.sub(r"^stage(\d+)_", r"s\1.", name): value for name, value in values.items()}


def _metas(batch: Batch) -> list[Any]:
    import numpy as np

    height, width = batch.inputs.shape[2:]
    return [
        {
            "img_shape": (*image["img_shape"], 3),
            "ori_shape": (*image["ori_shape"], 3),
            "pad_shape": (height, width, 3),
            "batch_input_shape": (height, width),
            "scale_factor": np.array(image["scale_factor"] * 2, np.float32),
            "flip": image.get("flip", False),
        }
        for image in batch.images
    ]


def optimizer(cfg: Any, model: Any) -> tuple[Any, Any]:
    """The configuration's optimizer, and what torch's clip_grad_norm_ gets, if anything."""
    from mmcv.runner import build_optimizer

    return build_optimizer(model, cfg.optimizer), (cfg.get("optimizer_config") or {}).get("grad_clip")
