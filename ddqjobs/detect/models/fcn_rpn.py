"""DDQ FCN as the proposal network of DDQ R-CNN (paper, Fig. 3b)."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from mmdet.models.utils import align_tensor, levels_to_images, unpack_gt_instances
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .fcn_head import DDQFCNHead, Dense, Queries


@MODELS.register_module()
class DDQFCNRPN(DDQFCNHead):
    """Distinct queries with a feature each, for the stages that refine them.

    A query's feature is made of the last maps of both towers at its point: F channels each, concatenated and
    compressed to F. Neither it nor the box passes a gradient back into the pyramid.
    """

    def _init_predictor(self) -> None:
        super()._init_predictor()
        self.compress = nn.Linear(2 * self.feat_channels, self.feat_channels)

    def loss_and_predict(
        self, x: Sequence[Tensor], batch_data_samples: Any, **_: Any
    ) -> tuple[Any, list[InstanceData]]:
        """Losses, as DDQFCNHead's, and proposals, as predict_by_feat's."""
        instances, _, metas = unpack_gt_instances(batch_data_samples)
        (dense,) = self(x)
        distinct = self.distinct_queries(self.dense_queries(dense))
        return self.losses(dense, distinct, instances, metas), self.proposals(dense, distinct, metas)

    def predict_by_feat(
        self, dense: Dense, batch_img_metas: Any, rescale: bool = False, **_: Any
    ) -> list[InstanceData]:
        """Proposals. They refer to the feature maps: ``rescale`` must be False."""
        assert not rescale
        distinct = self.distinct_queries(self.dense_queries(dense))
        return self.proposals(dense, distinct, batch_img_metas)

    def proposals(self, dense: Dense, distinct: Sequence[Queries], metas: Any) -> list[InstanceData]:
        """The best ``num_distinct_queries`` queries of each image: ``bboxes`` (n, 4), ``features`` (n, F) and
        ``imgs_whwh`` (n, 4), the image's size in pixels.

        All images of a batch have as many; rows of zeros fill up what an image lacks, and take part in the
        attention of the later stages as they do in the release.
        """
        maps = [
            torch.cat([cls, reg], dim=-1).detach()
            for cls, reg in zip(levels_to_images(dense.cls_feats), levels_to_images(dense.reg_feats))
        ]
        # NMS has sorted them by score.
        best = [queries.take(slice(self.num_distinct_queries)) for queries in distinct]
        boxes = align_tensor([queries.boxes.detach() for queries in best])
        features = align_tensor([self.compress(m[queries.points]) for m, queries in zip(maps, best)])
        proposals = []
        for box, feature, meta in zip(boxes, features, metas):
            height, width = meta["img_shape"][:2]
            whwh = box.new_tensor([width, height, width, height]).repeat(len(box), 1)
            proposals.append(InstanceData(bboxes=box, features=feature, imgs_whwh=whwh))
        return proposals
