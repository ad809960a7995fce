"""The losses of DDQ DETR's head, computed for all decoder layers and images at once; on a GPU equal to
mmdet's bit by bit.

What keeps the bits: element-wise arithmetic does not depend on what else is in a tensor (on a CPU with vector
instructions the last elements do: docs/explanation/performance.md); every sum is taken over the same numbers
in a tensor of the same shape; numbers that mmdet fetches from the GPU to divide by stay there.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import DDQDETRHead
from mmdet.models.losses import FocalLoss, GIoULoss, L1Loss, QualityFocalLoss
from mmdet.models.losses import focal_loss as mmdet_focal
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps
from mmdet.utils import reduce_mean
from torch import Tensor

from . import host, matching
from .unsupported import NoFastForm

_EPS = torch.finfo(torch.float32).eps  # as in mmdet's weight_reduce_loss
_ALIGN = 4  # rows; a group of rows that begins at a multiple of four begins at a multiple of 16 bytes


class FastHead(DDQDETRHead):  # type: ignore[misc]
    """mmdet's head with :mod:`this <ddqjobs.detect.speed.losses>` way to its losses."""

    def loss(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence[Any],
        dn_meta: dict[str, int],
        aux_enc_outputs_class: Tensor,
        aux_enc_outputs_coord: Tensor,
    ) -> dict[str, Any]:
        """Losses by mmdet's names and in its order (their sum depends on it)."""
        some = any(len(s.gt_instances.labels) for s in batch_data_samples)
        # No box in the batch: rare, and mmdet has branches of its own for it. Processes sum in the order in
        # which each way asks them to, so all go one way.
        way = self._all_losses if host.everywhere(some, hidden_states.device) else super().loss
        # Under autocast the losses, and the branches computed for them, are in float32, as binary cross
        # entropy of probabilities must be.
        with torch.autocast(hidden_states.device.type, enabled=False):
            losses: dict[str, Any] = way(
                hidden_states.float(),
                [r.float() for r in references],
                enc_outputs_class.float(),
                enc_outputs_coord.float(),
                batch_data_samples,
                dn_meta,
                aux_enc_outputs_class.float(),
                aux_enc_outputs_coord.float(),
            )
            return losses

    def _all_losses(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence[Any],
        dn_meta: dict[str, int],
        aux_enc_outputs_class: Tensor,
        aux_enc_outputs_coord: Tensor,
    ) -> dict[str, Any]:
        scores, boxes = self(hidden_states, references)
        truth = matching.truth_of(batch_data_samples, self.num_classes)
        first, dense = dn_meta["num_denoising_queries"], dn_meta["num_dense_queries"]
        distinct = self.cache_dict["distinct_query_mask"]
        masks = torch.stack([m[:: self.cache_dict["num_heads"], 0] for m in distinct])
        one = Queries(
            torch.cat([scores[:, :, first:-dense], enc_outputs_class[None]]),
            torch.cat([boxes[:, :, first:-dense], enc_outputs_coord[None]]),
        )
        many = Queries(
            torch.cat([scores[:, :, -dense:], aux_enc_outputs_class[None]]).sigmoid(),
            bbox_cxcywh_to_xyxy(torch.cat([boxes[:, :, -dense:], aux_enc_outputs_coord[None]]))
            * truth.factors[None, :, None],
        )
        pairs, dense_pairs, metrics, chosen = _match(self, one, many, truth, masks)
        plain = _distinct_losses(self, one, truth, chosen, pairs)
        noisy = _denoising_losses(self, scores[:, :, :first], boxes[:, :, :first], truth, dn_meta)
        auxiliary = dense_losses(self.aux_loss_for_dense, many, truth, dense_pairs, metrics)
        return _named(plain, noisy, auxiliary)


def check_losses(head: Any) -> None:
    """Raise NoFastForm for a loss that is not the one of DDQ DETR, which this module computes."""
    auxiliary = head.aux_loss_for_dense
    for where, loss, wanted in (
        ("loss_cls", head.loss_cls, FocalLoss),
        ("loss_bbox", head.loss_bbox, L1Loss),
        ("loss_iou", head.loss_iou, GIoULoss),
        ("the dense queries' loss_cls", auxiliary.loss_cls, QualityFocalLoss),
        ("the dense queries' loss_bbox", auxiliary.loss_bbox, GIoULoss),
    ):
        if type(loss) is not wanted:
            name = type(loss).__name__
            raise NoFastForm(f"speed: {where} is {name}, the fast form of DDQDETR has {wanted.__name__} only")


class Queries(NamedTuple):
    scores: Tensor  # (layers, b, queries, classes)
    boxes: Tensor  # (layers, b, queries, 4)


