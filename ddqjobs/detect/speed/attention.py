"""mmcv's MultiScaleDeformableAttention without its wait for the GPU, on the Triton operator."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor


class FastDeformableAttention(MultiScaleDeformableAttention):  # type: ignore[misc]
    """The same module, weights and arithmetic. Under autocast the offsets come from their layer in bfloat16;
    they are added to the points in float32, and the locations stay float32: eight bits of bfloat16 would move
    a sample by half a pixel."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Arguments and result as of mmcv's module."""
        assert reference_points is not None
        assert spatial_shapes is not None
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.permute(1, 0, 2), value.permute(1, 0, 2)
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        value = value.view(*value.shape[:2], self.num_heads, -1)
        shape = (*query.shape[:2], self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(*shape[:3], -1).softmax(-1).view(shape)
        location = self._locations(reference_points, offsets, spatial_shapes)
        output = self.output_proj(self._sample(value, spatial_shapes, location, weights))
        if not self.batch_first:
            output = output.permute(1, 0, 2)
        return self.dropout(output) + identity

    def _locations(self, points: Tensor, offsets: Tensor, shapes: Tensor) -> Tensor:
        """(b, queries, heads, levels, points, 2)."""
        if points.shape[-1] == 2:
            size = torch.stack([shapes[..., 1], shapes[..., 0]], -1)
            return points[:, :, None, :, None, :] + offsets / size[None, None, None, :, None, :]
        boxes = points[:, :, None, :, None]
        return boxes[..., :2] + offsets / self.num_points * boxes[..., 2:] * 0.5

    def _sample(self, value: Tensor, shapes: Tensor, location: Tensor, weights: Tensor) -> Tensor:
        if not value.is_cuda:
            return multi_scale_deformable_attn_pytorch(value, shapes, location, weights)
        from ddqjobs.detect.ops.deformable_attention import deformable_attention

        return deformable_attention(value, shapes, location, weights)
