"""DDQ DETR that waits for the GPU a handful of times per iteration instead of a thousand; mmdet's bits."""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.dense_heads import DDQDETRHead
from mmdet.models.detectors import DDQDETR
from mmdet.models.layers import CdnQueryGenerator, DDQTransformerDecoder, DeformableDetrTransformerEncoder
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor, nn

from ddqjobs.detect.ops.distinct import distinct

from . import graphs, host
from .ahead import LaunchesAhead
from .attention import FastDeformableAttention
from .decoder import FastDecoder
from .logged import LogsOnce
from .losses import FastHead, check_losses
from .queries import FastQueryGenerator
from .unsupported import NoFastForm


class FastEncoder(DeformableDetrTransformerEncoder):  # type: ignore[misc]
    """mmdet's encoder; knows the levels' shapes from the host."""

    levels: Sequence[tuple[int, int]] = ()

    def get_encoder_reference_points(
        self, spatial_shapes: Tensor, valid_ratios: Tensor, device: Any
    ) -> Tensor:
        """(b, pixels, levels, 2)."""
        points: Tensor = DeformableDetrTransformerEncoder.get_encoder_reference_points(
            self.levels, valid_ratios, device
        )
        return points


_FAST = {
    MultiScaleDeformableAttention: FastDeformableAttention,
    DeformableDetrTransformerEncoder: FastEncoder,
    DDQTransformerDecoder: FastDecoder,
    CdnQueryGenerator: FastQueryGenerator,
    DDQDETRHead: FastHead,
}


