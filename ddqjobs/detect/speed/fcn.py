"""DDQ FCN and the proposal network of DDQ R-CNN with one wait for the GPU per iteration, and the bits of
their plain forms.

The plain form asks the GPU how many queries there are, for each level, image and branch, and which belong to
which object. Here queries of all levels and images go together, the matchings of both branches are brought to
the host in one copy, and the pyramid shuffle of a deterministic training is a kernel per level.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple, Sequence

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures.bbox import distance2bbox
from mmengine.structures import InstanceData
from torch import Tensor

from ddqjobs.detect.models.fcn_head import DDQFCNHead, Dense, Levels, Queries
from ddqjobs.detect.models.fcn_rpn import DDQFCNRPN
from ddqjobs.detect.models.rcnn import DDQRCNN
from ddqjobs.detect.ops.distinct import distinct

from . import host, losses, matching
from .logged import LogsOnce
from .unsupported import NoFastForm

_MOST_AT_ONCE = 10_000  # boxes; batched_nms goes by class above


class _Batch(NamedTuple):
    """Dense queries of all images, by image, level and falling score."""

    scores: Tensor  # (N, n, C) probabilities
    boxes: Tensor  # (N, n, 4)
    points: Tensor  # (N, n)
    best: Tensor  # (N, n) the largest probability of each, without gradient


class _Fast(DDQFCNHead):
    """The part that both heads share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if set(self.dqs_cfg) != {"type", "iou_threshold"} or self.dqs_cfg["type"] != "nms":
            raise NoFastForm(f"speed: DDQ FCN selects by plain nms; dqs_cfg is {dict(self.dqs_cfg)}")
        for loss in (self.main_loss, self.aux_loss):
            kinds = type(loss.loss_cls).__name__, type(loss.loss_bbox).__name__
            if kinds != ("QualityFocalLoss", "GIoULoss"):
                raise NoFastForm(f"speed: the fast form of DDQ FCN has no {' and '.join(kinds)}")

    def shuffle(self, feats: Levels) -> Levels:
        """As the plain one, whose bits in a deterministic training on a GPU are those of these kernels."""
        on_gpu = all(feat.is_cuda and feat.dtype == torch.float32 for feat in feats)
        if not on_gpu or not torch.are_deterministic_algorithms_enabled():
            return super().shuffle(feats)
        from ddqjobs.detect.ops.shuffle_kernels import Shuffle

        return list(Shuffle.apply(self.shuffle_channels, *feats))

    def loss_by_feat(
        self, dense: Dense, batch_gt_instances: Any, batch_img_metas: Any, _ignored: Any = None
    ) -> Any:
        """As the plain one."""
        return self.losses_and_distinct(dense, batch_gt_instances, batch_img_metas)[0]

    def losses_and_distinct(self, dense: Dense, instances: Any, metas: Any) -> tuple[Any, list[Queries]]:
        """Losses by name, and the distinct queries of each image."""
        some = any(len(instance.labels) for instance in instances)
        sizes = [score.shape[2] * score.shape[3] for score in dense.scores]
        few = sum(min(size, self.nms_pre) for size in sizes) < _MOST_AT_ONCE
        if host.everywhere(some and few, dense.scores[0].device):
            outcome: tuple[Any, list[Queries]] | None = self._at_once(dense, instances, metas)
            if outcome is not None:
                return outcome
        queries = self.distinct_queries(self.dense_queries(dense))
        return self.losses(dense, queries, instances, metas), queries

    def _at_once(self, dense: Dense, instances: Any, metas: Any) -> Any:
        """The same with one wait; nothing if a query of probability zero, or none, is among them."""
        main, extra = self._batch(dense), self._batch(self.auxiliary(dense))
        samples = [SimpleNamespace(gt_instances=i, metainfo=m) for i, m in zip(instances, metas)]
        truth = matching.truth_of(samples, self.cls_out_channels)
        with torch.no_grad():
            keep, first = distinct(main.boxes, main.best, self.dqs_cfg["iou_threshold"], main.best.shape[1])
            ordered = first.clamp(min=0)
            chosen = [
                torch.stack([t[i] for t, i in zip(table.detach(), ordered)])
                for table in (main.scores, main.boxes)
            ]
            costs = [
                matching.dense_costs(loss.assigner, scores[None], boxes[None], truth, 1, 6)
                for loss, scores, boxes in (
                    (self.aux_loss, extra.scores.detach(), extra.boxes.detach()),
                    (self.main_loss, *chosen),
                )
            ]
            zero = ((main.best > 0) & (extra.best > 0)).all()[None]
            arrays = host.fetch([zero, keep.sum(1), *[c.cost for side in costs for c in side]])
        if not host.everywhere(bool(arrays[0][0]), first.device):
            return None
        images = len(instances)
        counts = [int(n) for n in arrays[1]]
        aux_costs, main_costs = arrays[2 : 2 + images], arrays[2 + images :]
        aux_pairs = [[matching.one_to_many(cost[0], self.aux_loss.assigner.topk) for cost in aux_costs]]
        main_pairs = [
            [
                matching.one_to_many(cost[0][:count], self.main_loss.assigner.topk)
                for cost, count in zip(main_costs, counts)
            ]
        ]
        picked = _take(main, first[:, : max(counts)])
        metrics = [[c.metric for c in costs[0]], [c.metric[:, : max(counts)].contiguous() for c in costs[1]]]
        loss_values: dict[str, Any] = {}
        for prefix, loss, queries, pairs, metric, lengths in (
            ("aux_", self.aux_loss, extra, aux_pairs, metrics[0], None),
            ("", self.main_loss, picked, main_pairs, metrics[1], counts),
        ):
            many = losses.Queries(queries.scores[None], queries.boxes[None])
            cls, box = losses.dense_losses(loss, many, truth, pairs, metric, lengths)
            loss_values[f"{prefix}loss_cls"], loss_values[f"{prefix}loss_bbox"] = (
                list(cls[0].unbind()),
                list(box[0].unbind()),
            )
        loss_values["num_proposal"] = host.put(sum(counts) / images, torch.float32, first.device)
        parts = zip(picked.scores, picked.boxes, picked.points, counts)
        return loss_values, [Queries(scores[:n], boxes[:n], points[:n]) for scores, boxes, points, n in parts]

    def _batch(self, dense: Dense) -> _Batch:
        """The ``nms_pre`` best points of each level, for all images."""
        images, like = len(dense.scores[0]), dense.scores[0]
        sizes = [score.shape[-2:] for score in dense.scores]
        priors = self.prior_generator.grid_priors(sizes, dtype=like.dtype, device=like.device)
        scores, distances = (_Points.apply(*levels) for levels in (dense.scores, dense.distances))
        best = scores.detach().max(-1).values
        counts = [len(level) for level in priors]
        starts = [sum(counts[:level]) for level in range(len(counts))]
        # One sort for each image and level, as the plain form has it: equal scores keep its order.
        index = torch.stack(
            [
                torch.cat(
                    [
                        part.sort(descending=True)[1][: self.nms_pre] + start
                        for part, start in zip(row.split(counts), starts)
                    ]
                )
                for row in best
            ]
        )
        strides = [stride[0] for stride in self.prior_generator.strides]
        taken = [min(count, self.nms_pre) for count in counts]
        stride = torch.cat([best.new_full((n,), float(s)) for n, s in zip(taken, strides)])
        flat = (index + torch.arange(images, device=index.device)[:, None] * best.shape[1]).flatten()
        rows = [_rows(table.flatten(0, 1), flat) for table in (scores, distances)]
        boxes = distance2bbox(torch.cat(priors)[index].view(-1, 2), rows[1] * stride.repeat(images)[:, None])
        shape = (images, index.shape[1], -1)
        return _Batch(rows[0].view(shape), boxes.view(shape), index, best.flatten()[flat].view(shape[:2]))


