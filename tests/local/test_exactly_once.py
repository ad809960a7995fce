"""Whatever dies, and however many submit at once: each run is executed exactly once."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import secrets
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import DdqjobsError, StateError
from ddqjobs.planning.filters import Filters
from ddqjobs.project import SubmitOptions
from ddqjobs.schedulers.local.queue import Queue
from ddqjobs.schedulers.local.scheduler import LocalScheduler
from ddqjobs.spec.model import FailureClass, Status
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import Intent, Ledger, Submitted, Voided
from ddqjobs.submission import round as submission_round
from ddqjobs.submission import submit as submission
from ddqjobs.submission.snapshot import snapshot
from ddqjobs.submission.submit import Submitter
from ddqjobs.submission.workspace import Workspace
from tests.support.failing_disk import failing_disk
from tests.support.trivial import EXPERIMENT, WORK, TrivialProject, end_of, fork, task, until

PAIRS = 30
SUBMITTER_KILLS, SUPERVISOR_KILLS = 200, 50


@pytest.fixture
def chance() -> random.Random:
    """Random moments; DDQJOBS_CHAOS_SEED repeats those of an earlier test."""
    seed = int(os.environ.get("DDQJOBS_CHAOS_SEED") or random.SystemRandom().randrange(10**9))
    print(f"DDQJOBS_CHAOS_SEED={seed}")
    return random.Random(seed)


def names_of(seeds: range | list[int]) -> tuple[str, ...]:
    return tuple(f"{name}.s{seed}" for seed in seeds for name in ("first", "second"))


def once_each(project: TrivialProject) -> None:
    """Assert the end state: all runs done, each executed once, the ledger readable."""
    plan = project.plan()
    assert {
        planned.run.name: (planned.status.value, planned.reason)
        for planned in plan.runs
        if planned.status is not Status.DONE
    } == {}
    assert project.executions() == Counter(planned.run.name for planned in plan.runs)
    assert project.records()


# -- random moments --------------------------------------------------------------------------------------


def test_runs_are_executed_once_though_submitters_and_supervisors_are_killed(
    trivial: TrivialProject, chance: random.Random
) -> None:
    trivial.pairs(
        PAIRS, "sleep 2; " + WORK
    )  # long enough that there is a supervisor to kill, on a fast machine too
    kills: Counter[str] = Counter()
    fresh = iter(range(PAIRS))
    while kills["submitter"] < SUBMITTER_KILLS or kills["supervisor"] < SUPERVISOR_KILLS:
        behind = kills["supervisor"] * SUBMITTER_KILLS <= kills["submitter"] * SUPERVISOR_KILLS
        if kills["supervisor"] < SUPERVISOR_KILLS and behind:
            if kill_supervisor(trivial, chance):
                kills["supervisor"] += 1
                continue
            pair = next(fresh, None)  # no work, no supervisor: here is some
            if pair is None:
                break
            trivial.open().submit(EXPERIMENT, Filters(runs=names_of([pair])))
            continue
        done = kills["submitter"] / SUBMITTER_KILLS
        begun = range(2 + int((PAIRS - 2) * done))  # the matrix goes on as the killing does
        chosen = names_of([begun[-1], chance.choice(begun)])
        kill = kill_command if chance.random() < 0.1 else kill_call
        kills["submitter"] += kill(trivial, chosen, chance)
    trivial.submit_all()
    records = trivial.records()
    kinds = Counter(type(record).__name__ for record in records)
    print(f"killed {dict(kills)}; the ledger has {dict(kinds)}")
    once_each(trivial)
    assert kills["submitter"] == SUBMITTER_KILLS
    assert kills["supervisor"] == SUPERVISOR_KILLS


def kill_call(project: TrivialProject, chosen: tuple[str, ...], chance: random.Random) -> bool:
    """Kills a submission at a random moment; False if it was over before."""
    pid = fork(lambda: project.open().submit(EXPERIMENT, Filters(runs=chosen)))
    time.sleep(chance.uniform(0, 0.2))
    os.kill(pid, signal.SIGKILL)
    return end_of(pid) == -signal.SIGKILL


def kill_command(project: TrivialProject, chosen: tuple[str, ...], chance: random.Random) -> bool:
    """The same with the real command."""
    with project.started("submit", *chosen) as command:
        time.sleep(chance.uniform(0, 0.6))
        command.kill()
        return command.wait() == -signal.SIGKILL


def kill_supervisor(project: TrivialProject, chance: random.Random) -> bool:
    """Kills the supervisor at a random moment of its life; False if there is no work for one."""
    front = project.open()
    front.plan(EXPERIMENT)  # any command brings it back
    scheduler = front.workspace(EXPERIMENT).scheduler("local")
    assert isinstance(scheduler, LocalScheduler)
    until(lambda: scheduler.supervisor() or not front.workspace(EXPERIMENT).store.history().active())
    time.sleep(chance.uniform(0, 0.5))
    owner = scheduler.supervisor()
    if owner is None:
        return False
    os.kill(owner.pid, signal.SIGKILL)
    until(lambda: not process.alive(owner))
    return True


def test_four_submitters_at_once_submit_each_run_once(trivial: TrivialProject, chance: random.Random) -> None:
    rounds, each = 6, 1
    trivial.pairs(rounds * each)
    for number in range(rounds):
        chosen = names_of(range((number + 1) * each))  # also what is already running or done
        start = time.monotonic() + 0.1
        moments = [start + chance.uniform(0, 0.02) for _ in range(4)]

        def submit_at(moment: float, chosen: tuple[str, ...] = chosen) -> None:
            front = trivial.open()
            while time.monotonic() < moment:
                pass
            front.submit(EXPERIMENT, Filters(runs=chosen))

        pids = [fork(lambda moment=moment: submit_at(moment)) for moment in moments]  # type: ignore[misc]
        assert [end_of(pid) for pid in pids] == [0] * 4
    trivial.submit_all()
    once_each(trivial)


def test_two_terminals_that_submit_and_wait_both_see_everything_done_once(tmp_path: Path) -> None:
    for number in range(3):
        project = TrivialProject(tmp_path / str(number))
        try:
            project.pairs(2)
            with project.started("submit", "--wait") as one, project.started("submit", "--wait") as other:
                assert (one.wait(120), other.wait(120)) == (0, 0)
            once_each(project)
        finally:
            project.close()


# -- every moment ----------------------------------------------------------------------------------------

# (the step after which it dies, how often that was done before; what the next command finds; what it voids)
# fmt: off
STEPS = [
    ("planned", Workspace, "plan", 1, Status.ELIGIBLE, 0),
    ("snapshot", submission, "snapshot", 1, Status.ELIGIBLE, 0),
    ("reserved", Claims, "reserve", 1, Status.ELIGIBLE, 0),
    ("folder", submission_round, "write_scripts", 1, Status.ELIGIBLE, 0),
    ("wanted", Ledger, "append", 1, Status.ELIGIBLE, 0),
    ("intent", Ledger, "append", 2, Status.ELIGIBLE, 1),
    ("environment", Queue, "keep_environment", 1, Status.ELIGIBLE, 1),
    ("queued", Queue, "file", 1, Status.ACTIVE, 0),
    ("submitted", LocalScheduler, "submit", 1, Status.ACTIVE, 0),
    ("recorded", Ledger, "append", 3, Status.ACTIVE, 0),
    ("second reserved", Claims, "reserve", 2, Status.ACTIVE, 0),
    ("second intent", Ledger, "append", 4, Status.ACTIVE, 1),
    ("second submitted", LocalScheduler, "submit", 2, Status.ACTIVE, 0),
    ("second recorded", Ledger, "append", 5, Status.ACTIVE, 0),
]
# fmt: on


def die_after(owner: Any, name: str, times: int) -> None:
    """Kills this process when the function has returned so many times."""
    original: Callable[..., object] = getattr(owner, name)
    countdown = [times]

    def wrapper(*args: object, **keys: object) -> object:
        result = original(*args, **keys)
        countdown[0] -= 1
        if not countdown[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapper)


@pytest.mark.parametrize(
    ("owner", "name", "times", "expected", "voided"), [s[1:] for s in STEPS], ids=[s[0] for s in STEPS]
)
def test_the_next_command_goes_on_wherever_a_submission_died(
    trivial: TrivialProject, owner: object, name: str, times: int, expected: Status, voided: int
) -> None:
    def submit() -> None:
        die_after(owner, name, times)
        trivial.open().submit(EXPERIMENT)

    assert end_of(fork(submit)) == -signal.SIGKILL
    assert trivial.run("first").status in {expected, Status.DONE if expected is Status.ACTIVE else expected}
    trivial.submit_all()
    once_each(trivial)
    records = trivial.records()
    assert sum(len(r.tickets) for r in records if isinstance(r, Voided)) == voided
    assert sum(len(r.runs) for r in records if isinstance(r, Intent)) == 2 + voided


def test_a_plan_that_others_carried_out_meanwhile_is_not_carried_out_again(trivial: TrivialProject) -> None:
    workspace = trivial.open().workspace(EXPERIMENT)
    plan = workspace.plan()
    trivial.submit_all()  # submitted, executed and recorded, all after that plan was made
    front = trivial.open()
    submitter = Submitter(workspace, front.environments(workspace.site))
    outcome = submitter.submit(front.submitting(plan, Filters(), SubmitOptions()), plan)
    assert outcome.submitted == {}
    assert outcome.left["first"] == "another terminal submitted it meanwhile"
    trivial.until_over()
    once_each(trivial)


def test_a_run_does_not_start_before_an_upstream_run_that_another_terminal_is_still_submitting(
    trivial: TrivialProject,
) -> None:
    def submit_slowly() -> None:
        original = LocalScheduler.submit

        def submit(self: LocalScheduler, task_submission: Any) -> Any:
            (trivial.root / "intended").touch()
            until((trivial.root / "go").exists)
            return original(self, task_submission)

        setattr(LocalScheduler, "submit", submit)  # noqa: B010  # in this process, which ends soon
        trivial.open().submit(EXPERIMENT, Filters(runs=("first",)))

    pid = fork(submit_slowly)
    until((trivial.root / "intended").exists)
    outcome = trivial.open().submit(EXPERIMENT)
    (trivial.root / "go").touch()
    assert end_of(pid) == 0
    assert outcome.submitted == {}
    assert outcome.left["second"] == "needs first, whose job the scheduler does not show yet"
    trivial.submit_all()
    once_each(trivial)


# -- disks and clocks ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(trivial: TrivialProject) -> Iterator[Path]:
    """The project's results on a file system of 4 MB, full but for what a test frees."""
    folder = trivial.root / "results"
    folder.mkdir()
    mount = process.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=100000", "tmpfs", folder], timeout=30
    )
    if mount.code:
        pytest.skip(
            f"A SMALL FILE SYSTEM CANNOT BE MOUNTED HERE, SO FULL DISKS ARE NOT TESTED: {mount.stderr}"
        )
    try:
        yield folder
    finally:
        trivial.close()
        assert process.run(["umount", "--lazy", folder], timeout=30).code == 0  # our ledgers are still open


