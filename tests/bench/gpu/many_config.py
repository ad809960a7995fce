# The test that tests.bench.gpu.many runs: session_config.py's validation as a test.
_base_ = "{{$BENCH_REPO:.}}/tests/bench/gpu/session_config.py"

test_cfg = dict(_delete_=True, type="TestLoop")
test_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root="{{$BENCH_DATA:bench-data}}/",
        ann_file="val.json",
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    ),
)
test_evaluator = dict(
    _delete_=True, type="CocoMetric", ann_file="{{$BENCH_DATA:bench-data}}/val.json", metric="bbox"
)
custom_imports = dict(imports=["tests.bench.gpu.hook_of_tests"])
custom_hooks = [dict(type="TestHook")]
