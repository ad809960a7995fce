"""Output of Slurm's commands, and its meaning: literal recorded output (tests/recorded/slurm)."""

from __future__ import annotations

import pytest

from ddqjobs.schedulers.base import Element
from ddqjobs.schedulers.pace import Pace
from ddqjobs.schedulers.slurm import answers, dependencies, holding, states
from ddqjobs.schedulers.slurm.answers import Row, UnreadableError
from ddqjobs.schedulers.slurm.scheduler import FULL, _by_length, _day_before
from ddqjobs.spec.model import WAITS, FailureClass, JobState, Observation
from tests.support import paths, shellcheck

RECORDED = paths.RECORDED / "slurm"
VERSIONS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())


# A row of a job of ours, as squeue prints it.
OURS = answers.SEPARATOR.join(("7", "RUNNING", "None", "node1", "e.first.t1", "t1"))
_NO_MEMORY = "Slurm says OUT_OF_MEMORY, give its task more `memory` in `resources`"
ACCOUNTING_HEADER = answers.SEPARATOR.join(answers.ACCOUNTING_FIELDS)


def recorded(version: str, name: str) -> str:
    return (RECORDED / version / name).read_text()


# -- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("123\n", "123"),
        ("123;cluster-1\n", "123"),
        ("123", "123"),
        ("-----\n  Welcome: account lab has 12 SUs\n-----\n123\n", "123"),
        ("123\r\n", "123"),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("123\n124\n", None),
        ("<html>", None),
    ],
)
def test_accepted(text: str, job: str | None) -> None:
    assert answers.accepted(text) == job


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("20", ["20"]),
        ("20_3", ["20_3"]),
        ("20_[2-4]", ["20_2", "20_3", "20_4"]),
        ("20_[2-3,7%4]", ["20_2", "20_3", "20_7"]),
        ("20_[0-9:4]", ["20_0", "20_4", "20_8"]),
        ("20_[5]", ["20_5"]),
    ],
)
def test_expand(text: str, jobs: list[str]) -> None:
    assert answers.expand(text) == jobs


@pytest.mark.parametrize(
    "text",
    ["", "x", "?", "20_", "20_[]", "20_[a-b]", "20.batch", "20_3.0", "20+1", "20+0_4", "20@far", "20_[1-2"],
)
def test_what_is_never_ours_is_passed_over(text: str) -> None:
    """Of an answer only its row: components of heterogeneous jobs, steps, jobs of other clusters."""
    assert answers.expand(text) == []
    foreign = answers.SEPARATOR.join((text, "RUNNING", "None", "node1"))
    assert set(answers.queue(f"{answers.QUEUE_HEADER}\n{foreign}\n{OURS}\n{foreign}\n")) == {"7"}


