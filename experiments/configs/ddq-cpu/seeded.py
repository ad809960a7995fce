"""Writes a checkpoint with weights from a seed in place of the released one: ``python seeded.py CONFIG OUT``.

Scores and boxes of such weights differ from point to point (:mod:`ddqjobs.detect.inputs`). Runs in the
release's own environment and tree.
"""

import importlib
import sys
from pathlib import Path

from ddqjobs.detect import parity, runtime

SEED = 5


def main(config: str, out: Path) -> None:
    """Write the checkpoint. Modules' versions (``_metadata``) come along, without which mmdet 2.x loads wrongly."""
    runtime.set_up()
    importlib.import_module("projects")
    cfg = runtime.load_config(config)
    cfg.model.backbone.init_cfg = None
    model = runtime.build_model(cfg)
    parity.fill(model, SEED)
    runtime.save({"meta": {}, "state_dict": model.state_dict()}, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
