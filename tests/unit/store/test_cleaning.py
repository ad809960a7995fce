"""Files that `clean` removes or never touches: real files of real runs, hard links, links out, writers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.store import retention
from ddqjobs.store.retention import Checkpoint, Rule
from tests.support.cli import Place, finish, opened
from tests.support.trivial import until

SIZE = 200_000
# A training in miniature: writes each epoch's checkpoint as torch does, a zip whose directory comes last.
# `best` after epoch 2. Ends as $HOW says: well, badly, or when a file `go` lies in the project.
TRAIN = f"""
import os, pathlib, sys, time, zipfile
work = pathlib.Path(os.environ["DDQJOBS_WORK_DIR"])
def save(name):
    draft = work / (name + ".part")
    with zipfile.ZipFile(draft, "w") as archive:
        archive.writestr("archive/data.pkl", os.urandom({SIZE}))
    draft.rename(work / name)
epochs, how = int(sys.argv[1]), sys.argv[2]
epoch = 0
while epoch < epochs or (how == "go" and not pathlib.Path("go").exists()):
    epoch += 1
    save(f"resume_epoch_{{epoch - 1}}_iter_4.pth")
    save(f"epoch_{{epoch}}.pth")
    if epoch == 2:
        save("best_bbox_mAP_epoch_2.pth")
    time.sleep(0.01)
(work / "init.pth").write_text("not a checkpoint of the series")
if how == "bad":
    (work / f"epoch_{{epoch + 1}}.pth").write_bytes(b"PK torn")
    sys.exit(1)
"""
EXPERIMENT = """
name: tiny
implementations: {}
codes:
  shell: {path: .}
