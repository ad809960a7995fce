"""DDQ DETR that can be asked which queries its decoder's layers see: for ``experiments/ddq-mask.yaml``.

After each decoder layer but the last, class-agnostic NMS chooses the queries that stay *distinct*. The next
layer's self-attention has a mask: entry (target, source) says whether the target may look at the source.
mmdet lets a target look at a source if either of them stays: it opens the rows and the columns of those that
stay. And it takes for distinct whatever query 0 may look at, so if query 0 stays, all are: the *row-0 quirk*.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.detectors import DDQDETR
from mmdet.models.layers import DDQTransformerDecoder
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

AS_MMDET = "rows-and-columns"
MASKS = (AS_MMDET, "exact", "rows", "columns")


def blocked(kept: Tensor, mask: str) -> Tensor:
    """(images, targets, sources), true where the target may not look, of ``kept`` (images, queries).

    ``rows-and-columns`` and ``exact``: one of the two must stay. ``columns``: the source must. ``rows``: the
    target must, and one that does not stay sees itself only: torch's attention gives NaN where nothing is
    seen.
    """
    rows, columns = kept[:, :, None], kept[:, None, :]
    count = kept.shape[1]
    if mask == "rows":
        itself = torch.eye(count, dtype=torch.bool, device=kept.device)
        return ~(rows | itself)
    if mask == "columns":
        return ~columns.expand(-1, count, -1)
    return ~(rows | columns)


class DistinctMaskDecoder(DDQTransformerDecoder):  # type: ignore[misc]
    """mmdet's decoder with a mask of choice."""

    distinct_mask = AS_MMDET

    def select_distinct_queries(
        self, reference_points: Tensor, query: Tensor, self_attn_mask: Tensor, layer_index: int
    ) -> Tensor:
        """The mask (images * heads, queries, queries) of the next layer's self-attention; true is blocked.

        ``reference_points``: (images, queries, 4), cxcywh from 0 to 1. Notes for the head which queries are
        distinct: each row of ``cache_dict['distinct_query_mask']``, of which mmdet's head reads the first.
        """
        if self.distinct_mask == AS_MMDET:
            mask: Tensor = super().select_distinct_queries(
                reference_points, query, self_attn_mask, layer_index
            )
            return mask
        cache: dict[str, Any] = self.cache_dict
        start, count = cache["dis_query_info"]
        part, heads = slice(start, start + count), cache["num_heads"]
        scores = cache["cls_branches"][layer_index](query[:, part]).sigmoid().max(-1).values
        boxes = bbox_cxcywh_to_xyxy(reference_points[:, part])
        earlier = cache["distinct_query_mask"]
        before = earlier[-1][::heads, 0] if earlier else torch.ones_like(scores, dtype=torch.bool)
        kept = torch.stack([_kept(*image, cache["dqs_cfg"]) for image in zip(boxes, scores, before)])
        mask = self_attn_mask.clone()
        mask[:, part, part] = blocked(kept, self.distinct_mask).repeat_interleave(heads, 0)
        earlier.append(kept[:, None].expand(-1, count, -1).repeat_interleave(heads, 0))
        return mask


def _kept(boxes: Tensor, scores: Tensor, before: Tensor, settings: Any) -> Tensor:
    """Return which queries (n,) of an image stay of those that were distinct ``before``: boxes (n, 4), scores
    (n,)."""
    candidates = before.nonzero().view(-1)
    one_class = torch.ones(len(candidates), device=boxes.device)
    _, chosen = batched_nms(boxes[candidates], scores[candidates], one_class, settings)
    kept = torch.zeros_like(before)
    kept[candidates[chosen]] = True
    return kept


@MODELS.register_module()
class DistinctMaskDDQDETR(DDQDETR):  # type: ignore[misc]
    """mmdet's DDQDETR; same weights, same initial state.

    Args beyond DDQDETR's:
        distinct_mask: one of MASKS. ``rows-and-columns`` is mmdet's, with its quirk; the others have none.

    Raises ValueError for another word.
    """

    def __init__(self, *args: Any, distinct_mask: str = AS_MMDET, **kwargs: Any) -> None:
        if distinct_mask not in MASKS:
            raise ValueError(f"distinct_mask must be one of {', '.join(MASKS)}, not {distinct_mask!r}")
        super().__init__(*args, **kwargs)
        # Not built anew: that would draw other initial weights than DDQDETR does.
        self.decoder.__class__ = DistinctMaskDecoder
        self.decoder.distinct_mask = distinct_mask