def test_a_list_of_elements_that_makes_no_sense_is_no_answer() -> None:
    with pytest.raises(UnreadableError):
        answers.expand("20_[1-2-3]")


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_queue(version: str) -> None:
    rows = answers.queue(recorded(version, "squeue.txt"))
    by_state = {row.state: row for row in rows.values()}
    assert by_state["RUNNING"].node
    assert by_state["PENDING"] == Row("PENDING", "JobHeldUser", "", "", "wrap", "tok-array")
    assert by_state["OUT_OF_MEMORY"].reason == "OutOfMemory"
    assert {job for job, row in rows.items() if row.state == "PENDING"} == {f"12_{i}" for i in range(4)}


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_accounting(version: str) -> None:
    rows = answers.accounting(recorded(version, "sacct.txt"))
    # An element that was cancelled for its dependency: 24.11 keeps no account of it.
    assert ("2_1" in rows) == (version == "22.05")
    assert len(rows) == 26 + ("2_1" in rows)
    assert rows["10_9"].state == "CANCELLED by 0"
    assert rows["1_1"].exit == "1:0"
    for job in {"2_1", "4"} & rows.keys():
        assert states.left_queue(rows[job]).failure is FailureClass.DEPENDENCY
    assert states.left_queue(rows["5"]).failure is FailureClass.CANCELLED
    assert states.left_queue(rows["14"]).failure is FailureClass.OUT_OF_MEMORY
    assert states.left_queue(rows["14"]).detail == _NO_MEMORY
    # 24.11 makes the folder of a job's output where it is missing.
    missing = states.left_queue(rows["15"]).failure is FailureClass.STORAGE
    assert missing == (version == "22.05")
    assert states.left_queue(rows["12_0"]).state is JobState.UNKNOWN
    assert states.left_queue(rows["3"]) == Observation(
        state=JobState.ENDED, detail="Slurm says COMPLETED", node=rows["3"].node, marks=("tok3", "wrap")
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_tokens(version: str) -> None:
    rows = answers.queue(recorded(version, "squeue.txt"))
    assert answers.with_token(rows, "tok-array") == ["12_0", "12_1", "12_2", "12_3"]
    by_name = answers.with_token(rows, "tok-name")
    assert by_name == [f"10_{i}" for i in range(10)]
    assert answers.with_token(rows, "tok") == []
    assert answers.with_token(rows, "a|b") == ["13"]
    rows = answers.accounting(recorded(version, "sacct.txt"))
    assert answers.with_token(rows, "tok1") == ["1_0", "1_1", "1_2"]
    assert answers.with_token(rows, "tok-name") == by_name


def test_the_bare_number_of_an_array_covers_its_elements() -> None:
    cancelled = "20\x1fCANCELLED by 0\x1fNone\x1fNone assigned\x1f0:0\x1fe.first.t1\x1f"
    began = "20_1\x1fCOMPLETED\x1fNone\x1fn1\x1f0:0\x1fe.first.t1\x1f"
    rows = answers.accounting("\n".join((ACCOUNTING_HEADER, cancelled, began, "")))
    states_of = {job: answers.row_of(rows, job) for job in ("20_0", "20_1", "20_3", "20", "21_0", "2")}
    assert {job: row.state if row else None for job, row in states_of.items()} == {
        "20_0": "CANCELLED by 0", "20_1": "COMPLETED", "20_3": "CANCELLED by 0", "20": "CANCELLED by 0",
        "21_0": None, "2": None,
    }  # fmt: skip
    assert {row.marks[1] for row in states_of.values() if row} == {"t1"}


def test_an_array_that_accounting_cuts_short_is_not_taken_for_forgotten() -> None:
    waiting = "20_[1,3,5,7,...]\x1fPENDING\x1fNone\x1fNone assigned\x1f0:0\x1fe.first.t1\x1f"
    rows = answers.accounting(f"{ACCOUNTING_HEADER}\n{waiting}\n")
    row = answers.row_of(rows, "20_401")
    assert row is not None
    assert states.left_queue(row).forgotten is False


def test_accounting_that_knows_no_name_yet_does_not_say_whose_job_it_is() -> None:
    observation = states.left_queue(Row("COMPLETED", "None", "n1", "0:0", "allocation", ""))
    assert (observation.state, observation.forgotten, observation.marks) == (JobState.UNKNOWN, False, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        answers.QUEUE_HEADER,
        "JOBID STATE REASON NODELIST\n",
        "slurm_load_jobs error: Unable to contact slurm controller\n",
        answers.QUEUE_HEADER + "\n1\x1fRUNNING\x1fNone\n",
        answers.QUEUE_HEADER + "\n1\x1fRUNNING\x1fNone\x1fnode1\n2\x1fRUNN",
    ],
)
def test_what_is_no_answer(text: str) -> None:
    with pytest.raises(UnreadableError):
        answers.queue(text)


def test_an_empty_queue_is_an_answer() -> None:
    assert answers.queue(answers.QUEUE_HEADER + "\n") == {}


# -- states ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_state_of_the_manual_is_in_the_table(version: str) -> None:
    names = recorded(version, "states.txt").split()
    assert len(names) > 20
    assert set(names) <= set(states.STATES)


