"""The local site: real supervisors, launchers and scripts; nothing is simulated but the machine's GPUs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import Element, Scheduler, Submission
from ddqjobs.schedulers.local import launcher
from ddqjobs.schedulers.local.queue import Queue
from ddqjobs.schedulers.local.records import Claim, End, Filed, Reason, Settings, Slots
from ddqjobs.schedulers.local.scheduler import LocalScheduler
from ddqjobs.schedulers.local.supervisor import Supervisor
from ddqjobs.spec.model import WAITS, JobState, Observation, Resources
from tests.support.trivial import end_of, fork

HOSTILE = "a b'\"$(touch pwned)`id`; é\n*"


def until(condition: Callable[[], object], limit: float = 90.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class Place:
    """A queue of its own, and a folder for scripts, both with names that a shell would trip over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.folder = root / "jobs"
        self.folder.mkdir()
        self.scheduler = self.open(cpus=4)

    def open(
        self, gpus: int = 0, cpus: int = 0, warning_s: float = 120, patience_s: float = 600
    ) -> LocalScheduler:
        self.scheduler = LocalScheduler(
            self.state, gpus, cpus, warning_s, grace_s=1.0, linger_s=0.5, patience_s=patience_s
        )
        return self.scheduler

    def submission(
        self,
        token: str,
        script: str,
        count: int = 1,
        after: Sequence[str] = (),
        cpus: int = 1,
        gpus: int = 0,
        time_s: int = 600,
    ) -> Submission:
        folder = self.folder / f"{token} {HOSTILE}"
        folder.mkdir(exist_ok=True)
        (folder / "job.sh").write_text(script)
        return Submission(
            token=token,
            name="test",
            folder=str(folder),
            resources=Resources(cpus=cpus, gpus=gpus, time_s=time_s),
            elements=tuple(Element(index=i, run=f"run{i}", after=tuple(after)) for i in range(count)),
        )

    def submit(
        self,
        token: str,
        script: str,
        count: int = 1,
        after: Sequence[str] = (),
        cpus: int = 1,
        gpus: int = 0,
        time_s: int = 600,
    ) -> list[str]:
        submission = self.submission(token, script, count, after, cpus, gpus, time_s)
        return list(self.scheduler.submit(submission).values())

    def file(self, token: str, name: str) -> Path:
        return self.folder / f"{token} {HOSTILE}" / name

    def log(self, token: str, index: int = 0) -> str:
        path = self.file(token, f"out/{index}.log")
        return path.read_text() if path.exists() else ""

    def seen(self, job: str) -> Observation:
        return self.scheduler.query([job])[job]

    def until_running(self, job: str) -> None:
        until(lambda: self.seen(job).state is JobState.RUNNING)

    def details(self, jobs: Sequence[str], limit: float = 90) -> list[str]:
        until(lambda: all(o.state is JobState.ENDED for o in self.scheduler.query(jobs).values()), limit)
        return [o.detail for o in self.scheduler.query(jobs).values()]

    def processes(self) -> dict[int, list[str]]:
        """Everything that runs on behalf of this place: pid -> argv."""
        commands = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv = (entry / "cmdline").read_text(errors="replace").split("\0")[:-1]
                cwd = str((entry / "cwd").readlink())
            except OSError:
                continue
            if argv and (cwd.startswith(str(self.root)) or any(str(self.root) in word for word in argv)):
                commands[int(entry.name)] = argv
        return commands

    def kill(self) -> None:
        """Ends what is still there, by force."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends everything; nothing may stay."""
        try:
            if (self.state / "submissions").is_dir():
                jobs = [
                    f"{path.stem}.{index}"
                    for path in (self.state / "submissions").glob("*.json")
                    for index in self.scheduler.find(path.stem) or ()
                ]
                self.scheduler.cancel(jobs)
                self.details(jobs)
            until(lambda: not self.processes(), 30)
        finally:
            processes = self.processes()
            self.kill()
            assert not processes


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    root = tmp_path / HOSTILE
    root.mkdir()
    workplace = Place(root)
    yield workplace
    workplace.close()