class _Points(torch.autograd.Function):  # type: ignore[misc]
    """Maps of all levels (N, C, H, W) as points (N, all, C).

    Their gradients are laid out like the maps, as the plain form's are: the order of later sums depends on
    it.
    """

    @staticmethod
    def forward(ctx: Any, *levels: Tensor) -> Tensor:
        """(N, points of all levels, C)."""
        ctx.sizes = [level.shape[2:] for level in levels]
        return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """A gradient of each level."""
        parts = grad.split([height * width for height, width in ctx.sizes], 1)
        return tuple(
            part.unflatten(1, tuple(size)).permute(0, 3, 1, 2).contiguous()
            for part, size in zip(parts, ctx.sizes)
        )


def _take(batch: _Batch, first: Tensor) -> _Batch:
    """Queries by their numbers (N, m); zeros where it is -1."""
    images, count = batch.points.shape
    start = torch.arange(images, device=first.device)[:, None] * count
    flat = torch.where(first >= 0, first + start, first).flatten()
    rows = [_rows(table.flatten(0, 1), flat).view(images, first.shape[1], -1) for table in batch[:2]]
    at = flat.clamp(min=0)
    return _Batch(
        rows[0],
        rows[1],
        batch.points.flatten()[at].view(first.shape),
        batch.best.flatten()[at].view(first.shape),
    )


def _rows(table: Tensor, index: Tensor) -> Tensor:
    if not table.is_cuda:
        return torch.where((index >= 0)[:, None], table[index.clamp(min=0)], table.new_zeros(1))
    from ddqjobs.detect.ops.rows_kernels import Rows

    rows: Tensor = Rows.apply(table, index)
    return rows


@MODELS.register_module(force=True)
class FastDDQFCNHead(_Fast):
    """DDQFCNHead: the same configuration, weights, losses and predictions."""


@MODELS.register_module(force=True)
class FastDDQFCNRPN(DDQFCNRPN, _Fast):
    """DDQFCNRPN: the same configuration, weights, losses and proposals."""

    def loss_and_predict(
        self, x: Sequence[Tensor], batch_data_samples: Any, **_: Any
    ) -> tuple[Any, list[InstanceData]]:
        """As the plain one."""
        instances, _, metas = unpack_gt_instances(batch_data_samples)
        (dense,) = self(x)
        loss_values, queries = self.losses_and_distinct(dense, instances, metas)
        return loss_values, self.proposals(dense, queries, metas)


@MODELS.register_module(force=True)
class FastSingleStageDetector(LogsOnce, SingleStageDetector):  # type: ignore[misc]
    """mmdet's SingleStageDetector with :class:`.logged.LogsOnce`."""


@MODELS.register_module(force=True)
class FastDDQRCNN(LogsOnce, DDQRCNN):
    """DDQRCNN with :class:`.logged.LogsOnce`."""