@pytest.mark.parametrize(
    ("row", "state", "detail", "failure"),
    [
        (Row("RUNNING", "None", "n1"), JobState.RUNNING, "", None),
        (Row("PENDING", "Priority", ""), JobState.QUEUED, "", None),
        (Row("PENDING", "Dependency", ""), JobState.QUEUED, WAITS, None),
        (Row("PENDING", "Reservation", ""), JobState.QUEUED, "Reservation", None),
        (Row("PENDING", "AssocMaxJobsLimit", ""), JobState.QUEUED, "AssocMaxJobsLimit", None),
        (Row("PENDING", "QOSMaxCpuPerUserLimit", ""), JobState.QUEUED, "QOSMaxCpuPerUserLimit", None),
        (
            Row("PENDING", "ReqNodeNotAvail,_Reserved_for_maintenance", ""),
            JobState.QUEUED,
            "ReqNodeNotAvail,_Reserved_for_maintenance",
            None,
        ),
        (Row("RESV_DEL_HOLD", "Reservation", ""), JobState.HELD, "RESV_DEL_HOLD, Reservation", None),
        (Row("PENDING", "JobHeldUser", ""), JobState.HELD, "", None),
        (Row("PENDING", "JobHeldAdmin", ""), JobState.HELD, "JobHeldAdmin", None),
        (
            Row("PENDING", "launch failed requeued held", ""),
            JobState.HELD,
            "launch failed requeued held",
            None,
        ),
        (Row("PENDING", "job_requeued_in_held_state", ""), JobState.HELD, "job_requeued_in_held_state", None),
        (Row("COMPLETING", "None", "n1"), JobState.RUNNING, "COMPLETING", None),
        (Row("SUSPENDED", "None", "n1"), JobState.STOPPED, "SUSPENDED", None),
        (
            Row("TIMEOUT", "TimeLimit", "n1"),
            JobState.ENDED,
            "Slurm says TIMEOUT (TimeLimit)",
            FailureClass.TIMEOUT,
        ),
        (
            Row("OUT_OF_MEMORY", "OutOfMemory", "n1"),
            JobState.ENDED,
            _NO_MEMORY,
            FailureClass.OUT_OF_MEMORY,
        ),
        (Row("CANCELLED", "None", ""), JobState.ENDED, "Slurm says CANCELLED", FailureClass.CANCELLED),
        (
            Row("CANCELLED", "DependencyNeverSatisfied", ""),
            JobState.ENDED,
            "a run it depends on did not end well",
            FailureClass.DEPENDENCY,
        ),
        (
            Row("TELEPORTED", "None", ""),
            JobState.UNKNOWN,
            "squeue says 'TELEPORTED', which means nothing here",
            None,
        ),
        (Row("", "", ""), JobState.UNKNOWN, "squeue says '', which means nothing here", None),
    ],
)
def test_in_queue(row: Row, state: JobState, detail: str, failure: FailureClass | None) -> None:
    observation = states.in_queue(row)
    assert (observation.state, observation.detail, observation.failure) == (state, detail, failure)


@pytest.mark.parametrize("word", sorted(states.STATES))
def test_every_state_says_something_in_both_answers(word: str) -> None:
    assert states.in_queue(Row(word, "None", "n1")).state is states.STATES[word][0]
    observation = states.left_queue(Row(word, "None", "n1", name="e.first.t1"))
    assert observation.state in (JobState.ENDED, JobState.UNKNOWN)
    assert observation.detail


@pytest.mark.parametrize(
    ("accounting", "state"),
    [
        (Observation(state=JobState.ENDED, failure=FailureClass.STORAGE, detail="no output"), JobState.ENDED),
        (Observation(state=JobState.UNKNOWN, detail="accounting still says RUNNING"), JobState.UNKNOWN),
        (Observation(state=JobState.UNKNOWN, detail="no such job", forgotten=True), JobState.ENDED),
    ],
)
def test_of_a_job_that_was_not_launched_accounting_says_why(accounting: Observation, state: JobState) -> None:
    """While accounting lags behind nothing is concluded: the class of the failure is its to say."""
    observation = Observation(state=JobState.ENDED, detail="JobLaunchFailure", marks=("token",))
    answer = states.explained(observation, accounting)
    assert (answer.state, answer.failure, answer.marks) == (state, accounting.failure, ("token",))


def test_only_jobs_with_their_token_that_wait_for_ours_are_freed() -> None:
    rows = [
        ("2_[0-1]", "aftercorr:1_*(unfulfilled)", "e.second.t2", "t2"),
        ("3", "afterok:1_0(unfulfilled),afterok:4(unfulfilled)", "e.third.t3", "(null)"),
        ("5", "afterok:1_0(unfulfilled),afterok:99(unfulfilled)", "e.fourth.t5", "t5"),
        ("6", "singleton", "e.fifth.t6", "t6"),
        ("7", "(null)", "e.sixth.t7", "t7"),
        ("8", "aftercorr:1_*(unfulfilled)", "precious", "precious"),
    ]
    text = "".join(f"{answers.SEPARATOR.join(row)}\n" for row in rows)
    waiting = answers.waiting(f"{answers.WAITING_HEADER}\n{text}")
    jobs = {"2_1": "t2", "3": "t3", "5": "t5", "6": "t6", "7": "t7", "8": "t8", "9": "t9"}
    assert dependencies.freeable(waiting, jobs, {"1", "4"}) == ["2_1", "3"]