def fill(folder: Path, free: int) -> None:
    """Leaves so many pages of 4096 bytes free; a file each, so that each is really free when it is gone."""
    fillers = folder / "fillers"
    fillers.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        while True:
            (fillers / secrets.token_hex(8)).write_bytes(bytes(4096))
    for path in sorted(fillers.iterdir(), key=lambda path: path.stat().st_size)[: free + 1]:
        path.unlink()  # the first is the one that did not fit any more


def test_a_full_disk_at_any_moment_of_submission_is_one_clear_error_and_loses_nothing(
    trivial: TrivialProject, small_disk: Path
) -> None:
    fill(small_disk, 0)
    result = trivial.cli("submit")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "No space left on device" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    fill(small_disk, 400)
    workspace = trivial.open().workspace(EXPERIMENT)
    snapshot(workspace.results / "code", workspace.catalog.files, workspace.loaded.path)
    errors: list[str] = []
    for pages in range(100):
        fill(small_disk, pages)
        try:
            outcome = trivial.open().submit(EXPERIMENT)
        except DdqjobsError as error:
            errors.append(str(error))
        else:
            if outcome.submitted or outcome.unconfirmed:
                break
    fill(small_disk, 400)
    print(*errors, sep="\n")
    assert len({re.sub(r"[0-9]{8}-[0-9]{6}-\w+|\w+\.jsonl", "", error) for error in errors}) >= 3  # steps
    assert all("No space left on device" in error and "\n" not in error for error in errors)
    trivial.submit_all()
    once_each(trivial)


