"""The same by iterations."""

_base_ = ["retinanet_mmdet2.py"]
runner = dict(_delete_=True, type="IterBasedRunner", max_iters=16)
lr_config = dict(by_epoch=False, step=[8])
evaluation = dict(interval=8)
checkpoint_config = dict(by_epoch=False, interval=8)
log_config = dict(hooks=[dict(type="TextLoggerHook", by_epoch=False)])
