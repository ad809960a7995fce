"""Answer for mmdet 3.x what ``ddqjobs.detect.capture`` asks: the data set, predictions, losses, an
optimizer."""

from __future__ import annotations

import random
from typing import Any, Sequence

from .batch import META, Batch, objects, pair


def pipeline(cfg: Any, split: str) -> Any:
    """Return what the data set does to an image, step by step."""
    return _dataset(cfg, split).pipeline


def _dataset(cfg: Any, split: str) -> Any:
    return (cfg.train_dataloader if split == "train" else cfg.test_dataloader).dataset


def load(cfg: Any, model: Any, split: str, images: Sequence[int], seed: int) -> Batch:
    """Images of the data set, through pipeline and preprocessor, which augment with random numbers of the
    seed."""
    import numpy as np
    import torch
    from mmdet.registry import DATASETS
    from mmengine.dataset import pseudo_collate

    dataset = DATASETS.build(_dataset(cfg, split))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    batch = pseudo_collate([dataset[index % len(dataset)] for index in images])
    done = model.data_preprocessor(batch, training=split == "train")
    return Batch(done["inputs"], [_image(sample) for sample in done["data_samples"]])


def _image(sample: Any) -> dict[str, Any]:
    meta, instances = sample.metainfo, sample.gt_instances
    image: dict[str, Any] = {key: pair(meta[key], key != "scale_factor") for key in META[:3] if key in meta}
    if "flip" in meta:
        image["flip"] = bool(meta["flip"])
    if "bboxes" in instances:
        image.update(boxes=instances.bboxes, labels=instances.labels)
    return image


def predict(model: Any, batch: Batch) -> Any:
    """Data samples with detections in pixels of the original images."""
    return model(batch.inputs, _samples(batch), mode="predict")


def losses(model: Any, batch: Batch) -> tuple[Any, Any]:
    """The loss, and every value that a training logs."""
    return model.parse_losses(model(batch.inputs, _samples(batch), mode="loss"))  # type: ignore[no-any-return]


def _samples(batch: Batch) -> list[Any]:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    shape = tuple(batch.inputs.shape[2:])
    samples = []
    for image in batch.images:
        meta = {key: image[key] for key in META if key in image}
        sample = DetDataSample(metainfo={**meta, "batch_input_shape": shape, "pad_shape": shape})
        boxes, labels = objects(image)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return samples


def optimizer(cfg: Any, model: Any) -> tuple[Any, Any]:
    """The configuration's optimizer, and what torch's clip_grad_norm_ gets, if anything."""
    from mmengine.optim import build_optim_wrapper

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    return wrapper.optimizer, cfg.optim_wrapper.get("clip_grad")
