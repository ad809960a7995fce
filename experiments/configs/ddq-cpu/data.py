"""Writes the data set of ddq-cpu, ``python data.py FOLDER``: coloured shapes, laid out and named as COCO 2017 is.

The models have COCO's eighty classes; the shapes are of the first thirty.
"""

import json
import sys
from pathlib import Path

from ddqjobs.detect import prepare, runtime

COUNTS = {"train": 8, "val": 4}


def main(folder: Path) -> None:
    """Write the data set."""
    runtime.set_up()
    from mmdet.datasets import CocoDataset

    prepare.write_dataset(folder, COUNTS, (160, 128), prepare.MAX_CLASSES, seed=1)
    for split in COUNTS:
        (folder / split).rename(folder / f"{split}2017")
        path = folder / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        names = enumerate(CocoDataset.METAINFO["classes"], start=1)
        content["categories"] = [{"id": number, "name": name} for number, name in names]
        path.with_name(f"instances_{split}2017.json").write_text(json.dumps(content))
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