@pytest.fixture
def runs_disk(trivial: TrivialProject) -> Iterator[Path]:
    """The folder of the runs on a file system of 400 kB and 60 inodes; ledger and queue lie elsewhere."""
    folder = trivial.results / "runs"
    folder.mkdir(parents=True)
    mount = process.run(["mount", "-t", "tmpfs", "-o", "size=400k,nr_inodes=60", "tmpfs", folder], timeout=30)
    if mount.code:
        pytest.skip(
            f"A SMALL FILE SYSTEM CANNOT BE MOUNTED HERE, SO FULL DISKS ARE NOT TESTED: {mount.stderr}"
        )
    try:
        yield folder
    finally:
        trivial.close()
        assert process.run(["umount", "--lazy", folder], timeout=30).code == 0


NO_ROOM = '[ -e "$DDQJOBS_RUN_DIR/../../go" ] || cat /dev/zero > "$DDQJOBS_WORK_DIR/big"'
NO_INODES = """
[ -e "$DDQJOBS_RUN_DIR/../../go" ] || for i in $(seq 100); do : > "$DDQJOBS_WORK_DIR/$i" || exit 1; done"""


@pytest.mark.parametrize("fills", [NO_ROOM, NO_INODES])
def test_a_task_that_fills_the_disk_of_the_results_is_no_fault_of_the_node(
    trivial: TrivialProject, runs_disk: Path, fills: str
) -> None:
    trivial.tasks({"first": task()}, work=f'{fills} || exit 1; echo x > "$DDQJOBS_WORK_DIR/out.txt"')
    trivial.open().submit(EXPERIMENT)
    first = trivial.until_over()["first"]
    assert (first.failure, first.status) == (FailureClass.STORAGE, Status.ELIGIBLE), first.reason
    shutil.rmtree(next(runs_disk.glob("first/attempts/*/work_dir")))
    (trivial.results / "go").touch()
    assert trivial.submit_all()["first"].status is Status.DONE