def _match(head: Any, one: Queries, many: Queries, truth: matching.Truth, masks: Tensor) -> Any:
    """Both matchings, the dense queries' metrics, and which queries take part: by layer and image."""
    auxiliary = head.aux_loss_for_dense
    alpha, beta = 1, 6  # what mmdet's DDQAuxLoss lets its assigner take by default
    with torch.no_grad():
        costs = matching.matching_costs(head.assigner, one.scores.detach(), one.boxes.detach(), truth)
        dense = matching.dense_costs(
            auxiliary.assigner, many.scores.detach(), many.boxes.detach(), truth, alpha, beta
        )
        images = len(truth.counts)
        arrays = host.fetch([masks, *costs, *[d.cost for d in dense]])
    masks, costs, dense_costs = arrays[0], arrays[1 : images + 1], arrays[images + 1 :]
    layers, everything = len(one.scores), np.arange(one.scores.shape[2])
    # The first layer and the encoder (the last group) have no selection.
    chosen = [
        [np.flatnonzero(masks[g - 1][i]) if 0 < g < layers - 1 else everything for i in range(images)]
        for g in range(layers)
    ]
    pairs = [[matching.one_to_one(costs[i][g], chosen[g][i]) for i in range(images)] for g in range(layers)]
    most = auxiliary.assigner.topk
    dense_pairs = [
        [matching.one_to_many(dense_costs[i][g], most) for i in range(images)] for g in range(layers)
    ]
    return pairs, dense_pairs, [d.metric for d in dense], chosen


# --------------------------------------------------------------------------------- distinct queries,
# denoising


class _Losses(NamedTuple):
    """Per group: classification, boxes, overlaps."""

    cls: Tensor
    box: Tensor
    iou: Tensor


