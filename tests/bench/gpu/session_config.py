# The training that tests.bench.gpu.session submits: as config.py, with a validation of four images at the end
# of its epoch, which a training's product needs, and without a hook of its own.
_base_ = "{{$BENCH_REPO:.}}/tests/bench/gpu/config.py"

data_root = "{{$BENCH_DATA:bench-data}}/"
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1)
val_cfg = dict(_delete_=True, type="ValLoop")
val_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="val.json",
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(_delete_=True, type="CocoMetric", ann_file=data_root + "val.json", metric="bbox")
custom_imports = dict(imports=[])
custom_hooks = []
