"""An input that is not what the run before it left is named before it is read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ddqjobs.detect import proof
from ddqjobs.detect.job import upstream

RUN = {"inputs": [["checkpoint", {"run": "train", "artifact": "checkpoint"}], ["data", {"path": "data"}]]}
SHA256 = hashlib.sha256(b"weights").hexdigest()


def test_an_input_that_was_changed_since_is_named(tmp_path: Path) -> None:
    checkpoint = tmp_path / "train" / "attempts" / "1" / "work_dir" / "epoch_2.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    product = {
        "finished_at": checkpoint.stat().st_ctime - 1,  # it counts as touched, and is what it was
        "artifacts": {"checkpoint": "attempts/1/work_dir/epoch_2.pth"},
        "sha256": {"checkpoint": SHA256},
    }

    def problem() -> str:
        return upstream.problem(tmp_path / "test", RUN, {})

    assert problem() == ""  # no product is known
    (tmp_path / "train" / "product.json").write_text(json.dumps(product))
    assert problem() == ""
    checkpoint.write_bytes(b"others!")
    assert (
        problem() == f"input checkpoint is not what train left, {checkpoint} was changed since: bring it back"
    )


def test_a_file_that_was_replaced_in_the_queue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r50.pth"
    read: dict[str, object] = {"path": "r50.pth", "sha256": SHA256}

    def problem() -> str:
        run_dir = tmp_path / "mini" / "runs" / "test.r-50"
        return upstream.problem(run_dir, {"inputs": [["r-50", read]]}, {"DDQJOBS_INPUT_R_50": str(path)})

    assert problem() == ""  # the script says that it is not there
    path.write_bytes(b"weights")
    assert problem() == ""
    path.write_bytes(b"others!")
    message = (
        f"input r-50 is not what was submitted, {path} was changed since: "
        "`ddqjobs retry mini test.r-50` takes it as it is"
    )
    assert problem() == message
    read.update(size=7, changed_ns=path.stat().st_ctime_ns)  # known as it is, and not read again
    assert problem() == ""


def test_a_file_that_was_replaced_while_its_run_was_planned_is_named(tmp_path: Path) -> None:
    """The script is written after the digest was taken: its time does not say what the file was before."""
    path, before = tmp_path / "r50.pth", tmp_path / "before"
    before.write_bytes(b"weights")
    read = {"path": "r50.pth", "sha256": SHA256, "size": 7, "changed_ns": before.stat().st_ctime_ns - 1}
    path.write_bytes(b"others!")
    variables = {
        "DDQJOBS_ATTEMPT_DIR": str(tmp_path),
        "DDQJOBS_RUN_DIR": str(tmp_path / "results" / "runs" / "a"),
        "DDQJOBS_TICKET": "t1.0",
        "DDQJOBS_INPUT_R": str(path),
    }
    (tmp_path / "run.json").write_text(json.dumps({"inputs": [["r", read]]}))
    script = tmp_path / "results" / "submissions" / "t1" / "job.sh"
    script.parent.mkdir(parents=True)
    script.write_text("")
    os.utime(script, (path.stat().st_ctime + 9, path.stat().st_ctime + 9))
    assert proof.inputs_problem(variables).startswith("input r is not what was submitted")