def _distinct_losses(head: Any, one: Queries, truth: matching.Truth, chosen: Any, pairs: Any) -> _Losses:
    """The losses of distinct queries, one group per decoder layer and one for the encoder."""
    groups, images, queries, classes = one.scores.shape
    place: list[Any] = []  # row among all queries of all groups
    target: list[Any] = []  # number of the box, the last for background
    starts, lengths, positives, at = [], [], [], 0
    background = len(truth.labels) - 1
    for g in range(groups):
        starts.append(at)
        positives.append(sum(len(pairs[g][i].rows) for i in range(images)))
        for i in range(images):
            goal = np.full(len(chosen[g][i]), background)
            goal[pairs[g][i].rows] = pairs[g][i].boxes + truth.starts[i]
            place.append(chosen[g][i] + (g * images + i) * queries)
            target.append(goal)
            at += len(goal)
        lengths.append(at - starts[g])
        spare = -at % _ALIGN
        place.append(np.full(spare, -1))
        target.append(np.full(spare, background))
        at += spare
    rows, goals = np.concatenate(place), np.concatenate(target)
    inverse = np.full(groups * images * queries, at)
    inverse[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    image = np.maximum(rows, 0) // queries % images
    packed = host.put(np.stack([np.maximum(rows, 0), goals, image]), torch.long, one.scores.device)
    back = host.put(inverse, torch.long, one.scores.device)
    scores = host.Take.apply(one.scores.reshape(-1, classes), packed[0], back)
    boxes = host.Take.apply(one.boxes.reshape(-1, 4), packed[0], back)
    negatives = [length - positive for length, positive in zip(lengths, positives)]
    return _sums(head, truth, scores, boxes, packed[1], packed[2], starts, lengths, positives, negatives)


def _denoising_losses(
    head: Any, scores: Tensor, boxes: Tensor, truth: matching.Truth, meta: dict[str, int]
) -> _Losses:
    """The losses of denoising queries (layers, b, queries, ...), one group per decoder layer."""
    layers, images, queries, classes = scores.shape
    groups = meta["num_denoising_groups"]
    size = queries // groups
    goal = np.full((images, groups, size), len(truth.labels) - 1)
    for i, count in enumerate(truth.counts):
        goal[i, :, :count] = truth.starts[i] + np.arange(count)
    image: Any = np.repeat(np.arange(images), queries)
    packed = host.put(
        np.stack([np.tile(goal.ravel(), layers), np.tile(image, layers)]), torch.long, scores.device
    )
    length = images * queries
    positive = groups * sum(truth.counts)
    starts = [length * layer for layer in range(layers)]
    return _sums(
        head,
        truth,
        scores.reshape(-1, classes),
        boxes.reshape(-1, 4),
        packed[0],
        packed[1],
        starts,
        [length] * layers,
        [positive] * layers,
        [positive] * layers,
    )


def _sums(
    head: Any,
    truth: matching.Truth,
    scores: Tensor,
    boxes: Tensor,
    goals: Tensor,
    image: Tensor,
    starts: list[int],
    lengths: list[int],
    positives: list[int],
    negatives: list[int],
) -> _Losses:
    """DETRHead.loss_by_feat_single for groups of rows: scores (n, classes), boxes (n, 4), goals and image
    (n,)."""
    cls = _focal(head.loss_cls, scores, truth.labels[goals])
    share = (goals < len(truth.labels) - 1).to(boxes.dtype)
    targets, factors = truth.targets[goals], truth.factors[image]
    pixels, goal_pixels = bbox_cxcywh_to_xyxy(boxes) * factors, bbox_cxcywh_to_xyxy(targets) * factors
    iou = (1 - bbox_overlaps(pixels, goal_pixels, "giou", is_aligned=True, eps=head.loss_iou.eps)) * share
    box = torch.abs(boxes - targets) * share[:, None]
    totals = [host.sums(t, starts, lengths) for t in (cls, box, iou)]
    weights = [
        float(np.float32(positive * 1.0 + negative * head.bg_cls_weight))
        for positive, negative in zip(positives, negatives)
    ]
    counts = [float(count) for count in positives]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        both = reduce_mean(host.put([weights, counts], torch.float32, scores.device)).tolist()
        weights, counts = both if head.sync_cls_avg_factor else (weights, both[1])
    counts = [max(c, 1.0) for c in counts]
    return _Losses(
        head.loss_cls.loss_weight * _average(totals[0], weights, head.sync_cls_avg_factor),
        head.loss_bbox.loss_weight * _average(totals[1], counts, False),
        head.loss_iou.loss_weight * _average(totals[2], counts, False),
    )


def _average(totals: Tensor, values: Sequence[float], on_device: bool) -> Tensor:
    """totals / (values + eps), where mmdet divides by a tensor (``on_device``; below 1 it is the number 1)
    or by a number: a GPU rounds the two differently."""
    if on_device and min(values) >= 1:
        return totals / (host.put(values, torch.float32, totals.device) + _EPS)
    bounded = [max(v, 1) for v in values] if on_device else values
    if len(set(bounded)) == 1:
        return totals / (bounded[0] + _EPS)
    return torch.stack([total / (v + _EPS) for total, v in zip(totals.unbind(), bounded)])


def _focal(loss: Any, scores: Tensor, labels: Tensor) -> Tensor:
    """mmdet's FocalLoss of each logit, without its weight."""
    if scores.is_cuda:
        return mmdet_focal.sigmoid_focal_loss(
            scores, labels, None, gamma=loss.gamma, alpha=loss.alpha, reduction="none"
        )
    classes = scores.shape[1]
    target = F.one_hot(labels, num_classes=classes + 1)[:, :classes]
    return mmdet_focal.py_sigmoid_focal_loss(
        scores, target, None, gamma=loss.gamma, alpha=loss.alpha, reduction="none"
    )


# ------------------------------------------------------------------------------------------- dense queries


class _Dense(NamedTuple):
    """Per group and image."""

    cls: Tensor
    box: Tensor


def dense_losses(
    loss: Any,
    many: Queries,
    truth: matching.Truth,
    pairs: Any,
    metrics: list[Tensor],
    lengths: Sequence[int] | None = None,
) -> _Dense:
    """DDQAuxLoss.loss for every group (layers and encoder) and image; ``lengths`` are the queries of each
    image, where not all have as many."""
    groups, images, queries, classes = many.scores.shape
    plan = _plan(truth, pairs, queries, images, groups)
    device = many.scores.device
    places = host.put(plan.indices, torch.long, device)  # row, box among all, owner
    inverse, owners = (host.put(t, torch.long, device) for t in (plan.inverse, plan.owned))
    row, box, owner = places
    predicted, goal = many.boxes.reshape(-1, 4)[row], truth.boxes[box]
    with torch.no_grad():
        flat = torch.cat([m.reshape(-1) for m in metrics])
        metric = flat[host.put(plan.metric, torch.long, device)]
        iou = loss.assigner.iou_calculator(many.boxes.detach().reshape(-1, 4)[row], goal, is_aligned=True)
        norm = metric / (metric[owners].amax(1) + 10e-8)[owner] * iou[owners].amax(1)[owner]
        spread = torch.cat([norm, norm.new_zeros(1)])[inverse]  # (groups * images * queries,)
    cls = _quality_focal(many.scores.reshape(-1, classes), row, truth.labels[box], norm, loss.loss_cls.beta)
    if not all(truth.counts):
        cls = cls * host.put([float(c > 0) for c in truth.counts], torch.float32, device).repeat_interleave(
            queries
        ).repeat(groups)
    overlap = 1 - bbox_overlaps(predicted, goal, "giou", is_aligned=True, eps=loss.loss_bbox.eps)
    starts = [queries * n for n in range(groups * images)]
    known = [queries] * len(starts) if lengths is None else [*lengths] * groups
    totals = [
        host.sums(cls, starts, known),
        host.sums(overlap * norm, plan.starts, plan.lengths),
        host.sums(spread, starts, known),
        host.sums(norm, plan.starts, plan.lengths),
    ]
    cls_totals, box_totals, cls_norm, box_norm = (t.view(groups, images) for t in totals)
    # mmdet sums over images one by one, from 0, then over processes, and divides by the number it gets.
    factors = [reduce_mean(sum(t.unbind(1))).clamp(min=1) for t in (cls_norm, box_norm)]
    scale = [loss.loss_cls.loss_weight, loss.loss_bbox.loss_weight]
    averaged = [s * (t / (1.0 + _EPS)) for s, t in zip(scale, (cls_totals, box_totals))]
    return _Dense(*[host.over(t, f[:, None]) for t, f in zip(averaged, factors)])


class _Plan(NamedTuple):
    indices: Any  # (3, positives): row among all queries, box among all, owner (a box in a group)
    metric: Any  # (positives,) where its alignment metric is among those of all images
    inverse: Any  # (queries of all groups,) its positive, or their number
    owned: Any  # (owners, most) positives of each owner, the first repeated
    starts: list[int]  # of each group and image among the positives
    lengths: list[int]


def _plan(truth: matching.Truth, pairs: Any, queries: int, images: int, groups: int) -> _Plan:
    """Indices of all positives, by group, image and query."""
    parts: list[Any] = []
    owned: list[list[int]] = []
    starts, lengths, at = [], [], 0
    before = [groups * queries * sum(truth.counts[:i]) for i in range(images)]
    for g in range(groups):
        for i in range(images):
            rows, boxes = pairs[g][i]
            metric = before[i] + (g * queries + rows) * truth.counts[i] + boxes
            parts.append(
                np.stack(
                    [rows + (g * images + i) * queries, boxes + truth.starts[i], boxes + len(owned), metric]
                )
            )
            owned += [(at + np.flatnonzero(boxes == box)).tolist() for box in range(truth.counts[i])]
            starts.append(at)
            lengths.append(len(rows))
            at += len(rows)
    table = np.concatenate(parts, axis=1)
    inverse = np.full(groups * images * queries, at)
    inverse[table[0]] = np.arange(at)
    most = max(len(o) for o in owned)
    full = [o + [o[0] if o else 0] * (most - len(o)) for o in owned]
    return _Plan(table[:3], table[3], inverse, np.array(full), starts, lengths)


def _quality_focal(scores: Tensor, row: Tensor, label: Tensor, quality: Tensor, beta: float) -> Tensor:
    """mmdet's quality_focal_loss_with_prob of each row: scores (n, classes) probabilities."""
    loss = F.binary_cross_entropy(scores, torch.zeros_like(scores), reduction="none") * scores.pow(beta)
    gap = quality - scores[row, label]
    positive = F.binary_cross_entropy(scores[row, label], quality, reduction="none") * gap.abs().pow(beta)
    loss = loss.index_put((row, label), positive)
    return loss.sum(dim=1)


# --------------------------------------------------------------------------------------------------- names


def _named(plain: _Losses, noisy: _Losses, auxiliary: _Dense) -> dict[str, Any]:
    """mmdet's names in mmdet's order."""
    names = ("cls", "bbox", "iou")
    main, noise = [t.unbind() for t in plain], [t.unbind() for t in noisy]
    layers = len(noise[0])
    losses: dict[str, Any] = {}
    for layer in (layers - 1, *range(layers - 1)):
        prefix = "" if layer == layers - 1 else f"d{layer}."
        losses.update({f"{prefix}loss_{n}": part[layer] for n, part in zip(names, main)})
    losses.update({f"enc_loss_{n}": part[layers] for n, part in zip(names, main)})
    for layer in (layers - 1, *range(layers - 1)):
        prefix = "" if layer == layers - 1 else f"d{layer}."
        losses.update({f"{prefix}dn_loss_{n}": part[layer] for n, part in zip(names, noise)})
    images = [[list(row.unbind()) for row in part.unbind()] for part in auxiliary]
    for layer in range(layers + 1):
        prefix = "aux_enc" if layer == layers else f"{layer}_aux"
        losses[f"{prefix}_aux_loss_cls"] = images[0][layer]
        losses[f"{prefix}_aux_loss_bbox"] = images[1][layer]
    return losses
