"""The plan's seven models made small: their own configurations, with everything narrower and shallower, for
images of coloured shapes. Trained by mmengine's runner on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.detect import prepare, runtime
from tests.support.paths import ROOT

CONFIGS = ROOT / "experiments" / "configs"
MINI = CONFIGS / "mini" / "ddq-detr_r18_shapes.py"
MODELS = {
    "ddq-fcn-12e": "ddq-fcn_r50_8xb2-12e_coco.py",
    "ddq-fcn-36e": "ddq-fcn_r50_8xb2-36e_coco.py",
    "ddq-rcnn-12e": "ddq-rcnn_r50_8xb2-12e_coco.py",
    "ddq-rcnn-36e": "ddq-rcnn_r50_8xb2-36e_coco.py",
    "ddq-detr-4scale": "ddq-detr-4scale_r50_8xb2-12e_coco.py",
    "ddq-detr-5scale": "ddq-detr-5scale_r50_8xb2-12e_coco.py",
    "ddq-detr-swinl": "ddq-detr-4scale_swinl_8xb2-30e_coco.py",
}
CLASSES, WIDTH, BASE = 3, 64, 16  # classes, channels of the pyramid, channels of the backbone's first stage
EVERY = 5  # epochs between two tests
GROUPS = {"type": "GN", "num_groups": 8, "requires_grad": True}
# The 12e and the 36e models differ in schedule and augmentation, which are the test's own.
ONE_OF_EACH_KIND = ("ddq-fcn-12e", "ddq-rcnn-12e", "ddq-detr-4scale")


def one_of_each_kind(names: Iterable[str]) -> list[Any]:
    """Return parameters for a test of all models, with the others marked for make test-long."""
    return [pytest.param(name, marks=() if name in ONE_OF_EACH_KIND else pytest.mark.long) for name in names]


def path(name: str) -> str:
    """A model's configuration: ours, or mmdet's."""
    if not name.startswith("ddq-detr"):
        return str(CONFIGS / "ddq" / MODELS[name])
    import mmdet

    return str(Path(mmdet.__file__).parent / ".mim" / "configs" / "ddq" / MODELS[name])


def model(name: str) -> Any:
    """The small model's configuration."""
    runtime.set_up()
    cfg = runtime.load_config(path(name)).model
    _backbone(cfg.backbone)
    if name.startswith("ddq-detr"):
        _detr(cfg)
    else:
        _fcn(cfg.bbox_head if "bbox_head" in cfg else cfg.rpn_head)
        neck = cfg.neck[0] if isinstance(cfg.neck, list) else cfg.neck
        neck.update(in_channels=[BASE, 2 * BASE, 4 * BASE, 8 * BASE], out_channels=WIDTH)
    if "roi_head" in cfg:
        _roi_head(cfg)
    return cfg


def _backbone(cfg: Any) -> None:
    cfg.init_cfg = None
    if cfg.type == "SwinTransformer":
        cfg.update(embed_dims=BASE, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4)
        cfg.update(drop_path_rate=0.0, pretrain_img_size=64, with_cp=False)
    else:
        # GroupNorm: small batches, trained from scratch.
        cfg.update(depth=18, base_channels=BASE, frozen_stages=-1, norm_cfg=GROUPS, norm_eval=False)


def _fcn(cfg: Any) -> None:
    cfg.update(num_classes=CLASSES, in_channels=WIDTH, feat_channels=WIDTH, shuffle_channels=16)
    cfg.update(norm_cfg=GROUPS, num_distinct_queries=20)
    cfg.dqs_cfg.nms_pre = 100


def _roi_head(cfg: Any) -> None:
    cfg.roi_head.proposal_feature_channel = WIDTH
    cfg.roi_head.bbox_roi_extractor.out_channels = WIDTH
    for head in cfg.roi_head.bbox_head:
        head.update(num_classes=CLASSES, in_channels=WIDTH, feedforward_channels=2 * WIDTH)
        head.dynamic_conv_cfg.update(in_channels=WIDTH, feat_channels=16, out_channels=WIDTH)
    cfg.test_cfg.rcnn.max_per_img = 20


def _detr(cfg: Any) -> None:
    cfg.num_queries = 30
    levels = {4: [2, 4, 8], 5: [1, 2, 4, 8]}[cfg.neck.num_outs]
    channels = [BASE * level for level in levels]
    cfg.neck.update(in_channels=channels, out_channels=WIDTH, norm_cfg={"type": "GN", "num_groups": 8})
    cfg.positional_encoding.num_feats = WIDTH // 2
    for part, layers in ((cfg.encoder, 1), (cfg.decoder, 2)):
        part.num_layers = layers
        for key, value in part.layer_cfg.items():
            if key.endswith("attn_cfg"):
                value.embed_dims = WIDTH
                if key.startswith("self") and part is cfg.decoder:
                    value.num_heads = 8
            elif key == "ffn_cfg":
                value.update(embed_dims=WIDTH, feedforward_channels=2 * WIDTH)
    cfg.bbox_head.update(num_classes=CLASSES)
    cfg.bbox_head.embed_dims = WIDTH
    cfg.dn_cfg.group_cfg.num_dn_queries = 20
    cfg.test_cfg.max_per_img = 20


def overfit(name: str, data: Path, work_dir: Path, epochs: int, enough: float = 1.0) -> tuple[float, int]:
    """Train a small model on the first eight images, testing it on the same ones every EVERY epochs until its
    box AP (0 to 1) is more than ``enough``: the AP and the epochs that it took."""
    from mmengine.runner import Runner

    runtime.set_up()
    cfg = runtime.load_config(str(MINI))
    cfg.model, cfg.work_dir = model(name), str(work_dir)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(data_root=str(data), ann_file="annotations/train.json")
        loader.dataset.data_prefix = {"img": "train/"}
        loader.dataset.indices = 8
    cfg.train_dataloader.batch_size = 2
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.val_evaluator.ann_file = str(data / "annotations" / "train.json")
    cfg.train_cfg.update(max_epochs=epochs, val_interval=EVERY)
    stopping = {"type": "EarlyStoppingHook", "monitor": "coco/bbox_mAP", "rule": "greater"}
    cfg.custom_hooks = [{**stopping, "patience": epochs, "stopping_threshold": enough}]
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger.interval = 50
    cfg.optim_wrapper.clip_grad.max_norm = 0.1 if name.startswith("ddq-detr") else 10
    cfg.param_scheduler[1].update(end=epochs, milestones=[epochs * 3 // 4])
    cfg.randomness = {"seed": 3}
    runner = Runner.from_cfg(cfg)
    runner.train()
    ap = runner.message_hub.get_scalar("val/coco/bbox_mAP").current()
    return float(ap), runner.epoch


def dataset(folder: Path) -> Path:
    """Eight images of 160x128 pixels to train on."""
    prepare.write_dataset(folder, {"train": 8, "val": 1}, (160, 128), CLASSES, 1)
    return folder


if __name__ == "__main__":  # python tests/support/shrunken.py EPOCHS ENOUGH [MODEL ...]
    import sys
    import tempfile
    import time

    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        images = dataset(here / "data")
        for chosen in sys.argv[3:] or MODELS:
            start = time.monotonic()
            ap, taken = overfit(chosen, images, here / chosen, int(sys.argv[1]), float(sys.argv[2]))
            seconds = time.monotonic() - start
            print(f"OVERFIT {chosen} AP {ap:.3f} after {taken} epochs, {seconds:.0f} s", flush=True)
