"""The run's own configuration for `submit --canary`: 20 iterations, a checkpoint after the last, no validation.

For the release's branch main, whose train.py takes no numbers as options.
"""

_base_ = ["resume_mmcv1.py"]
runner = dict(_delete_=True, type="IterBasedRunner", max_iters=20)
checkpoint_config = dict(by_epoch=False, interval=20)
evaluation = dict(interval=1000)
