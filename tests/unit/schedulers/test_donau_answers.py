"""Output of Donau's commands, and its meaning: literal texts, in both generations' dialects."""

from __future__ import annotations

import pytest

from ddqjobs.base.process import Completed
from ddqjobs.schedulers.donau import answers, states, tables
from ddqjobs.schedulers.donau.answers import Kind
from ddqjobs.schedulers.donau.scheduler import submit_words
from ddqjobs.spec.model import FailureClass, JobState, Observation
from tests.support.donau import dialect, section

BOTH = pytest.mark.parametrize("generation", ["old", "new"])
HEADER = "JOBID      MESSAGE\n"


def said(out: str = "", err: str = "", *, code: int = 0, timed_out: bool = False) -> Completed:
    return Completed(("dsub", "-s", "x"), code, out, err, timed_out)


# -- submission ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("out", "job"),
    [
        (HEADER + "1645534805 Submit job successfully.\n", "1645534805"),
        ("1645534805 Submit job successfully.\n", "1645534805"),
        ("  1645534805   Submit job successfully.", "1645534805"),
        ("notice 3\n" + HEADER + "1645534805 Submit job successfully.\n", "1645534805"),
        ('{"code":"success","data":{"jobId":"1645534805"},"message":""}', "1645534805"),
        ('{"code":"success","data":{"jobId":1645534805}}\n', "1645534805"),
        (HEADER + "1645534805 ok\n", "1645534805"),
        (HEADER + "1645534805 作业提交成功\n", "1645534805"),
    ],
)
def test_exactly_one_id_is_taken(generation: str, out: str, job: str) -> None:
    assert answers.submitted(said(out), dialect(generation)) == (Kind.TAKEN, job)
    # What the command's exit code is and whether it ended in time is not documented, and does not matter.
    assert answers.submitted(said(out, code=1, timed_out=True), dialect(generation)) == (Kind.TAKEN, job)
    assert answers.submitted(said(err=out), dialect(generation)) == (Kind.TAKEN, job)


@BOTH
@pytest.mark.parametrize(
    "out",
    [
        "",
        "\n",
        HEADER,
        "164553480",
        HEADER + "1645534805 Submit jo",  # cut off
        HEADER + "1645534805",
        HEADER + "1645534805 Submit job failed.\n",
        HEADER + "1645534805 提交失败\n",
        HEADER + "1645534805 not enough quota\n",
        "1645534805 Submit job successfully.\n1645534806 Submit job successfully.\n",
        '{"code":"success","data":{"jobId":"1645',
        '{"code":"failed","data":{"jobId":"1645534805"}}',
        '{"code":"success","data":{"jobId":true}}',
        '{"code":"success","data":{"jobId":"12a"}}',
        "Job <1645534805> is submitted to queue.\n",
        "系统繁忙，请稍后再试\n",
        "<html>502 Bad Gateway</html>\n",
        "x" * 100_000,
    ],
)
def test_anything_else_is_unknown(generation: str, out: str) -> None:
    assert answers.submitted(said(out), dialect(generation))[0] is Kind.UNKNOWN


@BOTH
def test_two_different_ids_are_named(generation: str) -> None:
    two = "1 Submit job successfully.\n2 Submit job successfully.\n"
    assert answers.submitted(said(two), dialect(generation)) == (Kind.UNKNOWN, "2 job ids: 1, 2")
    twice = "1 Submit job successfully.\n" + HEADER + "1 Submit job successfully.\n"
    assert answers.submitted(said(twice), dialect(generation)) == (Kind.TAKEN, "1")


@BOTH
@pytest.mark.parametrize(
    "line",
    [
        "error: access token does not exist, please execute command dconfig to get token",
        "error: token expired! please log in",
        "error: token unauthorized",
    ],
)
def test_a_token_error_asks_for_a_login(generation: str, line: str) -> None:
    for answer in (said(err=line), said(line + "\n"), said(HEADER + "-   " + line + "\n")):
        assert answers.submitted(answer, dialect(generation))[0] is Kind.LOGIN
        assert answers.login(answer, dialect(generation)).endswith(line)


