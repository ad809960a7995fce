"""Set-ups of mmdet's zoo made small enough for a CPU: their own configurations with small images, narrow
layers and few iterations. Run by the environment's Python, which has mmdet:

    PYTHONPATH=CHECKOUT python tests/support/zoo.py DATA CONFIGS

writes DATA (COCO's layout, its 80 classes, masks and panoptic maps) and CONFIGS/NAME.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Name -> configuration of mmdet.
MODELS = {
    "faster-rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "mask-rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade-rcnn": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "yolox": "yolox/yolox_s_8xb8-300e_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "deformable-detr": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "dab-detr": "dab_detr/dab-detr_r50_8xb2-50e_coco.py",
    "panoptic-fpn": "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
    "soft-teacher": "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py",
}
SIZE, TRAIN, VAL = (96, 64), 4, 2
QUERIES, CHANNELS = 30, 16


def main(root: Path, folder: Path) -> None:
    """Write data and configurations."""
    from ddqjobs.detect import runtime

    runtime.set_up()
    import mmdet
    from mmdet.datasets import CocoPanopticDataset
    from mmengine.config import Config

    data(root, CocoPanopticDataset.METAINFO)
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in MODELS.items():
        cfg = Config.fromfile(str(configs / path))
        shrink(cfg, str(root))
        cfg.dump(str(folder / f"{name}.py"))


def shrink(cfg: Any, root: str) -> None:
    """Make a configuration small. Nothing of its kind changes: types, losses, hooks and evaluators stay."""
    _walk(cfg._cfg_dict, root)
    loop = cfg.train_cfg
    if loop.get("type", "").startswith("Iter"):
        loop.max_iters, loop.val_interval = 4, 2
    else:
        loop.max_epochs, loop.val_interval = 1, 1
    cfg.optim_wrapper.optimizer.lr = 1e-5
    cfg.load_from = None
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg[name]
        loader.num_workers, loader.persistent_workers = 0, False
        loader.batch_size = min(loader.batch_size, 5 if "MultiSource" in loader.sampler.type else 2)
        loader.pop("prefetch_factor", None)


def _walk(node: Any, root: str) -> None:
    if isinstance(node, dict):
        _section(node, root)
        for key, value in list(node.items()):
            node[key] = _smaller(key, value)
            _walk(node[key], root)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _walk(value, root)


def _section(node: Any, root: str) -> None:
    if isinstance(node.get("ann_file"), str) and node["ann_file"]:
        _annotations(node, root)
    if isinstance(node.get("init_cfg"), dict) and node["init_cfg"].get("type") == "Pretrained":
        node["init_cfg"] = None
    if node.get("type") == "ResNet":
        node["base_channels"] = CHANNELS
    if node.get("type") in ("FPN", "ChannelMapper"):
        node["in_channels"] = [max(1, c * CHANNELS // 64) for c in node["in_channels"]]
    for key, value in (
        ("num_queries", QUERIES),
        ("feedforward_channels", 64),
        ("fc_out_channels", 64),
        ("score_thr", 0.0),
        ("min_bbox_size", -1),  # boxes of random weights may have no size
        ("max_per_img", QUERIES),
        ("nms_pre", 2 * QUERIES),
    ):
        if key in node:
            node[key] = value
    if node.get("type") == "RandomSampler":
        node["num"] = 16
    if node.get("num_layers") == 6:
        node["num_layers"] = 2


def _annotations(node: Any, root: str) -> None:
    """Make a data set or an evaluator read ours."""
    split = "val" if "val" in node["ann_file"].rpartition("/")[2] else "train"
    panoptic = "panoptic_" if "panoptic" in node["ann_file"] else ""
    node["ann_file"] = f"{root}/annotations/{panoptic}{split}.json"
    if "data_root" in node:
        node["data_root"] = root
        maps = {"seg": f"annotations/panoptic_{split}/"} if panoptic else {}
        node["data_prefix"] = {"img": f"{split}/", **maps}
    if "seg_prefix" in node:
        node["seg_prefix"] = f"{root}/annotations/panoptic_{split}/"


def _smaller(key: str, value: Any) -> Any:
    """Return sizes of images a tenth as large."""
    if (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(type(v) is int and abs(v) > 100 for v in value)
    ):
        return tuple(v // 10 if v > 0 else -(-v // 10) for v in value)
    if isinstance(value, (list, tuple)) and key in ("scale", "scales", "img_scale"):
        return [_smaller("", v) for v in value]
    return value


def data(folder: Path, meta: Any) -> None:
    """Write images with two objects each, as boxes, masks and panoptic maps."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        _split(folder, split, count, meta)


def _split(folder: Path, split: str, count: int, meta: Any) -> None:
    import numpy
    from PIL import Image

    maps = folder / "annotations" / f"panoptic_{split}"
    for place in (folder / split, maps):
        place.mkdir(parents=True, exist_ok=True)
    width, height = SIZE
    images, objects, segments = [], [], []
    for number in range(1, count + 1):
        image: Any = numpy.full((height, width, 3), 60, numpy.uint8)
        panoptic: Any = numpy.zeros((height, width, 3), numpy.uint8)
        panoptic[..., 0] = 100
        name = f"{number:03}"
        all_of_it = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
        info = [{"id": 100, "category_id": 81, **all_of_it}]
        for i, (x, y, w, h) in enumerate(((8 + number, 6, 30, 28), (50, 20 + number, 32, 30))):
            image[y : y + h, x : x + w] = (200, 40 + 150 * i, 40)
            panoptic[y : y + h, x : x + w, 0] = i + 1
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            box = {"category_id": i + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            objects.append({**box, "id": 2 * number + i, "image_id": number, "segmentation": [polygon]})
            info.append({**box, "id": i + 1})
        Image.fromarray(image).save(folder / split / f"{name}.jpg")
        Image.fromarray(panoptic).save(maps / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
        segments.append({"image_id": number, "file_name": f"{name}.png", "segments_info": info})
    classes = [
        {"id": i, "name": name, "isthing": int(i <= 80), "supercategory": ""}
        for i, name in enumerate(meta["classes"], 1)
    ]
    for prefix, content, known in (("", objects, classes[:80]), ("panoptic_", segments, classes)):
        document = {"images": images, "annotations": content, "categories": known}
        (folder / "annotations" / f"{prefix}{split}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