@pytest.fixture
def torn(tmp_path: Path) -> Iterator[Place]:
    """A place whose files the test breaks, so that it cannot be closed in good order."""
    workplace = Place(tmp_path)
    yield workplace
    workplace.kill()


def test_it_is_a_scheduler(place: Place) -> None:
    scheduler: Scheduler = place.scheduler
    assert scheduler.query([]) == {}


def test_jobs_run_in_order_each_with_its_variables_and_log(place: Place) -> None:
    place.open(cpus=1)
    first = place.submit(
        "first", 'echo "$DDQJOBS_INDEX" >> order; echo "$DDQJOBS_JOB_ID:$DDQJOBS_RESTART"', 3
    )
    second = place.submit("second", 'echo "second" >> ../first*/order; env; cat; exit 3')
    assert first == ["first.0", "first.1", "first.2"]
    assert place.details(first + second) == ["exit 0"] * 3 + ["exit 3"]
    assert place.file("first", "order").read_text().split() == ["0", "1", "2", "second"]
    assert place.log("first", 2) == "first.2:0\n"
    assert "CUDA_VISIBLE_DEVICES=-1\n" in place.log("second")
    assert "SUBMITIT" not in place.log("second")
    assert not list(place.root.rglob("pwned"))


def test_the_submitter_s_environment_is_the_job_s(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "first $x\n'")
    first = place.submit("one", 'printf %s "$MINE"')
    monkeypatch.setenv("MINE", "second")
    second = place.submit("two", 'printf %s "$MINE"')
    place.details(first + second)
    assert (place.log("one"), place.log("two")) == ("first $x\n'", "second")


def test_no_more_at_once_than_there_are_slots(place: Place) -> None:
    place.open(cpus=2)
    script = "echo + >> {0}; sleep 0.3; echo - >> {0}".format("../trace")
    narrow = place.submit("narrow", script, 4)
    wide = place.submit("wide", script, 2, cpus=2)
    capped = place.submit("capped", script, cpus=99)  # as many as there are
    place.details(narrow + wide + capped)
    level, levels = 0, []
    for sign in (place.folder / "trace").read_text().split():
        level += 1 if sign == "+" else -1
        levels.append(level)
    assert max(levels) == 2
    assert levels[-6:] == [1, 0] * 3


def test_a_small_job_overtakes_a_wide_one_only_for_a_while(place: Place) -> None:
    place.open(cpus=2)
    blocker = place.submit("blocker", "until [ -e ../go ]; do sleep 0.05; done")
    place.until_running(blocker[0])
    wide = place.submit("wide", "true", cpus=2)
    small = place.submit("small", "true")
    assert place.details(small) == ["exit 0"]
    assert place.seen(wide[0]) == Observation(state=JobState.QUEUED, detail="waits for slots")
    place.open(cpus=2, patience_s=0)
    late = place.submit("late", "test -e ../wide.done")
    (place.file("wide", "job.sh")).write_text("touch ../wide.done")
    (place.folder / "go").touch()
    assert place.details(blocker + wide + late) == ["exit 0"] * 3


@pytest.fixture
def three_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("three_gpus")
def test_gpus_are_given_to_one_job_at_a_time(place: Place) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES >> ../{0}; until [ $(wc -l < ../{0}) = 2 ]; do sleep 0.05; done"
    jobs = place.submit("one", script.format("both"), gpus=1) + place.submit(
        "two", script.format("both"), gpus=2
    )
    assert place.details(jobs) == ["exit 0"] * 2
    gpus = ",".join((place.folder / "both").read_text().split())
    assert sorted(gpus.split(",")) == ["0", "1", "2"]
    with pytest.raises(SchedulerError, match=r"asks for 4 GPUs, .* has 3 for jobs"):
        place.submit("four", "true", gpus=4)
    place.open(gpus=2)
    with pytest.raises(SchedulerError, match=r"asks for 3 GPUs, .* has 2"):
        place.submit("three", "true", gpus=3)


