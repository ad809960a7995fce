"""The run's own configuration made small for a CPU: ddq-cpu's data, images of a fifth of the size, two epochs.

For the release's branch ddq_detr and mmdet 3.x. With what lets a training go on (docs/explanation/resume.md).
An iteration of DETR-5scale or with Swin-L takes minutes, so these train for two: one epoch of four images.
"""

# mmengine evaluates this line by itself, among its own names. An import would make it take the file for one of
# its newer style.
_base_ = os.environ["DDQJOBS_CONFIG"]
environ = __import__("os").environ


def small(step, scaled=False):
    """Return a pipeline with every size divided by five."""
    if isinstance(step, dict):
        return {key: small(value, key in ("scale", "scales", "crop_size")) for key, value in step.items()}
    if isinstance(step, (list, tuple)):
        return type(step)([small(item, scaled) for item in step])
    return step // 5 if scaled and isinstance(step, int) else step


root = environ.get("DDQJOBS_INPUT_DATA", "data") + "/"
short = any(name in environ["DDQJOBS_CONFIG"] for name in ("5scale", "swinl"))
loading = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(
        data_root=root,
        pipeline=small(_base_["train_dataloader"]["dataset"]["pipeline"]),
        indices=4 if short else None,
    ),
    **loading,
)
val_dataloader = dict(
    dataset=dict(
        data_root=root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        pipeline=small(_base_["val_dataloader"]["dataset"]["pipeline"]),
    ),
    **loading,
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=root + "annotations/instances_val2017.json", format_only=False)
test_evaluator = val_evaluator
model = dict(backbone=dict(init_cfg=None))
load_from = environ.get("DDQJOBS_INPUT_INIT")
train_cfg = dict(max_epochs=1 if short else 2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
randomness = dict(seed=7)
custom_imports = dict(
    imports=[*_base_.get("custom_imports", {}).get("imports", []), "ddqjobs.detect.hooks.resume"],
    allow_failed_imports=False,
)
custom_hooks = [*(_base_.get("custom_hooks") or []), dict(type="ResumeHook")]
del environ, small, root, short, loading
