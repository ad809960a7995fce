"""DDQ FCN and DDQ R-CNN for mmdet 3.x: Zhang et al., "Dense Distinct Query for End-to-End Object Detection",
CVPR 2023 (arXiv:2303.12776). mmdet itself has DDQ DETR only, of which DistinctMaskDDQDETR is a variant.

A configuration loads them with ``custom_imports = dict(imports=['ddqjobs.detect.models'])``. Names and shapes
of the weights are the release's, so its checkpoints need no renaming.
"""

from .assigner import DDQTopkAssigner, ProbabilityFocalLossCost
from .distinct_mask import DistinctMaskDDQDETR
from .fcn_head import DDQFCNHead
from .fcn_rpn import DDQFCNRPN
from .rcnn import DDQRCNN

__all__ = [
    "DDQFCNRPN",
    "DDQRCNN",
    "DDQFCNHead",
    "DDQTopkAssigner",
    "DistinctMaskDDQDETR",
    "ProbabilityFocalLossCost",
]
