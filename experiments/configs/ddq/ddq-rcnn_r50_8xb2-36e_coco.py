# DDQ R-CNN, R-50, 36 epochs with DETR's augmentation.
_base_ = ['./ddq-rcnn_r50_8xb2-12e_coco.py', './detr_augmentation.py']

train_dataloader = dict(dataset=dict(pipeline=_base_.detr_train_pipeline))

optim_wrapper = dict(clip_grad=dict(max_norm=10, norm_type=2))

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.0001, by_epoch=False, begin=0, end=2001),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1)
]