# Six iterations, each with a checkpoint to go on from; in the fourth the disk fills.
TRAINING = """
import os, zipfile
from pathlib import Path
from ddqjobs.detect import files
from ddqjobs.detect.job import checkpoints, claim
work, disk = Path(os.environ["DDQJOBS_WORK_DIR"]), Path(os.environ["DDQJOBS_RUN_DIR"]).parent
found = checkpoints.take_over(claim.from_environment(), work, "20260101_000000")
def write(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(20_000))
for step in range(1 + (int(found.stem.rpartition("_")[2]) if found else 0), 7):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(f"{step} ")
    if step == 4 and not (disk.parent / "go").exists():
        try:
            (disk / ".big").write_bytes(bytes(1 << 20))
        except OSError:
            pass
    files.replace(work / checkpoints.Place(0, step).name, write)
(work / "out.txt").write_text("done")
"""


def test_a_training_whose_disk_was_full_goes_on_where_it_was(
    trivial: TrivialProject, runs_disk: Path
) -> None:
    """Also if it was tried again while there was no room yet."""
    (trivial.root / "training.py").write_text(TRAINING)
    work = f'"$DDQJOBS_PYTHON" {trivial.root}/training.py'
    trivial.tasks({"first": task()}, work=work)
    for _ in range(2):
        trivial.open().submit(EXPERIMENT)
        first = trivial.until_over()["first"]
        assert first.failure is FailureClass.STORAGE, first.reason
    (runs_disk / ".big").unlink()
    (trivial.results / "go").touch()
    assert trivial.submit_all()["first"].status is Status.DONE
    assert trivial.trace.read_text().split() == ["1", "2", "3", "4", "4", "5", "6"]