@pytest.mark.usefixtures("three_gpus")
def test_only_visible_gpus_are_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    job = place.submit("one", "echo $CUDA_VISIBLE_DEVICES", gpus=1)
    place.details(job)
    assert place.log("one") == "2\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,-1,2")  # CUDA sees none behind the -1
    with pytest.raises(SchedulerError, match="has 1 for jobs"):
        place.submit("two", "true", gpus=2)


def test_a_job_starts_when_those_before_it_have_ended_well(place: Place) -> None:
    good = place.submit("good", "sleep 0.5; touch ../good.done", 2)
    after = place.submit("after", "test -e ../good.done", after=good)
    assert place.seen(after[0]).detail.startswith(WAITS)
    bad = place.submit("bad", "exit 4")
    lost = place.submit("lost", "touch ../never", after=[*good, *bad])
    further = place.submit("further", "touch ../never", after=lost)
    assert place.details(after) == ["exit 0"]
    assert place.details(lost) == ["dependency: run0, which it needs, ended with exit 4"]
    assert place.details(further)[0].startswith("dependency: run0, which it needs, ended with dependency")
    assert not (place.folder / "never").exists()
    with pytest.raises(SchedulerError, match=r"unknown job 'nobody\.0'"):
        place.submit("hopeless", "true", after=["nobody.0"])
    assert place.scheduler.find("hopeless") is None


def test_the_script_is_warned_before_its_time_limit(place: Place) -> None:
    place.open(cpus=4, warning_s=1)
    script = "trap 'echo warned' USR1; trap 'echo term' TERM; for i in {1..600}; do sleep 0.1; done"
    stubborn = place.submit("stubborn", script, time_s=4)
    saving = place.submit("saving", "trap 'exit 0' USR1; while :; do sleep 0.1; done", time_s=4)
    assert place.details(stubborn + saving) == ["time limit: 4 s", "exit 0"]
    assert [line for line in place.log("stubborn").split() if line in ("warned", "term")] == [
        "warned",
        "term",
    ]


def test_cancel_ends_the_whole_tree(place: Place) -> None:
    place.open(cpus=1)
    script = "trap '' TERM; (setsid sleep 6001 &) ; sleep 6002 & sleep 6003"
    running = place.submit("running", script)
    queued = place.submit("queued", "touch ../never")
    until(lambda: {"6001", "6002", "6003"} <= _last_words(place))
    place.scheduler.cancel([*running, *queued, "unknown.0"])
    assert place.details(running + queued) == ["cancelled", "cancelled"]
    assert not {"6001", "6002", "6003"} & _last_words(place)
    assert not (place.folder / "never").exists()
    place.scheduler.cancel(running)  # ended: no error


def _last_words(place: Place) -> set[str]:
    return {argv[-1] for argv in place.processes().values()}


def test_what_outlives_the_script_is_ended(place: Place) -> None:
    job = place.submit("left", "(setsid sleep 6004 &); nohup sleep 6005 & echo done > >(sleep 0.3; cat)")
    assert place.details(job) == ["exit 0"]
    assert not {"6004", "6005"} & _last_words(place)
    assert place.log("left") == "done\n"  # but it may finish what it is at


def test_exit_75_asks_for_another_start(place: Place) -> None:
    job = place.submit("again", 'echo $DDQJOBS_RESTART; [ "$DDQJOBS_RESTART" = 2 ] || exit 75')
    assert place.details(job) == ["exit 0"]
    assert place.log("again").split() == ["0", "1", "2"]


def test_not_for_ever(place: Place) -> None:
    job = place.submit("again", "echo $DDQJOBS_RESTART; exit 75")
    assert place.details(job) == ["exit 75: restarted 20 times already"]
    assert len(place.log("again").split()) == 21


