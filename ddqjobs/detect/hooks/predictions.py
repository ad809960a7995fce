"""Keeps what a test predicts, in a file that needs NumPy only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ddqjobs.detect import files


@HOOKS.register_module(force=True)
class PredictionsHook(Hook):  # type: ignore[misc]
    """Writes ``predictions.npz`` after a test for boxes (of one process), images by id, boxes by score:

    ``image_ids`` (n,) int64; ``offsets`` (n + 1,) int64, the boxes of image i are offsets[i]:offsets[i + 1];
    ``boxes`` (m, 4) float32 xyxy in pixels of the original image; ``scores`` (m,) float32; ``labels`` (m,)
    int64 class indices; ``category_ids`` (k,) int64 the data set's own number of each class index.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.samples: list[Any] = []

    def after_test_iter(self, _runner: Any, outputs: Sequence[Any] | None = None, **_: Any) -> None:
        """Take the detections of a batch."""
        for sample in outputs or []:
            instances = sample.get("pred_instances")
            if instances is None or "bboxes" not in instances:  # panoptic or semantic segmentation
                continue
            order = instances.scores.cpu().numpy().argsort(kind="stable")[::-1]
            arrays = [
                getattr(instances, name).cpu().numpy()[order] for name in ("bboxes", "scores", "labels")
            ]
            self.samples.append((int(sample.img_id), *arrays))

    def after_test_epoch(self, runner: Any, **_: Any) -> None:
        """Write the file, if something was detected as boxes."""
        if not self.samples:
            return
        self.samples.sort(key=lambda s: s[0])
        counts = [len(s[2]) for s in self.samples]
        arrays = {
            "image_ids": np.array([s[0] for s in self.samples], dtype=np.int64),
            "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            "boxes": np.concatenate([np.zeros((0, 4)), *[s[1] for s in self.samples]]).astype(np.float32),
            "scores": np.concatenate([np.zeros(0), *[s[2] for s in self.samples]]).astype(np.float32),
            "labels": np.concatenate([np.zeros(0), *[s[3] for s in self.samples]]).astype(np.int64),
            "category_ids": np.array(getattr(runner.test_dataloader.dataset, "cat_ids", []), dtype=np.int64),
        }

        def write(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays)

        files.replace(self.path, write)