def no_room(disk: Path) -> None:
    with contextlib.suppress(OSError):
        (disk / ".big").write_bytes(bytes(1 << 20))


def no_inodes(disk: Path) -> None:
    with contextlib.suppress(OSError):
        while True:
            (disk / f".{secrets.token_hex(4)}").touch()


def read_only(disk: Path) -> None:
    assert process.run(["mount", "-o", "remount,ro", disk], timeout=30).code == 0


# What is done to the disk of the runs; what the reason says then.
DISKS = {
    "no room": (no_room, "No space left on device; free some space"),
    "no inodes": (no_inodes, "No space left on device; remove files, no inode is left"),
    "read-only": (read_only, "a disk is read-only, mount it anew: "),
}


@pytest.mark.parametrize("fault", DISKS)
def test_a_job_that_cannot_begin_on_the_disk_of_the_results_is_no_fault_of_the_node(
    trivial: TrivialProject, runs_disk: Path, fault: str
) -> None:
    break_it, message = DISKS[fault]
    trivial.open().workspace(EXPERIMENT).store.ledger.begin()
    break_it(runs_disk)
    trivial.tasks({"first": task()})
    trivial.open().submit(EXPERIMENT)
    first = trivial.until_over()["first"]
    assert first.failure is FailureClass.STORAGE, first.reason
    assert message in first.reason
    assert process.run(["mount", "-o", "remount,rw", runs_disk], timeout=30).code == 0
    for path in runs_disk.glob(".*"):
        path.unlink()
    assert trivial.submit_all()["first"].status is Status.DONE


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EDQUOT, "over quota, free some space: "),
        (errno.ESTALE, "a lost file server, mount it anew: "),
        (errno.EACCES, "no right to write there, fix its permissions: "),
    ],
)
def test_what_the_disk_of_the_results_refuses_has_its_own_word(
    trivial: TrivialProject, number: int, message: str
) -> None:
    trivial.tasks({"done": task()})
    assert trivial.submit_all()["done"].status is Status.DONE
    trivial.tasks({"done": task(), "first": task()})
    with contextlib.ExitStack() as mounted:
        try:
            mounted.enter_context(failing_disk(trivial.results / "runs", number))
        except OSError as error:
            pytest.skip(f"NO FILE SYSTEM CAN BE MADE HERE, SO ITS ERRORS ARE NOT TESTED: {error}")
        front = trivial.open()
        front.submit(EXPERIMENT, Filters(runs=("first",)))
        workspace = front.workspace(EXPERIMENT)
        if number == errno.ESTALE:  # nothing can be looked at, so nothing is concluded
            scheduler = workspace.scheduler("local")
            until(lambda: not scheduler.in_queue())
            statuses = {planned.run.name: planned.status for planned in workspace.plan().runs}
            assert statuses == {"done": Status.DONE, "first": Status.ACTIVE}
            assert [w for w in workspace.warnings if "Stale file handle; wait for its file server" in w]
        else:
            assert trivial.until_over()["first"].failure is FailureClass.STORAGE
    first = trivial.until_over()["first"]
    assert first.failure is FailureClass.STORAGE, first.reason
    assert message in first.reason
    assert trivial.submit_all()["first"].status is Status.DONE  # the disk came back
    assert trivial.executions() == {"done": 1, "first": 1}


