"""DDQ R-CNN (paper, Fig. 3b): DDQ FCN proposes distinct queries, two stages as Sparse R-CNN's refine them."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors.two_stage import TwoStageDetector
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class DDQRCNN(TwoStageDetector):  # type: ignore[misc]
    """Two-stage detector whose proposal network knows the classes.

    The pyramid has six levels. The finest, of stride 4, is for the refining stages only.
    """

    def __init__(
        self,
        backbone: Any,
        neck: Any,
        rpn_head: Any,
        roi_head: Any,
        train_cfg: Any,
        test_cfg: Any,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        # TwoStageDetector would set the proposal network's num_classes to 1. Both heads are built here, in
        # the order of the release's parameters.
        super().__init__(
            backbone,
            neck,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        training = train_cfg or {}
        self.rpn_head = MODELS.build(
            {**rpn_head, "train_cfg": training.get("rpn"), "test_cfg": test_cfg.get("rpn")}
        )
        self.roi_head = MODELS.build(
            {**roi_head, "train_cfg": training.get("rcnn"), "test_cfg": test_cfg.get("rcnn")}
        )

    def loss(self, batch_inputs: Tensor, batch_data_samples: Any) -> dict[str, Any]:
        """Losses of the proposal network (``rpn_``) and of each stage (``s0.``, ``s1.``), which both see the
        objects' classes. ``batch_inputs``: (N, 3, H, W), normalised."""
        x = self.extract_feat(batch_inputs)
        losses, proposals = self.rpn_head.loss_and_predict(x[1:], batch_data_samples)
        all_losses = {f"rpn_{name}": value for name, value in losses.items()}
        all_losses.update(self.roi_head.loss(x, proposals, batch_data_samples))
        return all_losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: Any, rescale: bool = True) -> Any:
        """The data samples with ``pred_instances``; see :class:`~mmdet.models.TwoStageDetector`."""
        x = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(x[1:], batch_data_samples, rescale=False)
        results = self.roi_head.predict(x, proposals, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> Any:
        x = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(x[1:], batch_data_samples, rescale=False)
        return (self.roi_head.forward(x, proposals, batch_data_samples),)
