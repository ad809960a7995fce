"""An input that is not what the run before it left is named before it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ddqjobs.detect.job import upstream

RUN = {"inputs": [["checkpoint", {"run": "train", "artifact": "checkpoint"}], ["data", {"path": "data"}]]}
SHA256 = hashlib.sha256(b"weights").hexdigest()


def test_an_input_that_was_changed_since_is_named(tmp_path: Path) -> None:
    left = tmp_path / "train" / "attempts" / "1" / "work_dir" / "epoch_2.pth"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"weights")
    product = {
        "finished_at": left.stat().st_ctime - 1,  # it counts as touched, and is what it was
        "artifacts": {"checkpoint": "attempts/1/work_dir/epoch_2.pth"},
        "sha256": {"checkpoint": SHA256},
    }

    def problem() -> str:
        return upstream.problem(tmp_path / "test", RUN, {}, 0.0)

    assert problem() == ""  # no product is known
    (tmp_path / "train" / "product.json").write_text(json.dumps(product))
    assert problem() == ""
    left.write_bytes(b"others!")
    assert problem() == f"input checkpoint is not what train left, {left} was changed since: bring it back"


def test_a_file_that_was_replaced_in_the_queue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r50.pth"
    run = {"inputs": [["r-50", {"path": "r50.pth", "sha256": SHA256}]]}
    variables = {"DDQJOBS_INPUT_R_50": str(path)}
    assert upstream.problem(tmp_path, run, variables, 0.0) == ""  # the script says that it is not there
    path.write_bytes(b"weights")
    assert upstream.problem(tmp_path, run, variables, 0.0) == ""
    path.write_bytes(b"others!")
    assert upstream.problem(tmp_path, run, variables, path.stat().st_ctime + 1) == ""  # before the submission
    words = (
        f"input r-50 is not what was submitted, {path} was changed since: `ddqjobs retry` takes it as it is"
    )
    assert upstream.problem(tmp_path, run, variables, path.stat().st_ctime - 1) == words