def test_requeue_starts_a_running_job_again(place: Place) -> None:
    job = place.submit("again", 'echo $DDQJOBS_RESTART; [ "$DDQJOBS_RESTART" = 1 ] || sleep 600')[0]
    until(lambda: place.log("again"))
    place.scheduler.requeue(job)
    assert place.details([job]) == ["exit 0"]
    assert place.log("again").split() == ["0", "1"]
    place.scheduler.requeue(job)  # ended: nothing happens
    assert place.seen(job).detail == "exit 0"


def test_signals_are_told_from_exit_codes(place: Place) -> None:
    jobs = place.submit("one", "kill -SEGV $$") + place.submit("two", "exit 139")
    assert place.details(jobs) == ["signal 11 (SIGSEGV)", "exit 139"]


def test_a_token_submitted_twice_is_one_submission(place: Place) -> None:
    jobs = [place.submit("same", "echo x >> ../ran", 2) for _ in range(3)]
    assert jobs == [["same.0", "same.1"]] * 3
    place.details(jobs[0])
    assert place.submit("same", "echo x >> ../ran", 2) == jobs[0]
    assert (place.folder / "ran").read_text().split() == ["x"] * 2
    assert place.scheduler.find("same") == {0: "same.0", 1: "same.1"}


SUBMITTER = """
import msgspec, sys
from pathlib import Path
from ddqjobs.schedulers.base import Submission
from ddqjobs.schedulers.local import launcher
from ddqjobs.schedulers.local.scheduler import LocalScheduler
scheduler = LocalScheduler(Path(sys.argv[1]), cpus=4, grace_s=1, linger_s=0.5)
for submission in msgspec.json.decode(sys.argv[2], type=list[Submission]):
    print(*scheduler.submit(submission).values(), flush=True)
if len(sys.argv) > 3:
    sys.stdin.read()
"""


def submitter(place: Place, submissions: list[Submission], *more: str) -> subprocess.Popen[bytes]:
    text = msgspec.json.encode(submissions).decode()
    return subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(place.state), text, *more],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_several_submitters_at_once(place: Place) -> None:
    submissions = [place.submission(f"t{i}", f"echo {i} >> ../ran") for i in range(6)]
    children = [
        submitter(place, random.Random(seed).sample(submissions, len(submissions))) for seed in range(4)
    ]
    outputs = {child.communicate()[0].count(b"\n") for child in children}
    assert outputs == {6}
    assert place.details([f"t{i}.0" for i in range(6)]) == ["exit 0"] * 6
    assert sorted((place.folder / "ran").read_text().split()) == list("012345")


def test_jobs_outlive_the_session_of_whoever_submitted_them(place: Place) -> None:
    submission = place.submission("stays", "until [ -e ../go ]; do sleep 0.05; done; echo here")
    with submitter(place, [submission], "stay") as child:
        assert child.stdout
        assert child.stdout.readline() == b"stays.0\n"
        place.until_running("stays.0")
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            process.signal_group(child.pid, number)
    (place.folder / "go").touch()
    assert place.details(["stays.0"]) == ["exit 0"]


