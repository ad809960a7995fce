"""RetinaNet of mmdet 3.3.0, as thin as it goes, on generated images; by epochs. For mmengine 0.7.1."""

_base_ = "mmdet::_base_/models/retinanet_r50_fpn.py"
# mmengine 0.7.1 takes a file that imports for one of its newer style, and knows no {{$NAME:default}}.
data_root = __import__("os").environ["DDQJOBS_INPUT_DATA"] + "/"
metainfo = dict(classes=("rectangle_0", "disc_0", "triangle_0"))

default_scope = "mmdet"
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
model = dict(
    backbone=dict(depth=18, base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(96, 64), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(96, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
split = dict(type="CocoDataset", data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        ann_file="annotations/train.json", data_prefix=dict(img="train/"), pipeline=train_pipeline, **split
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
        pipeline=test_pipeline,
        **split,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/val.json", metric="bbox")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=0.0001)
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(logger=dict(type="LoggerHook", interval=1), checkpoint=dict(type="CheckpointHook"))
log_processor = dict(type="LogProcessor", window_size=1)
randomness = dict(seed=7)
custom_imports = dict(imports=["ddqjobs.detect.hooks.resume"], allow_failed_imports=False)
custom_hooks = [dict(type="ResumeHook")]
