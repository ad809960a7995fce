"""The run's own configuration made small for a CPU: ddq-cpu's data, images of a fifth of the size, two epochs.

For the release's branch main (mmcv 1.x). Builds on what lets a training go on (docs/explanation/resume.md).
"""

import os

from mmcv import Config

_base_ = ["../ddq/resume_mmcv1.py"]


def small(step, scaled=False):
    """Return a pipeline with every size divided by five."""
    if isinstance(step, dict):
        return {key: small(value, key in ("img_scale", "crop_size")) for key, value in step.items()}
    if isinstance(step, (list, tuple)):
        return type(step)([small(item, scaled) for item in step])
    return step // 5 if scaled and isinstance(step, int) else step


own = Config.fromfile(os.environ["DDQJOBS_CONFIG"]).data
root = os.environ.get("DDQJOBS_INPUT_DATA", "data") + "/"
split = {
    name: dict(
        ann_file=f"{root}annotations/instances_{name}2017.json",
        img_prefix=f"{root}{name}2017/",
        pipeline=small(own[name].pipeline),
    )
    for name in ("train", "val")
}
data = dict(workers_per_gpu=0, train=split["train"], val=split["val"], test=split["val"])
model = dict(backbone=dict(init_cfg=None))
load_from = os.environ.get("DDQJOBS_INPUT_INIT")
runner = dict(max_epochs=2)
checkpoint_config = dict(interval=2)
log_config = dict(interval=1)
del Config, os, own, root, small, split  # mmcv 1.x takes every name for a setting
