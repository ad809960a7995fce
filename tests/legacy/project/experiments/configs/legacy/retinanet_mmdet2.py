"""RetinaNet of mmdet 2.22.0, as thin as it goes, on generated images; by epochs. For mmcv 1.4.7."""

import os
from pathlib import Path

import mmdet

_base_ = [str(Path(mmdet.__file__).parent / ".mim/configs/_base_/models/retinanet_r50_fpn.py")]
data_root = os.environ["DDQJOBS_INPUT_DATA"] + "/"
del Path, os, mmdet  # mmcv 1.x takes every name for a setting

model = dict(
    backbone=dict(depth=18, base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0),
)
classes = ("rectangle_0", "disc_0", "triangle_0")
norm = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", img_scale=(96, 64), keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    norm,
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(96, 64),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip"),
            norm,
            dict(type="Pad", size_divisor=32),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
split = dict(type="CocoDataset", classes=classes, pipeline=test_pipeline)
val = dict(split, ann_file=data_root + "annotations/val.json", img_prefix=data_root + "val/")
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    train=dict(
        split,
        pipeline=train_pipeline,
        ann_file=data_root + "annotations/train.json",
        img_prefix=data_root + "train/",
    ),
    val=val,
    test=val,
)
evaluation = dict(interval=1, metric="bbox")
optimizer = dict(type="AdamW", lr=0.001)
optimizer_config = dict(grad_clip=dict(max_norm=1.0))
lr_config = dict(policy="step", warmup="linear", warmup_iters=5, warmup_ratio=0.1, step=[1])
runner = dict(type="EpochBasedRunner", max_epochs=2)
checkpoint_config = dict(interval=1)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
custom_imports = dict(imports=["ddqjobs.detect.hooks.resume_mmcv1"], allow_failed_imports=False)
custom_hooks = [dict(type="ResumeHook", priority="VERY_HIGH")]
dist_params = dict(backend="gloo")
log_level = "INFO"
load_from = None
resume_from = None
workflow = [("train", 1)]