# -- dependencies ----------------------------------------------------------------------------------------


def elements(*after: tuple[str, ...]) -> list[Element]:
    return [Element(index=i, run=f"r{i}", after=jobs) for i, jobs in enumerate(after)]


@pytest.mark.parametrize(
    ("after", "conditions"),
    [
        ([(), ()], []),
        ([("7",)], ["afterok:7"]),
        ([("7_0", "7_2")], ["afterok:7_0:7_2"]),
        ([("7_0",), ("7_1",)], ["aftercorr:7"]),
        ([("7_0", "5"), ("7_1", "5")], ["afterok:5,aftercorr:7"]),
        ([("7_0",), ()], ["afterok:7_0"]),
        ([("7_0",), ("7_0",)], ["afterok:7_0"]),
        ([("7_1",), ("7_0",)], ["afterok:7_1:7_0"]),
        ([("7_0", "9_0"), ("7_1", "9_1")], ["aftercorr:7,aftercorr:9"]),
    ],
)
def test_dependencies(after: list[tuple[str, ...]], conditions: list[str]) -> None:
    options = dependencies.options(elements(*after))
    assert options == ([f"--dependency={conditions[0]}", "--kill-on-invalid-dep=yes"] if conditions else [])


# -- command lines ---------------------------------------------------------------------------------------


def test_long_lists_of_jobs_are_split() -> None:
    assert list(_by_length(["12", "3", "45", "6"], 5)) == [["12", "3"], ["45", "6"]]
    assert list(_by_length([], 5)) == []


@pytest.mark.parametrize(
    ("token", "day"), [("20261122-143015-1f2e3d4c", "2026-11-21"), ("nonsense", "1970-01-02")]
)
def test_accounting_is_searched_from_the_day_before(token: str, day: str) -> None:
    assert _day_before(token) == day


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("AssocMaxSubmitJobLimit", True),
        ("AssocGrpSubmitJobsLimit", True),
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("QOSMaxSubmitJobPerAccountLimit", True),
        ("QOSGrpSubmitJobsLimit", True),
        ("AssocMaxWallDurationPerJobLimit", False),
        ("QOSMaxCpuPerJobLimit", False),
    ],
)
def test_a_limit_of_submitted_jobs_passes_and_one_of_a_job_stays(name: str, *, passes: bool) -> None:
    refusal = (
        f"sbatch: error: {name}\nsbatch: error: Batch job submission failed: Job violates accounting/QOS"
    )
    assert (FULL.search(refusal) is not None) == passes


def test_calls_per_minute_are_kept() -> None:
    now, naps = [0.0], []

    def sleep(nap_s: float) -> None:
        naps.append(nap_s)
        now[0] += nap_s

    pace = Pace(3, clock=lambda: now[0], sleep=sleep)
    for _ in range(7):
        now[0] += 1
        pace.wait()
    assert naps == [57, 0, 0, 57]
    Pace(0, sleep=sleep).wait()
    assert len(naps) == 4


def test_shellcheck_accepts_the_lab() -> None:
    scripts = sorted((paths.LABS / "slurm").glob("*.sh"))
    assert len(scripts) == 5
    assert shellcheck.problems(*scripts, options=("-x",), cwd=paths.ROOT) == ""


# -- holding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "alike", "job_lists"),
    [
        ([], ["3"], []),
        (["3"], ["3"], ["3"]),
        (["3", "20_2", "20_0", "20_1"], ["20_0", "20_1", "20_2", "3"], ["3", "20_[0-2]"]),
        (["20_1", "20_7", "20_3", "20_2"], ["20_1", "20_2", "20_3", "20_7", "20_9"], ["20_[1-3,7]"]),
        ([f"20_{i}" for i in range(999)], [f"20_{i}" for i in range(999)], ["20_[0-998]"]),
        (
            [f"20_{i}" for i in range(0, 60, 2)],
            [f"20_{i}" for i in range(60)],
            [
                "20_[" + ",".join(str(i) for i in range(0, 50, 2)) + "]",
                "20_[" + ",".join(str(i) for i in range(50, 60, 2)) + "]",
            ],
        ),
        ([str(i) for i in range(26)], [], [",".join(str(i) for i in range(25)), "25"]),
    ],
)
def test_jobs_to_hold_are_named_array_by_array(
    jobs: list[str], alike: list[str], job_lists: list[str]
) -> None:
    assert list(holding.pages(jobs, alike)) == job_lists