models: {}
tasks:
  good: {<<: &run {kind: smoke, once: true, code: shell, products: {checkpoint: "epoch_*.pth"}},
         command: [python3, train.py, "4", well]}
  bad: {<<: *run, optional: true, command: [python3, train.py, "3", bad], products: {checkpoint: "none*"}}
  long: {<<: *run, optional: true, command: [python3, train.py, "1", go]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project", EXPERIMENT) as project:
        project.text("train.py", TRAIN)
        yield project


def run(place: Place, name: str) -> Path:
    """Lets a run end; its first work_dir."""
    place.invoke("submit", "tiny", name, "--wait")
    return place.log(name).parent / "work_dir"


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pth")}


def clean(place: Place, *options: str) -> dict[str, Any]:
    ran = place.invoke("clean", "tiny", *options, "--json")
    assert ran.code == 0, ran
    return ran.json


def test_of_a_done_run_the_product_the_best_and_whatever_is_no_checkpoint_stay(place: Place) -> None:
    work = run(place, "good")
    before = {path: path.stat().st_blocks * 512 for path in work.glob("*.pth")}
    going = {work / f"epoch_{n}.pth" for n in (1, 2, 3)} | {
        work / f"resume_epoch_{n}_iter_4.pth" for n in range(4)
    }
    preview = clean(place, "--dry-run")
    assert {Path(c["path"]) for c in preview["checkpoints"] if not c["stays"]} == going
    assert preview["freed"] == sum(before[path] for path in going)
    assert set(work.glob("*.pth")) == set(before)  # a dry run removes nothing
    done = clean(place, "--yes")
    assert {Path(path) for path in done["removed"]} == going
    assert done["freed"] == preview["freed"]
    assert checkpoints(work) == {"epoch_4.pth", "best_bbox_mAP_epoch_2.pth", "init.pth"}
    assert place.states()["good"] == "done"
    assert place.invoke("clean").out == "nothing to remove: 2 checkpoints there, all kept\n"


def test_a_failed_run_keeps_what_it_goes_on_from_and_loses_what_is_torn(place: Place) -> None:
    work = run(place, "bad")
    preview = place.invoke("clean", "--dry-run").out
    assert "epoch_4.pth" in preview
    assert "torn" in preview
    clean(place, "--yes")
    assert checkpoints(work) == {
        "epoch_3.pth", "resume_epoch_2_iter_4.pth", "best_bbox_mAP_epoch_2.pth", "init.pth",
    }  # fmt: skip


def test_retention_is_declared_for_all_tasks_and_for_one(place: Place) -> None:
    text = EXPERIMENT.replace("models: {}", "models: {}\ncheckpoints: {last: 2, best: false}")
    place.text("experiments/tiny.yaml", text.replace("  good: {", "  good: {checkpoints: {last: 3}, "))
    good, bad = run(place, "good"), run(place, "bad")
    clean(place, "--yes")
    assert checkpoints(good) == {"epoch_2.pth", "epoch_3.pth", "epoch_4.pth", "init.pth"}
    assert {n for n in checkpoints(bad) if n.startswith("epoch")} == {"epoch_2.pth", "epoch_3.pth"}
    place.text(
        "experiments/tiny.yaml", EXPERIMENT.replace("models: {}", "models: {}\ncheckpoints: {last: 0}")
    )
    ran = place.invoke("clean", "tiny")
    assert (ran.code, ran.out) == (2, "")
    assert "tiny.yaml:7: checkpoints.last" in ran.err


def test_bytes_of_hard_links_count_once_and_only_when_the_last_name_goes(place: Place) -> None:
    work = run(place, "good")
    second = work.parent.parent / "2" / "work_dir"
    second.mkdir(parents=True)
    (second.parent / "run.json").write_bytes((work.parent / "run.json").read_bytes())
    for name in ("epoch_1.pth", "epoch_4.pth"):
        os.link(work / name, second / name)
    os.link(work / "epoch_2.pth", place.root / "mine.pth")
    preview = clean(place, "--dry-run")
    frees = {Path(c["path"]): c["frees"] for c in preview["checkpoints"] if not c["stays"]}
    size = (work / "epoch_1.pth").stat().st_blocks * 512
    assert sorted([frees[work / "epoch_1.pth"], frees[second / "epoch_1.pth"]]) == [0, size]
    assert frees[work / "epoch_2.pth"] == 0  # the user has it too
    assert clean(place, "--yes")["freed"] == preview["freed"] == sum(frees.values())
    assert (place.root / "mine.pth").stat().st_size > SIZE


def test_nothing_outside_the_results_and_no_input_is_touched(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "old"
    outside.mkdir()
    for n in (1, 2):
        with zipfile.ZipFile(outside / f"epoch_{n}.pth", "w") as archive:
            archive.writestr("a/data.pkl", "x")
    assert place.invoke("adopt", "good", str(outside)).code == 0
    bad = run(place, "bad")
    uses = "  uses: {<<: *run, optional: true, command: ['true'], inputs: {x: 'path:%s'}}\n"
    place.text("experiments/tiny.yaml", EXPERIMENT + uses % (bad / "epoch_1.pth"))
    moved = tmp_path / "moved"
    (place.root / "results/tiny/runs/linked").symlink_to(moved)
    clean(place, "--yes")
    assert checkpoints(outside) == {"epoch_1.pth", "epoch_2.pth"}
    assert len(list((place.root / "results/tiny/runs/good/attempts/1/work_dir").iterdir())) == 2
    assert "epoch_1.pth" in checkpoints(bad)
    assert "epoch_2.pth" not in checkpoints(bad)


def test_a_job_that_writes_meanwhile_always_has_its_newest_checkpoints(place: Place) -> None:
    place.invoke("submit", "tiny", "long")
    work = place.log("long").parent / "work_dir"
    until(lambda: len(checkpoints(work)) > 12)
    for _ in range(5):
        clean(place, "--yes")
        for series in ("epoch", "resume_epoch"):
            names = list(work.glob(f"{series}_*.pth"))
            newest = max(names, key=lambda path: retention.place(path.name) or ("", ()))
            assert zipfile.is_zipfile(newest)
    (place.root / "go").touch()
    until(lambda: place.states()["long"] == "done")
    assert len(checkpoints(work)) > 2
    clean(place, "--yes")
    last = json.loads((work.parent.parent.parent / "product.json").read_text())["artifacts"]["checkpoint"]
    assert (work.parent.parent.parent / last).exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_has_removed_nothing_that_is_needed(place: Place) -> None:
    work = run(place, "good")
    for n in range(5, 400):
        (work / f"resume_epoch_{n}_iter_1.pth").write_bytes(b"x" * 5000)
    expected = {"epoch_4.pth", "best_bbox_mAP_epoch_2.pth", "init.pth"}
    for pause in (0.3, 0.45, 0.6, 0.75):
        child = place.spawn("clean", "tiny", "--yes", stdout=subprocess.DEVNULL)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        finish(child)
        assert expected <= checkpoints(work)
        assert place.states()["good"] == "done"
    clean(place, "--yes")
    assert checkpoints(work) == expected


def test_without_a_terminal_it_needs_yes(place: Place) -> None:
    work = run(place, "good")
    before = checkpoints(work)
    for options in ((), ("--json",)):
        ran = place.call("clean", "tiny", *options)
        assert (ran.code, ran.out) == (2, "")
        assert "error: this would remove 7 checkpoints (1.4 MB); --dry-run shows them" in ran.err
    assert checkpoints(work) == before


def test_a_file_that_was_replaced_since_it_was_decided_on_stays(tmp_path: Path) -> None:
    from ddqjobs.store.cleaning import remove

    path = tmp_path / "epoch_1.pth"
    path.write_text("old")
    status = path.stat()
    known = a_checkpoint(str(path), inode=(status.st_dev, status.st_ino))
    (tmp_path / "new").write_text("new")
    (tmp_path / "new").replace(path)
    assert remove([known]) == ([], 0)
    assert path.read_text() == "new"


def a_checkpoint(
    path: str, *, attempt: int = 1, digest: str = "d", inode: tuple[int, int] = (0, 0)
) -> Checkpoint:
    return Checkpoint(run="r", attempt=attempt, digest=digest, path=path, size=1, inode=inode, links=1)


def test_attempts_of_another_digest_are_counted_by_themselves() -> None:
    candidates = [
        a_checkpoint("1/epoch_5.pth", attempt=1, digest="old"),
        a_checkpoint("2/epoch_1.pth", attempt=2, digest="new"),
        a_checkpoint("3/epoch_1.pth", attempt=3, digest="new"),
    ]
    decisions = retention.decide(candidates, Rule(), done=False, active=False, whole=lambda _: True)
    assert {d.checkpoint.path: d.stays for d in decisions} == {
        "1/epoch_5.pth": True, "3/epoch_1.pth": True, "2/epoch_1.pth": False,
    }  # fmt: skip


def test_what_an_active_run_is_writing_stays_and_the_newest_whole_one_too() -> None:
    candidates = [a_checkpoint(f"iter_{n}00.pth") for n in (8, 9, 10)] + [
        a_checkpoint(".iter_1000.pth.77.tmp")
    ]
    for active in (True, False):
        decisions = retention.decide(
            candidates, Rule(), done=False, active=active, whole=lambda path: path != "iter_1000.pth"
        )
        stays = {d.checkpoint.path for d in decisions if d.stays}
        assert stays == {"iter_900.pth"} | ({"iter_1000.pth", ".iter_1000.pth.77.tmp"} if active else set())


@pytest.mark.parametrize(
    "name", ["init.pth", "checkpoint.pth", "epoch_1.pth.bak", "latest.pth", "xepoch_1.pth"]
)
def test_other_names_are_no_checkpoints(name: str) -> None:
    assert retention.place(name) is None
