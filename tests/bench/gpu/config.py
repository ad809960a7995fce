# DDQ DETR-4scale R-50 at full size for measurements: 1333x800, batch 2, 900 queries, seven boxes per image.
# BENCH_DATA is a folder that tests.bench.gpu.data has filled, BENCH_CONFIGS is mmdet's configs.
_base_ = "{{$BENCH_CONFIGS:configs}}/ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py"

data_root = "{{$BENCH_DATA:bench-data}}/"
model = dict(backbone=dict(init_cfg=None))
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    dataset=dict(data_root=data_root, ann_file="train.json", data_prefix=dict(img=""), pipeline=pipeline),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1000)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1),
)
log_processor = dict(type="LogProcessor", window_size=1, by_epoch=True)
custom_imports = dict(imports=["tests.bench.gpu.hooks"])
custom_hooks = [dict(type="BenchHook")]