def test_a_supervisor_killed_at_any_moment_loses_and_doubles_nothing(place: Place) -> None:
    chance = random.Random(2)
    jobs = place.submit("many", 'echo "$DDQJOBS_INDEX" >> ../ran', 20)
    kills = 0
    while kills < 10:
        place.scheduler.query(jobs)
        supervisor = place.scheduler.supervisor()
        if supervisor is None:
            if all(o.state is JobState.ENDED for o in place.scheduler.query(jobs).values()):
                break
            continue
        time.sleep(chance.random() * 0.7)
        try:
            os.kill(supervisor.pid, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            break
        until(lambda dead=supervisor: not process.alive(dead))  # type: ignore[misc]
    assert kills > 3
    assert place.details(jobs) == ["exit 0"] * 20
    assert sorted(map(int, (place.folder / "ran").read_text().split())) == list(range(20))


def launcher_of(place: Place, job: str) -> int:
    claims: list[int] = []

    def found() -> bool:
        claim = Queue(place.state).claim(f"{job}.0")
        claims[:] = [claim.owner.pid] if claim and claim.owner else []
        return bool(claims)

    until(found)
    return claims[0]


def test_a_launcher_killed_is_noticed_and_its_processes_are_ended(place: Place) -> None:
    job = place.submit("victim", "(setsid sleep 6006 &); sleep 6007")[0]
    until(lambda: {"6006", "6007"} <= _last_words(place))
    os.kill(launcher_of(place, job), signal.SIGKILL)
    assert place.details([job]) == ["launcher died"]
    assert not {"6006", "6007"} & _last_words(place)


def test_a_launcher_killed_while_nobody_supervises(place: Place) -> None:
    job = place.submit("victim", "sleep 6008")[0]
    until(lambda: "6008" in _last_words(place))
    supervisor = place.scheduler.supervisor()
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    os.kill(launcher_of(place, job), signal.SIGKILL)
    assert place.details([job]) == ["launcher died"]
    assert "6008" not in _last_words(place)


def test_a_launcher_told_to_end_ends_its_job(place: Place) -> None:
    job = place.submit("told", "sleep 6009")[0]
    until(lambda: "6009" in _last_words(place))
    os.kill(launcher_of(place, job), signal.SIGTERM)
    assert place.details([job]) == ["signal 15 (SIGTERM)"]


def test_jobs_that_nobody_knows(place: Place) -> None:
    odd = ["", "x", "../../etc.0", "ghost.0", "real.7", "real.00", "a\nb.0"]
    assert {o.state for o in place.scheduler.query(odd).values()} == {JobState.UNKNOWN}
    assert place.scheduler.find("ghost") is None
    real = place.submit("real", "true")
    place.details(real)
    assert {o.state for o in place.scheduler.query(odd).values()} == {JobState.UNKNOWN}
    assert place.scheduler.find("ghost") is None
    assert place.scheduler.find("../settings") is None


@pytest.mark.parametrize("token", ["", ".x", "a/b", "a b", "x" * 129, "$(id)"])
def test_tokens_that_cannot_be_file_names_are_refused(place: Place, token: str) -> None:
    submission = place.submission("fine", "true")
    with pytest.raises(SchedulerError, match="token"):
        place.scheduler.submit(msgspec.structs.replace(submission, token=token))


def test_a_folder_that_vanished_is_the_job_s_end_not_the_queue_s(place: Place) -> None:
    place.open(cpus=1)
    blocker = place.submit("blocker", "until [ -e ../go ]; do sleep 0.05; done")
    gone = place.submit("gone", "true")
    place.file("gone", "job.sh").unlink()
    place.file("gone", "").rmdir()
    (place.folder / "go").touch()
    assert place.details(blocker) == ["exit 0"]
    assert place.details(gone)[0].startswith("not started: FileNotFoundError")


def test_ten_thousand_jobs_are_cheap_to_ask_for(place: Place) -> None:
    first = place.submit("first", "until [ -e ../go ]; do sleep 0.05; done; false")
    jobs = place.submit("many", "true", 10_000, after=first)
    place.until_running(first[0])
    for detail in (WAITS, "dependency: run0, which it needs, ended with exit 1"):
        began = time.process_time()
        observations = place.scheduler.query(jobs)
        assert time.process_time() - began < 0.5
        assert {o.detail for o in observations.values()} == {detail}
        (place.folder / "go").touch()
        place.details(jobs)


def test_an_end_is_not_lost_while_the_disk_is_full(torn: Place) -> None:
    torn.scheduler._queue.create()
    ended = torn.state / "ended.jsonl"
    ended.symlink_to("/dev/full")  # every write: no space left on device
    job = torn.submit("patient", "touch ../ran")[0]
    until(lambda: (torn.folder / "ran").exists())
    assert torn.seen(job).state is JobState.RUNNING
    ended.unlink()
    assert torn.details([job]) == ["exit 0"]
    until(lambda: not torn.processes())


FULL = """
import msgspec, resource, sys
from pathlib import Path
from ddqjobs.base.errors import SchedulerError
from ddqjobs.schedulers.base import Submission
from ddqjobs.schedulers.local import launcher
from ddqjobs.schedulers.local.scheduler import LocalScheduler
submission = msgspec.json.decode(sys.argv[2], type=Submission)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # whatever is longer is not written: a full disk
try:
    LocalScheduler(Path(sys.argv[1])).submit(submission)
except SchedulerError as error:
    print(str(error)[:60])
"""


def test_a_submission_that_cannot_be_written_is_refused(place: Place) -> None:
    document = msgspec.json.encode(place.submission("nospace", "true")).decode()
    done = process.run([sys.executable, "-c", FULL, str(place.state), document], timeout=60)
    assert "local site: cannot submit: [Errno 27]" in done.stdout
    assert place.scheduler.find("nospace") is None
    assert not list(place.state.rglob(".[0-9]*"))  # no draft stays


def test_a_queue_that_cannot_be_read_is_an_error_not_an_answer(torn: Place) -> None:
    torn.state.touch()
    with pytest.raises(SchedulerError, match="cannot submit"):
        torn.submit("one", "true")
    torn.state.unlink()
    torn.scheduler._queue.create()
    (torn.state / "submissions" / "broken.json").write_text('{"submission":')
    with pytest.raises(SchedulerError, match=r"broken\.json cannot be read"):
        torn.scheduler.find("broken")
    observation = torn.seen("broken.0")
    assert observation.state is JobState.UNKNOWN
    assert "cannot be read" in observation.detail
    assert len(torn.scheduler.complaints) == 1


def test_torn_files_hold_nobody_up(torn: Place) -> None:
    torn.scheduler._queue.create()
    (torn.state / "submissions" / "broken.json").write_text('{"submission":')
    (torn.state / "ended.jsonl").write_text('\n{"job": "x.0", "res')
    jobs = torn.submit("whole", "true", 2)
    assert torn.details(jobs) == ["exit 0"] * 2
    assert any("ended.jsonl: skipped a line" in line for line in torn.scheduler.complaints)
    log = torn.state / "supervisor.log"
    until(lambda: "broken.json" in log.read_text() and "skipped a line" in log.read_text())
    until(lambda: not torn.processes())


def test_another_host_is_sent_away(place: Place) -> None:
    place.details(place.submit("one", "true"))
    queue = Queue(place.state)
    settings = queue.settings()
    assert settings
    queue.put_settings(msgspec.structs.replace(settings, host="elsewhere"))
    with pytest.raises(SchedulerError, match="run on host elsewhere"):
        place.submit("two", "true")
    queue.put_settings(settings)


def test_torn_settings_say_what_to_do_and_are_written_anew(place: Place) -> None:
    place.details(place.submit("one", "true"))
    path = Queue(place.state).settings_path
    path.write_bytes(b"")
    with pytest.raises(SchedulerError, match=r"settings.json cannot be read: .*; remove it, the next"):
        place.submit("two", "true")
    path.unlink()
    assert place.details(place.submit("three", "true")) == ["exit 0"]


def test_more_nodes_than_one_and_a_missing_script(place: Place) -> None:
    submission = place.submission("one", "true")
    with pytest.raises(SchedulerError, match="2 nodes"):
        place.scheduler.submit(msgspec.structs.replace(submission, resources=Resources(nodes=2)))
    place.file("one", "job.sh").unlink()
    with pytest.raises(SchedulerError, match="is not there"):
        place.scheduler.submit(submission)


def test_a_path_that_submitit_would_rewrite_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.state = tmp_path / "100%jobs"
    place.open()
    with pytest.raises(SchedulerError, match="submitit"):
        place.submit("one", "true")


def test_the_first_record_of_an_end_counts(place: Place) -> None:
    job = place.submit("one", "true")
    assert place.details(job) == ["exit 0"]
    Queue(place.state).record([End(job="one.0", restart=0, reason=Reason.DIED)])
    assert place.seen(job[0]).detail == "exit 0"


class Racing(Queue):
    """A queue in which a job ends badly at the worst moment: while the supervisor records other ends."""

    raced = False

    def record(self, ends: Iterable[End]) -> None:
        bad = [] if self.raced else [End(job="first.0", restart=0, reason=Reason.EXIT, code=1)]
        self.raced = True
        super().record([*ends, *bad])


def test_an_end_that_comes_between_two_looks_starts_nobody_it_should_not(torn: Place) -> None:
    queue = Racing(torn.state)
    queue.create()
    queue.put_settings(Settings(host="here", cpus=1))
    queue.assign("first.0.0", Slots())
    queue.take("first.0.0", Claim(owner=process.myself()))  # we are its launcher
    for at, (token, after) in enumerate((("first", ()), ("second", ["first.0"]), ("third", ["second.0"]))):
        submission = torn.submission(token, "true", after=after)
        queue.file(Filed(submission=submission, at=at, environment="", warning_s=1, grace_s=1))
    supervisor = Supervisor(queue)
    assert not supervisor.step()
    assert [o.detail.partition(":")[0] for o in torn.scheduler.query(["second.0", "third.0"]).values()] == [
        "dependency",
        "dependency",
    ]
    assert not list(queue.launch.iterdir())


# -- holding ------------------------------------------------------------------------------------------------


def test_a_held_job_starts_when_it_is_released_and_not_before(place: Place) -> None:
    place.open(cpus=1)
    blocker = place.submit("blocker", "until [ -e ../go ]; do sleep 0.05; done")
    place.until_running(blocker[0])
    held = place.submit("held", "echo held >> ../order", 2)
    last = place.submit("last", "echo last >> ../order")
    place.scheduler.hold([*blocker, *held, "nobody.0"])
    assert place.seen(held[0]) == Observation(state=JobState.HELD)
    assert place.seen(blocker[0]).state is JobState.RUNNING
    supervisor = place.scheduler.supervisor()
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    (place.folder / "go").touch()
    assert place.details(blocker + last) == ["exit 0"] * 2  # under another supervisor, and past the held ones
    assert [place.seen(job).state for job in held] == [JobState.HELD] * 2
    place.scheduler.release([*held, *last])
    assert place.details(held) == ["exit 0"] * 2
    assert (place.folder / "order").read_text().split() == ["last", "held", "held"]
    assert not list((place.state / "hold").iterdir())


def test_a_job_that_is_held_while_its_launcher_comes_does_not_run(place: Place) -> None:
    place.open(cpus=1)
    blocker = place.submit("blocker", "until [ -e ../go ]; do sleep 0.05; done")
    place.until_running(blocker[0])
    held = place.submit("held", 'echo "$DDQJOBS_RESTART" >> ../order')[0]
    place.scheduler.hold([held])
    late = fork(lambda: launcher.launch(str(place.state), held, 0))
    assert end_of(late) == 0
    assert place.seen(held) == Observation(state=JobState.HELD, detail="restart 1")
    (place.folder / "go").touch()
    assert place.details(blocker) == ["exit 0"]
    place.scheduler.release([held])
    assert place.details([held]) == ["exit 0"]
    assert (place.folder / "order").read_text().split() == ["1"]


def test_a_held_job_can_be_cancelled(place: Place) -> None:
    place.open(cpus=1)
    blocker = place.submit("blocker", "until [ -e ../go ]; do sleep 0.05; done")
    held = place.submit("held", "true")
    place.scheduler.hold(held)
    place.scheduler.cancel(held)
    assert place.details(held) == ["cancelled"]
    (place.folder / "go").touch()
    assert place.details(blocker) == ["exit 0"]
