"""An input that is not what the run before it left is named before it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ddqjobs.detect.job import upstream

RUN = {"inputs": [["checkpoint", {"run": "train", "artifact": "checkpoint"}], ["data", {"path": "data"}]]}


def test_an_input_that_was_changed_since_is_named(tmp_path: Path) -> None:
    left = tmp_path / "train" / "attempts" / "1" / "work_dir" / "epoch_2.pth"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"weights")
    product = {
        "finished_at": left.stat().st_ctime - 1,  # it counts as touched, and is what it was
        "artifacts": {"checkpoint": "attempts/1/work_dir/epoch_2.pth"},
        "sha256": {"checkpoint": hashlib.sha256(b"weights").hexdigest()},
    }
    assert upstream.problem(tmp_path / "test", RUN) == ""  # no product is known
    (tmp_path / "train" / "product.json").write_text(json.dumps(product))
    assert upstream.problem(tmp_path / "test", RUN) == ""
    left.write_bytes(b"others!")
    words = f"input checkpoint is not what train left, {left} was changed since: bring it back"
    assert upstream.problem(tmp_path / "test", RUN) == words