def test_a_node_that_cannot_link_on_the_disk_of_the_results_says_so(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task()})
    trivial.local_site(setup=["ln() { return 1; }"])
    trivial.open().submit(EXPERIMENT)
    first = trivial.until_over()["first"]
    assert first.failure is FailureClass.STORAGE, first.reason
    assert "no hard links there, choose a file system that has them" in first.reason
    trivial.local_site()
    assert trivial.submit_all()["first"].status is Status.DONE


def test_torn_and_garbage_lines_of_the_ledger_are_skipped(trivial: TrivialProject) -> None:
    trivial.submit_all()
    before = trivial.plan()
    segment = next((trivial.results / "ledger").iterdir())
    torn = msgspec.json.encode(Submitted(token="t", jobs={"0": "x"}))[:-5]
    with segment.open("ab") as file:
        file.write(b'\0\xff\n{"record":"nobody knows"}\n[]\n{}\n' + torn)
    assert trivial.plan().runs == before.runs
    assert trivial.open().submit(EXPERIMENT).submitted == {}
    trivial.tasks({"first": task(), "second": task(inputs={"before": "first.out"}), "third": task()})
    trivial.submit_all()
    assert trivial.executions() == {"first": 1, "second": 1, "third": 1}


def test_without_the_ledger_beside_runs_nothing_is_submitted(trivial: TrivialProject) -> None:
    trivial.submit_all()
    ledger = trivial.results / "ledger"
    ledger.rename(trivial.root / "lost")
    with pytest.raises(StateError, match="there are runs but no ledger"):
        trivial.open().submit(EXPERIMENT, options=SubmitOptions(stale=True))
    result = trivial.cli("submit")
    assert result.code == 2
    assert "Restore" in result.stderr
    assert not ledger.exists()
    (trivial.root / "lost").rename(ledger)
    once_each(trivial)


def test_a_clock_that_is_set_back_a_day_changes_nothing(trivial: TrivialProject) -> None:
    trivial.tasks(
        {"first": task(command=["sh", "-c", 'test -e "$TRACE" && cp "$TRACE" "$DDQJOBS_WORK_DIR/out.txt"'])}
    )
    trivial.submit_all()
    assert trivial.run("first").status is Status.FAILED
    for segment in (trivial.results / "ledger").iterdir():  # as a clock a day ahead would have written it
        records = [msgspec.json.decode(line) for line in segment.read_bytes().splitlines()]
        lines = [msgspec.json.encode({**record, "at": record["at"] + 86400}) for record in records]
        segment.write_bytes(b"\n".join(lines) + b"\n")
    trivial.trace.write_text("mended\n")
    result = trivial.cli("retry")
    assert result.stdout == "eligible again: first\n"
    assert trivial.run("first").status is Status.ELIGIBLE
    trivial.submit_all()
    assert trivial.run("first").status is Status.DONE
    assert trivial.run("first").notes == ()


def test_a_product_is_kept_whose_job_is_asked_to_end_meanwhile(trivial: TrivialProject) -> None:
    """TERM reaches every process of a job; here its product takes two seconds."""
    python, marker = trivial.root / "python", trivial.root / "asked"
    slow = f'case "$*" in *detect.product*) echo > {marker}; sleep 2 ;; esac'
    python.write_text(f'#!/bin/sh\n{slow}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    trivial.local_site(python=str(python))
    trivial.tasks({"first": task()})
    trivial.open().submit(EXPERIMENT)
    until(marker.exists)
    for pid in trivial.processes():
        with contextlib.suppress(OSError):
            command_line = (Path("/proc") / str(pid) / "cmdline").read_bytes()
            if b"job.sh" in command_line or b"detect.product" in command_line:
                os.kill(pid, signal.SIGTERM)
    assert trivial.until_over()["first"].status is Status.DONE