@BOTH
def test_a_row_without_an_id_is_a_refusal(generation: str) -> None:
    answer = said(HEADER + "-          The queue does not exist.\n", code=1)
    assert answers.submitted(answer, dialect(generation)) == (
        Kind.REFUSED,
        "-          The queue does not exist.",
    )
    answer = said(err='invalid option or param. Unexpected argument "version"', code=1)
    assert answers.submitted(answer, dialect(generation))[0] is Kind.REFUSED
    late = said(HEADER + "-          The queue does not exist.\n", timed_out=True)
    assert answers.submitted(late, dialect(generation))[0] is Kind.UNKNOWN


@BOTH
def test_the_words_of_a_submission(generation: str) -> None:
    donau_dialect = dialect(generation)
    assert submit_words(donau_dialect, "/a/job.sh", ()) == ["dsub", "-s", "/a/job.sh"]
    assert submit_words(donau_dialect, "/a/job.sh", ("1", "2")) == [
        "dsub",
        "-D",
        "1=ENDED;2=ENDED",
        "-s",
        "/a/job.sh",
    ]
    if generation == "old":
        argv = ["dsub", "-pn", "!n1 !n10", "-s", "/a/job.sh"]
        assert submit_words(donau_dialect, "/a/job.sh", avoid=("n1", "n10")) == argv


# -- tables ----------------------------------------------------------------------------------------------

OLD = """\
提示：令牌将于三天后到期
JOB_ID      JOB_NAME      USER   JOB_STATE  SUBMIT_TIME          EXEC_NODES
1645534805  ddq.a.tok-1   alice  RUNNING    2022/02/22 12:00:00  n10
1645534806  ddq.b.tok-2   alice  PENDING    2022/02/22 12:00:00
1645534807  ddq.c.tok-3   alice             2022/02/22 12:00:00  FAILED
"""
ASKED = (["JOB_ID"], ["JOB_STATE"])


def test_cells_are_found_by_the_names_of_their_columns() -> None:
    parsed_table = tables.table(OLD, ASKED)
    assert parsed_table is not None
    assert [row["JOB_STATE"] for row in parsed_table.rows] == ["RUNNING", "PENDING", ""]
    assert [row["EXEC_NODES"] for row in parsed_table.rows] == ["n10", "", "FAILED"]
    assert parsed_table.rows[0]["SUBMIT_TIME"] == "2022/02/22 12:00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JOB_STATE JOB_ID\nRUNNING 12\n", [{"JOB_STATE": "RUNNING", "JOB_ID": "12"}]),
        # a long id pushes its row to the right
        ("JOB_ID JOB_STATE\n1645534805123 RUNNING\n", [{"JOB_ID": "1645534805123", "JOB_STATE": "RUNNING"}]),
        # right-aligned
        ("  JOB_ID  JOB_STATE\n      12    RUNNING\n", [{"JOB_ID": "12", "JOB_STATE": "RUNNING"}]),
        ("JOB_ID\tJOB_STATE\n12\tRUNNING\n", [{"JOB_ID": "12", "JOB_STATE": "RUNNING"}]),
        ("JOB_ID JOB_STATE\r\n12     RUNNING\r\n", [{"JOB_ID": "12", "JOB_STATE": "RUNNING"}]),
        # cut off in the middle of a row
        ("JOB_ID JOB_STATE\n12     RUNNING\n13     STOP", [{"JOB_ID": "12", "JOB_STATE": "RUNNING"}]),
        # pages, each with its header
        ("JOB_ID JOB_STATE\n12     RUNNING\nJOB_ID JOB_STATE\n13     FAILED\n",
         [{"JOB_ID": "12", "JOB_STATE": "RUNNING"}, {"JOB_ID": "13", "JOB_STATE": "FAILED"}]),
        # more words than columns and no way to tell which belongs where: no row
        ("JOB_ID JOB_NAME JOB_STATE\n12 a b c RUNNING\n", []),
    ],
)  # fmt: skip
def test_rows(text: str, expected: list[dict[str, str]]) -> None:
    parsed_table = tables.table(text, ASKED)
    assert parsed_table is not None
    assert list(parsed_table.rows) == expected


