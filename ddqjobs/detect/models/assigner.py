"""Assign objects to queries: one-to-many for dense queries, one-to-one for distinct ones (Fig. 3).

The cost is DETR's. DDQ FCN predicts probabilities, the square root of two sigmoids' product, while mmdet's
FocalLossCost takes logits and applies the sigmoid itself; so they are brought back to logits first. mmdet's
own ``TopkHungarianAssigner``, made for DDQ DETR, does not do that: its cost sees a sigmoid of a sigmoid, and
the released weights of DDQ DETR were trained so. Hence a name of its own for this one.
"""

from __future__ import annotations

from typing import Any

from mmdet.models.layers.transformer import inverse_sigmoid
from mmdet.models.task_modules.assigners import FocalLossCost, TopkHungarianAssigner
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class ProbabilityFocalLossCost(FocalLossCost):  # type: ignore[misc]
    """FocalLossCost of probabilities instead of logits."""

    def _focal_loss_cost(self, cls_pred: Tensor, gt_labels: Tensor) -> Tensor:
        """Cost (queries, objects) of ``cls_pred`` (queries, classes), from 0 to 1, and labels (objects,)."""
        cost: Tensor = super()._focal_loss_cost(inverse_sigmoid(cls_pred), gt_labels)
        return cost


@TASK_UTILS.register_module()
class DDQTopkAssigner(TopkHungarianAssigner):  # type: ignore[misc]
    """Gives each object the ``topk`` queries that cost least in sum (Hungarian matching of an object repeated
    ``topk`` times), or fewer if there are not enough queries.

    ``assign`` takes scores (queries, classes) as probabilities, boxes (queries, 4) xyxy in pixels, the
    objects' boxes (objects, 4) and labels (objects,), and the image's meta data. The result has
    ``assign_metrics`` (score * IoU ** 6 of each matched pair), which weigh the losses as in TOOD.
    """

    def __init__(self, *args: Any, cls_cost: Any = None, **kwargs: Any) -> None:
        cls_cost = cls_cost or {"type": "ProbabilityFocalLossCost", "weight": 2.0}
        super().__init__(*args, cls_cost=cls_cost, **kwargs)
