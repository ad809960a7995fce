"""Matching of predictions and boxes for all decoder layers and images at once: one copy to the host.

Costs are mmdet's own functions, called once per image with the predictions of all layers; each of their
numbers depends on one prediction and one box only, so it is the same as in a call per layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from . import host


class Truth(NamedTuple):
    """The boxes of a batch. *All* means those of all images, one after the other, and then one that stands
    for background."""

    instances: list[Any]
    metas: list[Any]
    counts: list[int]
    starts: list[int]  # of each image's boxes among all
    factors: Tensor  # (b, 4) width, height, width, height of each image
    labels: Tensor  # (all,) the background's is the number of classes
    targets: Tensor  # (all, 4) normalised cxcywh, the background's is zeros
    boxes: Tensor  # (all, 4) xyxy in pixels


def truth_of(samples: Sequence[Any], classes: int) -> Truth:
    """The boxes of a batch of mmdet's data samples."""
    instances, metas = [s.gt_instances for s in samples], [s.metainfo for s in samples]
    counts = [len(t.labels) for t in instances]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    device = instances[0].bboxes.device
    sizes = [[w, h, w, h] for h, w in (m["img_shape"] for m in metas)]
    factors = host.put(sizes, torch.float32, device)
    image = host.put([i for i, c in enumerate(counts) for _ in range(c)], torch.long, device)
    boxes = torch.cat([t.bboxes for t in instances])
    targets = bbox_xyxy_to_cxcywh(boxes / factors[image])
    labels = torch.cat([t.labels for t in instances])
    return Truth(
        instances,
        metas,
        counts,
        starts,
        factors,
        torch.cat([labels, labels.new_full((1,), classes)]),
        torch.cat([targets, targets.new_zeros(1, 4)]),
        torch.cat([boxes, boxes.new_zeros(1, 4)]),
    )


class Pairs(NamedTuple):
    """A matching of one layer and one image: prediction (ascending) and box of the image."""

    rows: Any
    boxes: Any


def one_to_one(costs: Any, chosen: Any) -> Pairs:
    """Hungarian matching of the predictions in ``chosen`` (ascending) of ``costs`` (predictions, boxes).

    ``rows`` are positions among the chosen."""
    if not costs.shape[1] or not len(chosen):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Pairs(*linear_sum_assignment(costs[chosen]))


def one_to_many(costs: Any, most: int) -> Pairs:
    """Each box gets ``most`` predictions, or as many as there are for each."""
    if not costs.shape[1]:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    times = min(most, len(costs) // costs.shape[1])
    rows, columns = linear_sum_assignment(np.repeat(costs, times, axis=1))
    return Pairs(rows, columns // times)


def matching_costs(assigner: Any, scores: Tensor, boxes: Tensor, truth: Truth) -> list[Tensor]:
    """mmdet's HungarianAssigner: for each image (layers, queries, its boxes).

    scores (layers, b, queries, classes) logits, boxes (layers, b, queries, 4) normalised cxcywh.
    """
    layers, _, queries, classes = scores.shape
    pixels = bbox_cxcywh_to_xyxy(boxes) * truth.factors[None, :, None]
    costs = []
    for image, (instances, meta) in enumerate(zip(truth.instances, truth.metas)):
        predictions = InstanceData(
            scores=scores[:, image].reshape(-1, classes), bboxes=pixels[:, image].reshape(-1, 4)
        )
        parts = [
            cost(pred_instances=predictions, gt_instances=instances, img_meta=meta)
            for cost in assigner.match_costs
        ]
        costs.append(torch.stack(parts).sum(dim=0).view(layers, queries, -1))
    return costs


class Dense(NamedTuple):
    """For one image (layers, queries, its boxes): cost of a match, its alignment metric."""

    cost: Tensor
    metric: Tensor


def dense_costs(
    assigner: Any, scores: Tensor, boxes: Tensor, truth: Truth, alpha: float, beta: float
) -> list[Dense]:
    """mmdet's TopkHungarianAssigner: scores (layers, b, queries, classes) probabilities, boxes xyxy in
    pixels."""
    layers, _, queries, classes = scores.shape
    image_costs = []
    for image, (instances, meta) in enumerate(zip(truth.instances, truth.metas)):
        rows, places = scores[:, image].reshape(-1, classes), boxes[:, image].reshape(-1, 4)
        if not truth.counts[image]:
            image_costs.append(Dense(*[rows.new_zeros(layers, queries, 0)] * 2))
            continue
        predictions = InstanceData(scores=rows, bboxes=places)
        overlap = assigner.iou_calculator(places, instances.bboxes)
        metric = rows[:, instances.labels] ** alpha * overlap**beta
        costs = [
            cost(predictions, instances, meta)
            for cost in (assigner.cls_cost, assigner.reg_cost, assigner.iou_cost)
        ]
        image_costs.append(
            Dense(*[t.view(layers, queries, -1) for t in (costs[0] + costs[1] + costs[2], metric)])
        )
    return image_costs