@pytest.mark.parametrize(
    "text",
    ["", "no matches\n", "JOB_ID\n12\n", "JOB_ID JOB_STATE", "JOB_ID STATUS\n12 RUNNING\n",
     "JOB_ID JOB_STATE JOB_STATE\n12 RUNNING FAILED\n"],
)  # fmt: skip
def test_what_is_no_table(text: str) -> None:
    assert tables.table(text, ASKED) is None


def test_details_of_two_jobs_are_none() -> None:
    assert tables.details("jobId 12\nstate RUNNING\njobExitCode: 0\nnode=n1\n---\n") == {
        "jobId": "12", "state": "RUNNING", "jobExitCode": "0", "node": "n1",
    }  # fmt: skip
    assert tables.details("jobId 12\nstate RUNNING\njobId 13\nstate FAILED\n") == {}
    assert tables.details("jobId 12\nstate RUNN") == {"jobId": "12"}


@BOTH
def test_a_job_s_row_has_its_whole_id(generation: str) -> None:
    donau_dialect = dialect(generation)
    column = donau_dialect.columns.state[0]
    cells = [{"JOB_ID": job, column: word} for job, word in [("12", "RUNNING"), ("123", "FAILED")]]
    assert answers.by_job(cells, ["12"], donau_dialect) == {"12": cells[0]}
    assert answers.by_job(cells, ["1", "23"], donau_dialect) == {}
    twice = [*cells, {"JOB_ID": "12", column: "FAILED"}]
    assert answers.by_job(twice, ["12", "123"], donau_dialect) == {"123": cells[1]}


@BOTH
def test_a_submission_is_found_by_its_whole_token(generation: str) -> None:
    donau_dialect = dialect(generation)
    column = donau_dialect.columns.name[0]
    names = ["ddq.a.20260101-000000-0badcafe", "ddq.20260101-000000-0badcafe.x", "20260101-000000-0badcafe",
             "ddq.a.20260101-000000-0badcafe2", "ddq.a.x20260101-000000-0badcafe"]  # fmt: skip
    cells = [{"JOB_ID": str(n), column: name} for n, name in enumerate(names)]
    assert answers.named(cells, "20260101-000000-0badcafe", donau_dialect) == ["0", "2"]


@BOTH
def test_details_of_another_job_say_nothing(generation: str) -> None:
    donau_dialect = dialect(generation)
    other = said("JOB_ID 13\nSTATE RUNNING\njobId 13\nstate RUNNING\n")
    assert answers.details_of(other, "12", donau_dialect) == {}
    assert answers.details_of(said("STATE RUNNING\nstate RUNNING\n"), "12", donau_dialect)


# -- states ----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("WAITING", JobState.QUEUED), ("PENDING", JobState.QUEUED), ("RUNNING", JobState.RUNNING),
        ("STOPPED", JobState.HELD), ("SSTOPPED", JobState.STOPPED), ("SUCCEEDED", JobState.ENDED),
        ("FAILED", JobState.ENDED), ("ZOMBIE", JobState.UNKNOWN), ("运行中", JobState.UNKNOWN),
        ("running", JobState.UNKNOWN), ("", JobState.UNKNOWN), ("SUCCEEDE", JobState.UNKNOWN),
    ],
)  # fmt: skip
def test_words(generation: str, word: str, state: JobState) -> None:
    donau_dialect = dialect(generation)
    assert states.observe({donau_dialect.columns.state[0]: word}, donau_dialect).state is state


@BOTH
@pytest.mark.parametrize(
    ("code", "failure"),
    [("10003", FailureClass.CANCELLED), ("1", None), ("0", None), ("", None), ("x", None)],
)
def test_exit_codes_explain_an_end_and_make_none(
    generation: str, code: str, failure: FailureClass | None
) -> None:
    site = section(generation)
    cells = {dialect(generation).columns.exit_code[-1]: code}
    assert states.explained(Observation(state=JobState.ENDED), cells, site).failure is failure
    for state in (JobState.UNKNOWN, JobState.RUNNING, JobState.QUEUED):
        assert states.explained(Observation(state=state), cells, site) == Observation(state=state)


def test_a_job_that_asked_too_often_for_another_start_timed_out() -> None:
    site = section("new")
    ended = states.explained(Observation(state=JobState.ENDED), {"jobExitCode": "101"}, site)
    assert (ended.failure, ended.exit_code) == (FailureClass.TIMEOUT, 101)
