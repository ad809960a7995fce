"""The head of DDQ FCN (paper, Fig. 3a): FCOS-like, and its queries are the points of the feature pyramid.

Dense queries are the best points of each level. Class-agnostic NMS, a selection before the assignment and not
a clean-up after it, leaves the distinct ones. Distinct queries are trained one-to-one by the main predictors;
all dense ones are trained one-to-many by auxiliary predictors on the same features, which only training uses.

Shapes: N images, C classes, levels of H x W points. Boxes are xyxy in pixels of the padded input.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence

import torch
from mmcv.cnn import Scale
from mmcv.ops import batched_nms
from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
from mmdet.models.losses import DDQAuxLoss
from mmdet.models.utils import filter_scores_and_topk, select_single_mlvl, sigmoid_geometric_mean
from mmdet.registry import MODELS
from mmdet.structures.bbox import distance2bbox
from mmengine.model import bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional

Levels = List[Tensor]  # one tensor per pyramid level, fine to coarse

# Convolutions whose input is shuffled between levels: the last two for classes, the last for boxes (Fig. 3a).
SHUFFLED_CLS, SHUFFLED_REG = 2, 1
PRIOR = 0.01  # probability of an object that the predictors start with


class Dense(NamedTuple):
    """The predictions for every point."""

    scores: Levels  # (N, C, H, W) probabilities
    distances: Levels  # (N, 4, H, W) to left, top, right and bottom side, in strides
    cls_feats: Levels  # (N, F, H, W) what scores were predicted from
    reg_feats: Levels  # (N, F, H, W)


class Queries(NamedTuple):
    """Queries of one image."""

    scores: Tensor  # (n, C) probabilities
    boxes: Tensor  # (n, 4)
    points: Tensor  # (n,) index among the points of all levels, fine to coarse, row by row

    def take(self, index: Any) -> Queries:
        """Those that an index, a mask or a slice chooses."""
        return Queries(self.scores[index], self.boxes[index], self.points[index])


@MODELS.register_module()
class DDQFCNHead(AnchorFreeHead):  # type: ignore[misc]
    """Head of DDQ FCN.

    Args beyond AnchorFreeHead's:
        num_distinct_queries: detections per image.
        dqs_cfg: distinct queries selection: ``type`` and ``iou_threshold`` of the NMS, and ``nms_pre``, dense
            queries per level.
        shuffle_channels: channels exchanged with each neighbouring level.
        main_topk, aux_topk: queries per object of the main and the auxiliary loss.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        num_distinct_queries: int = 300,
        dqs_cfg: Any = None,
        shuffle_channels: int = 64,
        main_topk: int = 1,
        aux_topk: int = 8,
        loss_cls: Any = None,
        loss_bbox: Any = None,
        **kwargs: Any,
    ) -> None:
        loss_cls = loss_cls or {
            "type": "QualityFocalLoss",
            "use_sigmoid": True,
            "activated": True,  # takes probabilities
            "beta": 2.0,
            "loss_weight": 1.0,
        }
        loss_bbox = loss_bbox or {"type": "GIoULoss", "loss_weight": 2.0}
        super().__init__(
            num_classes, in_channels, strides=strides, loss_cls=loss_cls, loss_bbox=loss_bbox, **kwargs
        )
        self.num_distinct_queries = num_distinct_queries
        selection = dict(dqs_cfg or {"type": "nms", "iou_threshold": 0.7, "nms_pre": 1000})
        self.nms_pre = selection.pop("nms_pre", 1000)
        self.dqs_cfg = selection
        self.shuffle_channels = shuffle_channels
        self.main_loss, self.aux_loss = (
            DDQAuxLoss(loss_cls, loss_bbox, {"assigner": {"type": "DDQTopkAssigner", "topk": topk}})
            for topk in (main_topk, aux_topk)
        )

    # ----------------------------------------------------------------------------------------------- layers

    def _init_predictor(self) -> None:
        """Main predictors, then the auxiliary ones: the order of the release's parameters."""
        self.objectness = self._objectness()
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList([Scale(1.0) for _ in self.strides])
        self.aux_conv_objectness = self._objectness()
        self.aux_conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.aux_conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.aux_scales = nn.ModuleList([Scale(1.0) for _ in self.strides])

    def _objectness(self) -> nn.Module:
        narrow = self.feat_channels // 4
        return nn.Sequential(
            nn.Conv2d(self.feat_channels, narrow, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, 1, 3, padding=1),
        )

    def init_weights(self) -> None:
        """Normal of deviation 0.01. Class predictors and the auxiliary objectness start at probability 0.01;
        the auxiliary objectness' first convolution stays as torch makes it."""
        prior = bias_init_with_prob(PRIOR)
        for part in (self.cls_convs, self.reg_convs, self.objectness):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    normal_init(module, std=0.01)
        for module in (self.conv_reg, self.aux_conv_reg):
            normal_init(module, std=0.01)
        for module in (self.conv_cls, self.aux_conv_cls, self.aux_conv_objectness[-1]):
            normal_init(module, std=0.01, bias=prior)

    # ---------------------------------------------------------------------------------------------- forward

    def forward(self, x: Sequence[Tensor]) -> tuple[Dense]:
        """Main predictions from pyramid features of (N, in_channels, H, W) each."""
        cls_feats = self._tower(list(x), self.cls_convs, SHUFFLED_CLS)
        reg_feats = self._tower(list(x), self.reg_convs, SHUFFLED_REG)
        main = (self.conv_cls, self.objectness, self.conv_reg, self.scales)
        return (self._predict(cls_feats, reg_feats, *main),)

    def auxiliary(self, dense: Dense) -> Dense:
        """Auxiliary predictions from the features of the main ones."""
        parts = (self.aux_conv_cls, self.aux_conv_objectness, self.aux_conv_reg, self.aux_scales)
        return self._predict(dense.cls_feats, dense.reg_feats, *parts)

    def _tower(self, feats: Levels, convs: nn.ModuleList, shuffled: int) -> Levels:
        for number, conv in enumerate(convs):
            if number >= len(convs) - shuffled:
                feats = self.shuffle(feats)
            feats = [conv(feat) for feat in feats]
        return feats

    def shuffle(self, feats: Levels) -> Levels:
        """Pyramid shuffle: each level gives its last two groups of ``shuffle_channels`` channels away and
        takes as many from its neighbours, bilinearly resized: the last group from above (coarser), the last
        but one from below. The ends of the pyramid are their own neighbours."""
        own, size = feats[0].shape[1] - 2 * self.shuffle_channels, self.shuffle_channels
        mixed = []
        for level, feat in enumerate(feats):
            above, below = feats[min(level + 1, len(feats) - 1)], feats[max(level - 1, 0)]
            taken = (above[:, own + size :], below[:, own : own + size])
            resized = [
                functional.interpolate(part, size=feat.shape[-2:], mode="bilinear", align_corners=True)
                for part in taken
            ]
            mixed.append(torch.cat([feat[:, :own], *resized], dim=1))
        return mixed

    @staticmethod
    def _predict(
        cls_feats: Levels,
        reg_feats: Levels,
        conv_cls: nn.Module,
        objectness: nn.Module,
        conv_reg: nn.Module,
        scales: nn.ModuleList,
    ) -> Dense:
        scores = [
            sigmoid_geometric_mean(conv_cls(cls), objectness(reg)) for cls, reg in zip(cls_feats, reg_feats)
        ]
        distances = [scale(conv_reg(reg).exp()).float() for scale, reg in zip(scales, reg_feats)]
        return Dense(scores, distances, cls_feats, reg_feats)

    # ---------------------------------------------------------------------------------------------- queries

    def dense_queries(self, dense: Dense) -> list[Queries]:
        """The ``nms_pre`` best points of each level, for each image."""
        sizes = [score.shape[-2:] for score in dense.scores]
        like = dense.scores[0]
        priors = self.prior_generator.grid_priors(sizes, dtype=like.dtype, device=like.device)
        return [self._of_image(dense, image, priors) for image in range(len(like))]

    def _of_image(self, dense: Dense, image: int, priors: Levels) -> Queries:
        queries, start = [], 0
        levels = zip(
            select_single_mlvl(dense.scores, image, detach=False),
            select_single_mlvl(dense.distances, image, detach=False),
            priors,
            self.prior_generator.strides,
        )
        for scores, distances, points, stride in levels:
            scores = scores.permute(1, 2, 0).reshape(-1, self.cls_out_channels)
            distances = distances.permute(1, 2, 0).reshape(-1, 4)
            best = scores.max(-1, keepdim=True).values
            # A score of exactly zero is no query.
            _, _, index, _ = filter_scores_and_topk(best, 0, self.nms_pre)
            boxes = distance2bbox(points[index], distances[index] * stride[0])
            queries.append(Queries(scores[index], boxes, index + start))
            start += len(scores)
        return Queries(*(torch.cat(parts) for parts in zip(*queries)))

    def distinct_queries(self, dense: Sequence[Queries]) -> list[Queries]:
        """Those that class-agnostic NMS leaves, best first."""
        return [self._distinct(queries) for queries in dense]

    def _distinct(self, queries: Queries) -> Queries:
        if not len(queries.boxes):
            return queries
        best = queries.scores.detach().max(-1).values
        # One class for all. Not class_agnostic=True: as in the release the boxes are moved by their largest
        # coordinate plus one, which is the same up to rounding.
        same = torch.ones_like(best)
        _, kept = batched_nms(queries.boxes.detach(), best, same, dict(self.dqs_cfg))
        return queries.take(kept)

    # ----------------------------------------------------------------------------------- losses, detections

    def loss_by_feat(
        self, dense: Dense, batch_gt_instances: Any, batch_img_metas: Any, _ignored: Any = None
    ) -> Any:
        """``loss_cls``, ``loss_bbox`` of distinct queries, ``aux_loss_cls``, ``aux_loss_bbox`` of dense ones
        (lists, one value per image), and ``num_proposal``, distinct queries per image."""
        distinct = self.distinct_queries(self.dense_queries(dense))
        return self.losses(dense, distinct, batch_gt_instances, batch_img_metas)

    def losses(self, dense: Dense, distinct: Sequence[Queries], instances: Any, metas: Any) -> Any:
        """As loss_by_feat, from given distinct queries."""
        losses = {}
        branches = (
            ("aux_", self.aux_loss, self.dense_queries(self.auxiliary(dense))),
            ("", self.main_loss, distinct),
        )
        for prefix, loss, queries in branches:
            values = loss.loss(
                [q.scores for q in queries],
                [q.boxes for q in queries],
                [instance.bboxes for instance in instances],
                [instance.labels for instance in instances],
                metas,
            )
            # DDQAuxLoss calls its values aux_loss_cls and aux_loss_bbox, whichever branch they are of.
            losses.update({prefix + name[len("aux_") :]: value for name, value in values.items()})
        count = sum(len(q.boxes) for q in distinct) / len(distinct)
        losses["num_proposal"] = dense.scores[0].new_tensor(count, dtype=torch.float32)
        return losses

    def predict_by_feat(
        self, dense: Dense, batch_img_metas: Any, rescale: bool = False, **_: Any
    ) -> list[InstanceData]:
        """At most ``num_distinct_queries`` detections per image, best first: bboxes (n, 4), clipped to the
        image and, with ``rescale``, in pixels of the original image; scores (n,); labels (n,)."""
        distinct = self.distinct_queries(self.dense_queries(dense))
        return [self._detections(q, meta, rescale) for q, meta in zip(distinct, batch_img_metas)]

    def _detections(self, queries: Queries, meta: Any, rescale: bool) -> InstanceData:
        height, width = meta["img_shape"][:2]
        limits = queries.boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(queries.boxes.clamp(min=0), limits)
        if rescale:
            boxes = boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)
        scores = queries.scores.flatten()
        scores, index = scores.topk(min(self.num_distinct_queries, len(scores)))
        labels = index % self.cls_out_channels
        chosen = torch.div(index, self.cls_out_channels, rounding_mode="floor")
        return InstanceData(bboxes=boxes[chosen], scores=scores, labels=labels)

    def get_targets(self, *_: Any, **__: Any) -> Any:
        """Targets are DDQAuxLoss's."""
        raise NotImplementedError("the targets of DDQ FCN are made by its losses' assigners")
