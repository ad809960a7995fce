"""ddqjobs.detect.product and claim: whole or not, and who may speak for a run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ddqjobs.detect import files, product
from ddqjobs.detect.job import claim
from ddqjobs.spec.model import Product, Run, TaskKind


class Bench:
    """A run's folder with one attempt, as the launch script leaves it."""

    def __init__(self, root: Path, run: Run, attempt: int = 1) -> None:
        self.run_dir = root / "runs" / run.name
        self.attempt_dir = self.run_dir / "attempts" / str(attempt)
        self.work = self.attempt_dir / "work_dir"
        self.work.mkdir(parents=True)
        self.claim = root / "claims" / "ticket"
        self.claim.parent.mkdir(exist_ok=True)
        self.claim.write_text("run 4711\n")
        (self.attempt_dir / "run.json").write_bytes(msgspec.json.encode(run))
        self.variables = {
            "DDQJOBS_RUN_DIR": str(self.run_dir),
            "DDQJOBS_ATTEMPT": str(attempt),
            "DDQJOBS_ATTEMPT_DIR": str(self.attempt_dir),
            "DDQJOBS_WORK_DIR": str(self.work),
            "DDQJOBS_TICKET": "ticket.0",
            "DDQJOBS_CLAIM": str(self.claim),
        }

    def look(self) -> int:
        return product.main(self.variables)

    def product(self) -> Product:
        return msgspec.json.decode((self.run_dir / "product.json").read_bytes(), type=Product)

    def checkpoint(self, name: str, whole: bool = True) -> Path:
        path = self.work / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", "x" * 200)
        if not whole:
            path.write_bytes(path.read_bytes()[:-30])
        return path

    def log(self, *lines: dict[str, Any], config: str = "train_cfg = dict(max_epochs=2)\n") -> None:
        vis = self.work / "20260101_000000" / "vis_data"
        vis.mkdir(parents=True, exist_ok=True)
        (vis / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (vis / "config.py").write_text(config)


def run(kind: TaskKind, **more: Any) -> Run:
    return Run(name="r1", experiment="e", task="t", kind=kind, digest="d" * 8, **more)


TRAIN = {"loss": 2.0, "epoch": 2, "iter": 4, "step": 4}
VAL = {"coco/bbox_mAP": 0.5, "coco/bbox_mAP_l": -1.0, "coco/bbox_mAP_s": float("nan"), "step": 2}


@pytest.fixture
def trained(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log(TRAIN, VAL)
    bench.checkpoint("epoch_2.pth")
    return bench


def test_train(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained.look() == 0
    result = trained.product()
    assert (result.run, result.digest, result.kind, result.attempt, result.ticket) == (
        "r1",
        "d" * 8,
        TaskKind.TRAIN,
        1,
        "ticket.0",
    )
    assert result.metrics == {"bbox_mAP": 0.5, "bbox_mAP_s": None, "bbox_mAP_l": -1.0}
    assert result.artifacts["checkpoint"] == "attempts/1/work_dir/epoch_2.pth"
    content = (trained.work / "epoch_2.pth").read_bytes()
    assert result.sha256["checkpoint"] == hashlib.sha256(content).hexdigest()
    link = trained.run_dir / "artifacts" / "checkpoint"
    assert link.read_bytes() == content
    assert str(link.readlink()) == "../attempts/1/work_dir/epoch_2.pth"
    assert result.report["epochs"] == 2
    assert (trained.attempt_dir / "product.json").read_bytes() == (
        trained.run_dir / "product.json"
    ).read_bytes()
    assert not list(trained.run_dir.rglob("*.tmp"))


def why(bench: Bench, capsys: pytest.CaptureFixture[str], code: int = 3) -> str:
    assert bench.look() == code
    assert not (bench.run_dir / "product.json").exists()
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert ":" not in text.partition("product: none: ")[2]  # of a reason: one stands before it
    return text


def test_train_without_checkpoint(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (trained.work / "epoch_2.pth").rename(trained.work / "epoch_1.pth")
    assert "epoch_2.pth" in why(trained, capsys)
    assert not (trained.run_dir / "artifacts").exists()


def test_train_with_torn_checkpoint(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    trained.checkpoint("epoch_2.pth", whole=False)
    assert "torn" in why(trained, capsys)


def test_train_without_last_validation(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    trained.log(TRAIN, dict(VAL, step=1))
    assert "validation of epoch 2" in why(trained, capsys)


WITHOUT = {key: value for key, value in VAL.items() if key == "step"}
STOPS = "train_cfg = dict(max_epochs=9)\ncustom_hooks = [dict(type='EarlyStoppingHook')]\n"
NINE = "train_cfg = dict(max_epochs=9)\n"


@pytest.mark.parametrize(
    ("lines", "config", "checkpoint", "metrics", "report"),
    [
        ([TRAIN], "train_cfg = dict(max_epochs=2)\n", "epoch_2.pth", {}, {"epochs": 2}),
        (
            [TRAIN, dict(WITHOUT, **{"pascal_voc/mAP": 0.7})],
            "train_cfg = dict(max_epochs=2)\n",
            "epoch_2.pth",
            {},
            {"epochs": 2},
        ),
        (
            [TRAIN, VAL],
            STOPS,
            "epoch_2.pth",
            {"bbox_mAP": 0.5},
            {"stopped_early": "epoch 2 of 9"},
        ),
        (
            [TRAIN, VAL],
            "train_cfg = dict(max_epochs=2)\n",
            "best_coco_bbox_mAP_epoch_2.pth",
            {"bbox_mAP": 0.5},
            {"checkpoint": "best_coco_bbox_mAP_epoch_2.pth"},
        ),
    ],
    ids=["no validation", "another metric", "stopped early", "only the best"],
)
def test_a_training_that_ended_well_is_kept(
    tmp_path: Path,
    lines: list[dict[str, Any]],
    config: str,
    checkpoint: str,
    metrics: dict[str, float],
    report: dict[str, Any],
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log(*lines, config=config)
    bench.checkpoint(checkpoint)
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert bench.look() == 0
    result = bench.product()
    assert result.artifacts["checkpoint"] == f"attempts/1/work_dir/{checkpoint}"
    assert {key: result.metrics[key] for key in metrics} == metrics
    assert report.items() <= result.report.items()


@pytest.mark.parametrize("code", ["0", "1"])
def test_a_training_that_ended_before_its_last_epoch_says_so(
    tmp_path: Path, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log(TRAIN, VAL, config=NINE)
    bench.checkpoint("epoch_2.pth")
    bench.variables["DDQJOBS_EXIT_CODE"] = code
    reason = why(bench, capsys)
    assert "epoch_9.pth" in reason
    assert "epoch_9.pth" in (bench.attempt_dir / "no_product").read_text()
    assert ("; `ddqjobs adopt " in reason) == (code == "0")  # what a failed training left is not whole


def kept(bench: Bench) -> tuple[str, dict[str, Any]]:
    """Return checkpoint and report of a training that exited 0."""
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert bench.look() == 0
    result = bench.product()
    assert (bench.run_dir / "artifacts" / "checkpoint").resolve().is_file()
    return result.artifacts["checkpoint"].partition("work_dir/")[2], result.report


def test_a_training_that_keeps_checkpoints_elsewhere_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "a", run(TaskKind.TRAIN))
    bench.log(TRAIN, VAL)
    (bench.work / "ckpts" / "work_dir").mkdir(parents=True)
    bench.checkpoint("ckpts/work_dir/epoch_2.pth")
    assert kept(bench)[0] == "ckpts/work_dir/epoch_2.pth"
    far = Bench(tmp_path / "b", run(TaskKind.TRAIN))
    far.log(TRAIN, VAL)
    moved = far.checkpoint("epoch_2.pth").rename(tmp_path / "epoch_2.pth")
    (far.work / "last_checkpoint").write_text(str(moved))
    assert kept(far)[0] == "epoch_2.pth"
    weights = moved.read_bytes()
    moved.write_bytes(b"of the next training, which keeps its checkpoints in the same folder")
    kept_at = far.run_dir / "artifacts" / "checkpoint"
    assert kept_at.read_bytes() == weights
    assert files.sha256(kept_at) == far.product().sha256["checkpoint"]


@pytest.mark.parametrize(
    ("lines", "config", "checkpoint"),
    [
        ([{"loss": 2.0, "epoch": 9, "step": 40}], NINE, "epoch_8.pth"),  # saved every second epoch
        (
            [{"loss": 2.0, "epoch": 9, "step": 40}],
            NINE,
            "best_coco_bbox_mAP_epoch_4.pth",
        ),  # the last not validated
        (
            [{"loss": 2.0, "step": step} for step in (50, 100)],
            "train_cfg = dict(type='IterBasedTrainLoop', max_iters=120)\n",
            "iter_100.pth",
        ),
    ],
)
def test_a_training_that_went_to_its_end_keeps_what_it_saved(
    tmp_path: Path, lines: list[dict[str, Any]], config: str, checkpoint: str
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log(*lines, config=config)
    bench.checkpoint(checkpoint)
    name, report = kept(bench)
    assert (name, report["checkpoint"]) == (checkpoint, checkpoint)
    assert "stopped_early" not in report


def test_of_an_early_stop_the_last_numbered_checkpoint_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log(TRAIN, VAL, config=STOPS)
    bench.checkpoint("epoch_best.pth")
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert "epoch_9.pth" in why(bench, capsys)
    for number in (2, 4):
        bench.checkpoint(f"epoch_{number}.pth")
    name, report = kept(bench)
    assert (name, report["stopped_early"]) == ("epoch_4.pth", "epoch 4 of 9")


@pytest.mark.parametrize(("config", "epoch"), [(NINE, 9), (STOPS, 8)], ids=["near its end", "may stop early"])
def test_a_training_that_was_asked_to_stop_has_not_ended(
    tmp_path: Path, config: str, epoch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log({"loss": 2.0, "epoch": epoch, "step": 40}, config=config)
    bench.checkpoint("epoch_8.pth")
    (bench.attempt_dir / "stop").touch()
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert "epoch_9.pth" in why(bench, capsys)


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_training_without_an_iteration_is_no_training(
    tmp_path: Path, iterations: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, run(TaskKind.TRAIN))
    bench.log()
    with zipfile.ZipFile(bench.work / "epoch_2.pth", "w") as archive:
        content = {
            "meta": {"iter": iterations, "seen": Fraction(1)},
            "state_dict": OrderedDict(a=Fraction(2)),
        }
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    if iterations:
        assert bench.look() == 0
    else:
        assert "ran no iteration" in why(bench, capsys)


def test_train_of_unknown_length(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    trained.log(TRAIN, VAL, config="")
    assert "no number of epochs" in why(trained, capsys)


def test_void_claim(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    trained.claim.write_text("void\n")
    assert "void" in why(trained, capsys, 4)
    assert (trained.attempt_dir / "product.json").is_file()
    assert not (trained.run_dir / "artifacts").exists()


def test_missing_claim(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    trained.claim.unlink()
    assert "cannot be read" in why(trained, capsys, 4)


def test_newer_attempt(trained: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (trained.run_dir / "attempts" / "10").mkdir()
    assert "attempt 10 is newer" in why(trained, capsys, 4)


def test_odd_folders_beside_attempts(trained: Bench) -> None:
    for name in ("tmp", "²", "-3"):
        (trained.run_dir / "attempts" / name).mkdir()
    assert trained.look() == 0


def test_product_of_a_later_attempt_replaces(trained: Bench, tmp_path: Path) -> None:
    assert trained.look() == 0
    later = Bench(tmp_path, run(TaskKind.TRAIN), attempt=2)
    later.log(TRAIN, dict(VAL, **{"coco/bbox_mAP": 0.6}))
    later.checkpoint("epoch_2.pth")
    assert later.look() == 0
    assert later.product().metrics["bbox_mAP"] == 0.6
    assert str((later.run_dir / "artifacts" / "checkpoint").readlink()).startswith("../attempts/2/")
    assert trained.look() == 4


def test_a_training_that_went_on_elsewhere_names_the_machines_before(trained: Bench, tmp_path: Path) -> None:
    def proof(bench: Bench, processor: str) -> None:
        machine = {"processor": processor, "instructions": [], "threads": "1", "gpus": [], "driver": ""}
        record: dict[str, Any] = dict.fromkeys(("environment", "python", "cuda", "code", "built"), "")
        record.update(locked=True, packages={}, roots=[], machine=machine)
        if bench is trained:
            del record["built"]  # as before the upgrade between two attempts
        (bench.attempt_dir / "proof.json").write_text(json.dumps(record))

    benches = [trained, *(Bench(tmp_path, run(TaskKind.TRAIN), number) for number in (2, 3, 4))]
    for bench, processor in zip(benches, ("EPYC", "Xeon", "Arm", "Xeon"), strict=True):
        proof(bench, processor)
    for bench in (benches[1], benches[3]):  # the third left no checkpoint
        bench.log(TRAIN, VAL)
        bench.checkpoint("epoch_2.pth")
    assert benches[3].look() == 0
    ran = benches[3].product().ran
    assert ran is not None
    assert [one.processor for one in ran.earlier] == ["EPYC"]


def test_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.TEST))
    assert "no metrics of a test" in why(bench, capsys)
    folder = bench.work / "20260101_000000"
    folder.mkdir()
    (folder / "20260101_000000.json").write_text('{"coco/bbox_mAP": 0.25}')
    assert bench.look() == 0
    assert set(bench.product().artifacts) == {"log"}
    (bench.work / "predictions.npz").write_bytes(b"x")
    assert bench.look() == 0
    assert set(bench.product().artifacts) == {"log", "predictions"}
    assert bench.product().metrics == {"bbox_mAP": 0.25}


def predictions(path: Path, boxes: int) -> None:
    """Write what the hook of a test writes, by its standard library alone."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({boxes},), }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores.npy", b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + bytes(4 * boxes))


def test_a_test_that_detected_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.TEST))
    assert "(not evaluated, or no score reached score_thr)" in why(bench, capsys)
    stdout = bench.attempt_dir / "stdout.log"
    stdout.write_text("mmengine - ERROR - The testing results of the whole dataset is empty.\n")
    assert "(nothing was detected; lower score_thr, or train longer)" in why(bench, capsys)
    stdout.unlink()
    predictions(bench.work / "predictions.npz", 0)
    assert "(nothing was detected; " in why(bench, capsys)
    folder = bench.work / "20260101_000000"
    folder.mkdir()
    (folder / "20260101_000000.json").write_text('{"pascal_voc/mAP": 0.0}')  # which logs a 0 all the same
    for boxes in (0, 3):
        predictions(bench.work / "predictions.npz", boxes)
        assert bench.look() == 0
        assert bench.product().report["detections"] == boxes


def test_a_checkpoint_that_did_not_load_exactly_is_kept_with_its_keys(tmp_path: Path) -> None:
    bench = Bench(tmp_path, run(TaskKind.TEST))
    folder = bench.work / "20260101_000000"
    folder.mkdir()
    (folder / "20260101_000000.json").write_text('{"coco/bbox_mAP": 0.25}')
    bench.look()
    assert "loaded_inexactly" not in bench.product().report
    # As mmcv 1.x prints it; mmengine's logger puts the time before the first line.
    (bench.attempt_dir / "stdout.log").write_text(
        "size mismatch for other: before\n"
        "2026/01/01 - mmengine - WARNING - The model and loaded state dict do not match exactly\n\n"
        "size mismatch for head.cls.weight: copying a param with shape torch.Size([3]) from checkpoint, the "
        "shape in current model is torch.Size([80]).\n"
        "unexpected key in source state_dict: a.weight, decoder.aux_reg_branches.0.0.bias, b\n\n"
        f"missing keys in source state_dict: {', '.join(f'k{n}' for n in range(30))}\n\nnext\n"
    )
    bench.look()
    load_report = bench.product().report["loaded_inexactly"]
    assert isinstance(load_report, dict)
    assert (load_report["missing"], load_report["unexpected"], load_report["mismatched"]) == (30, 2, 1)
    assert load_report["keys"]["unexpected"] == ["a.weight", "b"]
    assert load_report["keys"]["mismatched"] == ["head.cls.weight"]
    assert len(load_report["keys"]["missing"]) == 20
    # Every trained DDQ DETR holds these twice.
    (bench.attempt_dir / "stdout.log").write_text(
        "The model and loaded state dict do not match exactly\n\n"
        "unexpected key in source state_dict: decoder.aux_reg_branches.0.0.bias\n\n"
    )
    bench.look()
    assert "loaded_inexactly" not in bench.product().report


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.CONVERT))
    bench.checkpoint("checkpoint.pth")
    assert "convert.json" in why(bench, capsys)
    (bench.work / "convert.json").write_text('{"tensors": 3}')
    assert bench.look() == 0
    assert bench.product().report == {"tensors": 3}
    bench.checkpoint("checkpoint.pth", whole=False)
    assert bench.look() == 3


def test_align(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.ALIGN))
    (bench.work / "align.json").write_text("[1]")
    assert "is not a JSON object" in why(bench, capsys)
    (bench.work / "align.json").write_text(
        '{"metrics": {"box": 0.5, "score": null, "images": 3}, "kind": "x"}'
    )
    assert bench.look() == 0
    assert bench.product().metrics == {"box": 0.5, "score": None, "images": 3.0}
    assert bench.product().report == {"kind": "x"}


def test_unittest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.UNITTEST))
    (bench.work / "junit.xml").write_text("<testsuites><testsuite tests='3' failures='1' errors='0'")
    assert "junit.xml" in why(bench, capsys)
    text = "<testsuites><testsuite tests='3' failures='1' errors='0' skipped='x' time='1.5'/></testsuites>"
    (bench.work / "junit.xml").write_text(text)
    assert bench.look() == 0
    counts = {"tests": 3.0, "failures": 1.0, "errors": 0.0, "skipped": 0.0, "time": 1.5}
    assert bench.product().metrics == counts


def test_declared_products(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.PREPARE, products=(("data", "out"), ("weights", "epoch_*.pth"))))
    assert "nothing matches" in why(bench, capsys)
    (bench.work / "out").mkdir()
    bench.checkpoint("epoch_9.pth")
    bench.checkpoint("epoch_12.pth")
    assert "only what is empty matches" in why(bench, capsys)
    (bench.work / "out" / "x").write_text("")
    assert bench.look() == 0
    result = bench.product()
    assert result.artifacts["weights"].endswith("epoch_12.pth")
    assert set(result.sha256) == {"weights"}
    assert (bench.run_dir / "artifacts" / "data" / "x").exists()
    bench.checkpoint("epoch_12.pth", whole=False)
    assert bench.look() == 3


@pytest.mark.parametrize("pattern", ["../*", "/etc/*", "a/../../run.json"])
def test_globs_stay_in_the_work_dir(tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.SMOKE, products=(("x", pattern),)))
    assert "leads out" in why(bench, capsys)


def test_a_name_that_json_cannot_hold_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.SMOKE, products=(("x", "a*.txt"),)))
    (bench.work / os.fsdecode(b"a\xff.txt")).write_text("x")
    assert "the name b'a\\xff.txt' of x is not UTF-8" in why(bench, capsys)


def test_smoke_may_leave_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, run(TaskKind.SMOKE))
    assert bench.look() == product.NOT_WHOLE
    bench.variables["DDQJOBS_EXIT_CODE"] = "0"
    assert bench.look() == 0
    assert bench.product().artifacts == {}


def test_no_work_dir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.SMOKE))
    bench.work.rmdir()
    assert "no folder" in why(bench, capsys)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "dance", "name": "x"}', '{"kind": "test"}'])
def test_unusable_run(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, run(TaskKind.TEST))
    (bench.attempt_dir / "run.json").write_text(text)
    assert bench.look() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_artifact_names_are_names(tmp_path: Path) -> None:
    bench = Bench(tmp_path, run(TaskKind.SMOKE, products=(("../x", "*"),)))
    assert bench.look() == 2
    assert product.main({}) == 2


def test_when_an_attempt_stops_and_when_it_may_not_speak(tmp_path: Path) -> None:
    paths = {"DDQJOBS_STOP": str(tmp_path / "stop"), "DDQJOBS_CLAIM": str(tmp_path / "claim")}
    job = claim.from_environment({**paths, "DDQJOBS_RUN_DIR": str(tmp_path), "DDQJOBS_ATTEMPT": "1"})
    assert job.given_up() == ""  # a claim that cannot be read is no reason to end, but nothing may be written
    assert "cannot be read" in job.lost()
    (tmp_path / "claim").write_text("void\n")
    assert "void" in job.given_up()
    (tmp_path / "claim").write_text("run 12\n")
    assert (job.given_up(), job.stop_asked()) == ("", False)
    (tmp_path / "stop").touch()
    assert job.stop_asked()
    (tmp_path / "attempts" / "2").mkdir(parents=True)
    assert job.given_up() == job.lost() == "attempt 2 is newer than attempt 1"
    (tmp_path / "claim").write_text("")
    assert "nothing" in job.lost()
    assert claim.from_environment({}).lost() == ""


def test_replace_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.replace_json(path, {"a": 1})
    with pytest.raises(ValueError):
        files.replace_json(path, {"a": float("nan")})

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.replace(path, write)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_torn(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    assert files.torn(path) == "No such file or directory"
    path.write_bytes(b"")
    assert files.torn(path) == "empty"
    path.write_bytes(b"hello")
    assert files.torn(path) == "torn or no checkpoint"
    path.write_bytes(b"\x80\x02}q.")
    assert files.torn(path) is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "x")
    assert files.torn(path) == "not a torch checkpoint"
