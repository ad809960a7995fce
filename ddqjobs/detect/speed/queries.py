"""Denoising queries with their numbers known on the host: one wait for the GPU instead of dozens."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from mmdet.models.layers import CdnQueryGenerator
from torch import Tensor

from . import host


class FastQueryGenerator(CdnQueryGenerator):  # type: ignore[misc]
    """mmdet's generator: the same random numbers in the same order, the same queries."""

    def __call__(self, batch_data_samples: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor, dict[str, int]]:
        """Label queries (b, n, dims), box queries (b, n, 4), attention mask (queries, queries), n and
        groups."""
        truth = [sample.gt_instances for sample in batch_data_samples]
        counts = [len(t.labels) for t in truth]
        labels, boxes = torch.cat([t.labels for t in truth]), torch.cat([t.bboxes for t in truth])
        sizes = [[w, h, w, h] for h, w in (s.img_shape for s in batch_data_samples)]
        rows = [size for size, count in zip(sizes, counts) for _ in range(count)]
        boxes = boxes / host.put(rows, boxes.dtype, boxes.device).view(-1, 4)
        most = max(counts)
        groups = self.get_num_groups(most)
        label_query = self.generate_dn_label_query(labels, groups)
        box_query = self.generate_dn_bbox_query(boxes, groups)
        number = most * 2 * groups
        place = _places(counts, most, groups)
        index = host.put(place, torch.long, boxes.device)
        shape = (len(counts), number)
        # A row of zeros behind the queries: what an image has too few of.
        label_query = torch.cat([label_query, label_query.new_zeros(1, label_query.shape[1])])
        box_query = torch.cat([box_query, box_query.new_zeros(1, 4)])
        inverse = host.put(_inverse(place, len(label_query)), torch.long, boxes.device)
        label_query = host.Take.apply(label_query, index, inverse).view(*shape, self.embed_dims)
        box_query = box_query[index].view(*shape, 4)
        mask = self.generate_dn_mask(most, groups, boxes.device)
        return label_query, box_query, mask, {"num_denoising_queries": number, "num_denoising_groups": groups}

    def generate_dn_mask(self, max_num_target: int, num_groups: int, device: Any) -> Tensor:
        """(queries, queries) bool, true is masked: groups do not see each other, matching queries see no
        group."""
        number, size = max_num_target * 2 * num_groups, max_num_target * 2
        group = torch.arange(number + self.num_matching_queries, device=device)
        group = group.clamp(max=number) // max(size, 1)  # matching queries: one group more
        differ = group[:, None] != group[None]
        return differ & (torch.arange(len(group), device=device) < number)[None]


def _places(counts: Sequence[int], most: int, groups: int) -> list[int]:
    """Return which noisy target is each image's each query; the number of noisy targets where there is
    none."""
    total = sum(counts)
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [
        half * total + start + n if n < count else 2 * groups * total
        for start, count in zip(starts, counts)
        for half in range(2 * groups)
        for n in range(most)
    ]


def _inverse(place: Sequence[int], rows: int) -> list[int]:
    """Return which query each noisy target became; the number of queries for the row of zeros."""
    inverse = [len(place)] * rows
    for query, row in enumerate(place):
        if row < rows - 1:
            inverse[row] = query
    return inverse
