# DDQ FCN, R-50, 12 epochs (arXiv:2303.12776, Fig. 3a).
_base_ = ['./coco.py', 'mmdet::_base_/schedules/schedule_1x.py', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['ddqjobs.detect.models'], allow_failed_imports=False)

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    # A list of one: the weights are called neck.0.*, as in the released checkpoints.
    neck=[
        dict(
            type='FPN',
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            start_level=1,
            add_extra_convs='on_input',
            num_outs=5)
    ],
    bbox_head=dict(
        type='DDQFCNHead',
        num_classes=80,
        in_channels=256,
        strides=(8, 16, 32, 64, 128),
        num_distinct_queries=300,
        dqs_cfg=dict(type='nms', iou_threshold=0.7, nms_pre=1000),
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True)))

optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=5e-5, weight_decay=0.1))

# end is one more than the release's 500 warm-up iterations: LinearLR arrives at iteration end - 1, mmcv 1.x's
# warm-up at 500.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)
]