@MODELS.register_module(force=True)
class FastDDQDETR(LogsOnce, LaunchesAhead, DDQDETR):  # type: ignore[misc]
    """mmdet's DDQDETR: the same configuration, weights, random numbers, losses and predictions."""

    _noise: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            module.__class__ = _FAST.get(type(module), type(module))
        if self.dqs_cfg.get("type") != "nms" or set(self.dqs_cfg) - {"type", "iou_threshold"}:
            raise NoFastForm(f"speed: FastDDQDETR selects by plain nms; dqs_cfg is {dict(self.dqs_cfg)}")
        check_losses(self.bbox_head)
        self._graphs = graphs.Graphs()

    def train(self, mode: bool = True) -> Any:
        """As torch's."""
        if mode:
            self._graphs.clear()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's, which moves weights."""
        self._graphs.clear()
        return super()._apply(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's, which may replace weights."""
        self._graphs.clear()
        return super().load_state_dict(*args, **kwargs)

    def predict(self, batch_inputs: Tensor, batch_data_samples: Any, rescale: bool = True) -> Any:
        """As mmdet's."""
        results, _ = self.begin(batch_inputs, batch_data_samples, rescale)
        return results()

    def begin(self, image: Tensor, samples: Any, rescale: bool = True) -> tuple[Callable[[], Any], bool]:
        """Launch the forward pass, if a graph can: what returns the results, and whether it is launched."""
        outputs = None
        if not self.training and graphs.fit(image, samples):
            outputs = self._graphs.run(self, image, samples, self._of_shapes, self._of_image)
        if outputs is None:
            return functools.partial(super().predict, image, samples, rescale), False
        return functools.partial(self._results, outputs, samples, rescale), True

    def _results(self, outputs: tuple[Tensor, ...], samples: Any, rescale: bool) -> Any:
        """Return data samples with the detections that a graph's outputs are."""
        classes, boxes, mask = outputs
        self.cache_dict["distinct_query_mask"] = [mask]
        metas = [sample.metainfo for sample in samples]
        results = self.bbox_head.predict_by_feat(classes, boxes, batch_img_metas=metas, rescale=rescale)
        return self.add_pred_to_datasample(samples, results)

    def _of_shapes(self, image: Tensor, samples: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs of encoder and decoder that neither images nor weights change, in ``feat_pos`` without the
        levels' embeddings."""
        features = self.extract_feat(image)
        encoder, decoder = self.pre_transformer(features, samples)
        places = [_by_pixel(self.positional_encoding(None, input=level)) for level in features]
        return {**encoder, "feat": None, "feat_pos": places}, decoder

    def _of_image(self, image: Tensor, inputs: tuple[dict[str, Any], dict[str, Any]]) -> tuple[Tensor, ...]:
        """Scores and boxes of all layers, and which queries stayed distinct."""
        encoder, decoder = inputs
        embedded = [
            position + embedding.view(1, 1, -1)
            for position, embedding in zip(encoder["feat_pos"], self.level_embed)
        ]
        features = torch.cat([_by_pixel(level) for level in self.extract_feat(image)], 1)
        encoded = self.forward_encoder(**{**encoder, "feat": features, "feat_pos": torch.cat(embedded, 1)})
        chosen, _ = self.pre_decoder(**encoded)
        classes, boxes = self.bbox_head(**self.forward_decoder(**{**decoder, **chosen}))
        return classes, boxes, self.cache_dict["distinct_query_mask"][-1]

    def pre_transformer(
        self, mlvl_feats: Sequence[Tensor], batch_data_samples: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As mmdet's; notes the levels' shapes."""
        shapes = [(int(f.shape[2]), int(f.shape[3])) for f in mlvl_feats]
        self.encoder.levels = shapes
        # Denoising queries ask the GPU how many labels are noisy: before it has the encoder's work. mmdet
        # makes them after it; where the encoder draws no random numbers, these are the same.
        early = self.training and not _draws(self.encoder)
        self._noise = self.dn_query_generator(batch_data_samples) if early else None
        encoder, decoder = super().pre_transformer(mlvl_feats, batch_data_samples)
        if encoder["spatial_shapes"].is_cuda:
            from ddqjobs.detect.ops.deformable_attention import remember

            remember(encoder["spatial_shapes"], shapes)
        return encoder, decoder

    def gen_encoder_output_proposals(self, memory: Tensor, memory_mask: Any, spatial_shapes: Tensor) -> Any:
        """As mmdet's, with the levels' shapes from the host."""
        levels = self.encoder.levels
        # mmdet makes a tensor of each level's shape, by this method, and waits for the GPU's work so far.
        memory.new_tensor = lambda shape: host.put(shape, memory.dtype, memory.device)
        return super().gen_encoder_output_proposals(memory, memory_mask, levels)

    def pre_decoder(
        self, memory: Tensor, memory_mask: Any, spatial_shapes: Tensor, batch_data_samples: Any = None
    ) -> Any:
        """Inputs of the decoder and of the head: distinct queries, and in training dense and denoising
        ones."""
        features, anchors = self.gen_encoder_output_proposals(memory, memory_mask, spatial_shapes)
        head, last = self.bbox_head, self.decoder.num_layers
        classes = head.cls_branches[last](features)
        coordinates = head.reg_branches[last](features) + anchors
        with torch.no_grad():
            places = bbox_cxcywh_to_xyxy(coordinates.sigmoid())
            scores = classes.max(-1)[0].sigmoid()
            _, first = distinct(places, scores, self.dqs_cfg["iou_threshold"], self.num_queries)
        mapped = [self.query_map(image.detach()) for image in memory]
        if not self.training:
            self.cache_dict["dis_query_info"] = [0, self.num_queries]
            query = torch.stack([_rows(m, i) for m, i in zip(mapped, first)])
            points = torch.stack([_rows(c, i) for c, i in zip(coordinates, first)]).detach().sigmoid()
            return {"query": query, "memory": memory, "reference_points": points, "dn_mask": None}, {}
        dense_classes = head.cls_branches[-1](features)
        dense_coordinates = head.reg_branches[-1](features) + anchors
        dense = int(self.num_queries * self.dense_topk_ratio)
        order = dense_classes.detach().max(-1)[0].sigmoid().sort(dim=1, descending=True)[1][:, :dense]
        top = [
            torch.stack([_rows(t, i) for t, i in zip(table, first)])
            for table in (classes, coordinates, mapped)
        ]
        rest = [
            torch.stack([t[i] for t, i in zip(table, order)])
            for table in (dense_classes, dense_coordinates, mapped)
        ]
        return self._training_inputs(memory, top, rest, batch_data_samples)

    def _training_inputs(
        self, memory: Tensor, top: Sequence[Tensor], rest: Sequence[Tensor], samples: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """top, rest: scores, coordinates and content of distinct and of dense queries, each (b, n, ...)."""
        dense = rest[0].shape[1]
        query, unactivated = torch.cat([top[2], rest[2]], 1), torch.cat([top[1], rest[1]], 1)
        activated = unactivated.sigmoid()
        noise, self._noise = self._noise, None
        labels, boxes, mask, meta = self.dn_query_generator(samples) if noise is None else noise
        query = torch.cat([labels, query], 1)
        points = torch.cat([boxes, unactivated.detach()], 1).sigmoid()
        others = mask.shape[-1]
        whole = mask.new_ones(others + dense, others + dense)
        whole[others:, others:] = False
        whole[:others, :others] = mask
        meta["num_dense_queries"] = self.cache_dict["num_dense_queries"] = dense
        self.cache_dict["dis_query_info"] = [labels.shape[1], self.num_queries]
        self.decoder.aux_reg_branches = self.bbox_head.aux_reg_branches
        decoder = {"query": query, "memory": memory, "reference_points": points, "dn_mask": whole}
        head = {
            "enc_outputs_class": top[0],
            "enc_outputs_coord": activated[:, :-dense],
            "aux_enc_outputs_class": rest[0],
            "aux_enc_outputs_coord": activated[:, -dense:],
            "dn_meta": meta,
        }
        return decoder, head


def _draws(module: nn.Module) -> bool:
    """Return whether a module draws random numbers in training."""
    return any(getattr(part, "p", 0) or getattr(part, "drop_prob", 0) for part in module.modules())


def _by_pixel(level: Tensor) -> Tensor:
    """(b, pixels, channels) of a map."""
    return level.view(*level.shape[:2], -1).permute(0, 2, 1)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]``, zeros where the index is -1."""
    rows = table[index.clamp(min=0)]
    return torch.where((index >= 0)[:, None], rows, torch.zeros_like(rows))
