"""Distinct-query selection of DDQ's decoder for all images at once, without waiting for the GPU."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.layers import DDQTransformerDecoder
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from ddqjobs.detect.ops.distinct import distinct


class FastDecoder(DDQTransformerDecoder):  # type: ignore[misc]
    """mmdet's decoder; ``cache_dict['distinct_query_mask']`` holds of each mask its first row only, (b *
    heads, 1,
    n): mmdet's head reads no other."""

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def select_distinct_queries(
        self, reference_points: Tensor, query: Tensor, self_attn_mask: Tensor, layer_index: int
    ) -> Tensor:
        """The attention mask (b * heads, queries, queries) of the next layer; true is masked."""
        cache: dict[str, Any] = self.cache_dict
        start, count = cache["dis_query_info"]
        heads, end = cache["num_heads"], start + count
        scores = cache["cls_branches"][layer_index](query[:, start:end]).sigmoid().max(-1).values
        boxes = bbox_cxcywh_to_xyxy(reference_points[:, start:end])
        before = ~self_attn_mask[::heads, start, start:end]
        keep, _ = distinct(boxes, scores, cache["dqs_cfg"]["iou_threshold"], count, before)
        seen = keep[:, :, None] | keep[:, None, :]
        mask = self_attn_mask.clone()
        mask[:, start:end, start:end] = (~seen).repeat_interleave(heads, 0)
        # A query is distinct if query 0 attends to it: all are, if query 0 stays. So does mmdet.
        cache["distinct_query_mask"].append(seen[:, :1].repeat_interleave(heads, 0))
        return mask
