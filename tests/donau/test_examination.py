"""`doctor` on the lab's Donau, in both dialects: what it says, and what it puts down for later."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from ddqjobs.base.masking import masked, masked_row, shape
from ddqjobs.base.process import Completed
from ddqjobs.schedulers.donau import generation, record
from ddqjobs.schedulers.donau.record import Asked
from ddqjobs.spec.model import JobState
from tests.support.donau import DonauProject, dialect
from tests.support.paths import ROOT
from tests.support.trivial import EXPERIMENT, task, until

BOTH = pytest.mark.parametrize("speaks", ["old", "new"])
WAIT = 'echo "$DDQJOBS_RUN" >> "$TRACE"; until [ -e "$TRACE.go" ]; do sleep 0.05; done'
JOB_FILES = {
    "old": {"djob_JOBS.txt", "djob_-L_JOB.0.txt", "djob_-x_-CO_JOB_ID_EXIT_CODE_EXIT_MESSAGE_JOBS.txt"},
    "new": {"djob_JOBS.txt", "djob_-D_JOBS.txt", "djob_-ll_JOB.txt"},
}
ALWAYS = {
    "about.txt", "dsub_--help.txt", "djob_--help.txt", "dkill_--help.txt", "djob.txt", "djob_-n_TOKEN.txt",
    "djob_-D_-n_TOKEN.txt",
}  # fmt: skip
OTHER = {"old": "new", "new": "old"}


def doctor(project: DonauProject, code: int = 0) -> dict[str, tuple[str, str, str]]:
    """Run `doctor`; return subject -> (level, found, remedy), each joined over all lines of that subject."""
    ran = project.cli("doctor", EXPERIMENT, "--no-job", "--json")
    assert ran.code == code, ran
    findings: dict[str, tuple[str, str, str]] = {}
    for line in json.loads(ran.stdout)["lines"]:
        level, finding, remedy = findings.get(line["what"], ("", "", ""))
        assert level in ("", line["level"])
        findings[line["what"]] = (line["level"], finding + line["found"], remedy + line.get("remedy", ""))
    return findings


def facts(project: DonauProject) -> dict[str, str]:
    """The last recorded answers."""
    folder = max((project.root / "site-facts" / project.name).iterdir())
    return {path.name: path.read_text() for path in folder.iterdir()}


def with_a_job(project: DonauProject) -> str:
    """Submits a run that waits; its job."""
    project.tasks({"first": task()}, work=WAIT)
    job = project.open().submit(EXPERIMENT).submitted["first"]
    until(lambda: project.run("first").state is JobState.RUNNING)
    return job


# -- on the lab ------------------------------------------------------------------------------------------


def test_a_session_yields_the_facts_that_are_missing(on_donau: DonauProject) -> None:
    speaks = on_donau.lab.generation
    job = with_a_job(on_donau)
    findings = doctor(on_donau)
    assert {what: level for what, (level, _, _) in findings.items() if level != "ok"} == {"limits": "warning"}
    assert findings["generation"][1].startswith(f"{speaks}: `dsub --help` has ")
    assert findings["options"][1] == "the help names all that the site file uses"
    recorded = facts(on_donau)
    assert set(recorded) == ALWAYS | JOB_FILES[speaks]
    own, foreign = ("--job_type", "--mpi") if speaks == "old" else ("--mpi", "--job_type")
    assert f"  {own}   see the manual" in recorded["dsub_--help.txt"]
    assert foreign not in recorded["dsub_--help.txt"]
    assert recorded["dsub_--help.txt"].startswith("dsub --help\nexit code 0\n--- stdout\n")
    assert f"{job}  " in recorded["djob_JOBS.txt"]
    assert "  RUNNING  " in recorded["djob_JOBS.txt"]
    assert f"generation: {speaks}" in recorded["about.txt"]


@BOTH
def test_the_user_is_told_what_each_file_settles(speaks: str) -> None:
    text = (ROOT / "docs/reference/donau.md").read_text(encoding="utf-8")
    assert [name for name in ALWAYS | JOB_FILES[speaks] if f"`{name}`" not in text] == []


def test_it_submits_and_changes_nothing(on_donau: DonauProject) -> None:
    job = with_a_job(on_donau)
    before, records = on_donau.lab.jobs(), on_donau.records()
    doctor(on_donau)
    assert on_donau.lab.jobs() == before
    assert on_donau.records() == records
    assert list(before) == [job]


def test_names_are_masked_and_columns_stay_where_they_are(on_donau: DonauProject) -> None:
    with_a_job(on_donau)
    on_donau.lab.set(hosts=["wuhan-n0123"])
    doctor(on_donau)
    recorded = facts(on_donau)
    text = "\n".join(recorded.values())
    for name in ("somebody", "wuhan-n0123", str(Path.home()), socket.gethostname()):
        assert name not in text
    header, row = recorded["djob_JOBS.txt"].split("--- stdout\n")[1].splitlines()[:2]
    assert row[header.index("EXEC_NODES") :].strip() == "xxxxx-x0000"
    if on_donau.lab.generation == "old":
        assert row[header.index("USER") :].split()[0] == "xxxxxxxx"


def test_without_a_job_it_says_what_is_not_known_yet(on_donau: DonauProject) -> None:
    findings = doctor(on_donau)
    level, finding, remedy = findings["facts"]
    assert level == "warning"
    assert "no job was there to ask about" in finding
    assert remedy == "run it again while a job is queued or runs"
    assert set(facts(on_donau)) == ALWAYS


def test_a_site_file_of_the_other_generation_is_warned_of(on_donau: DonauProject) -> None:
    lab = on_donau.lab
    lab.set(generation=OTHER[lab.generation])
    findings = doctor(on_donau)
    level, finding, remedy = findings["generation"]
    assert level == "warning"
    assert finding.startswith(
        f"site {on_donau.name} says {lab.generation}, but this looks like {OTHER[lab.generation]}: "
    )
    other = {"bscc": "donau", "donau": "bscc"}[on_donau.name]
    assert remedy == f"use --site {other}, or let the site file inherit from it: `base: {other}`"
    level, finding, _ = findings["options"]
    assert level == "warning"
    assert "does not name" in finding


def test_an_expired_token_is_said_as_a_login(on_donau: DonauProject) -> None:
    on_donau.lab.fault("djob", "token", times=99)
    findings = doctor(on_donau, code=1)
    level, finding, remedy = findings["scheduler"]
    login = dialect(on_donau.lab.generation).login
    assert level == "error"
    assert "access token" in finding
    assert remedy == f"log in again with `{login}`, then run `ddqjobs doctor` again"
    # what needs no token is recorded all the same, and what was said instead of the rest
    assert "#DSUB" in facts(on_donau)["dsub_--help.txt"]
    on_donau.lab.mended()
    assert doctor(on_donau)["scheduler"][0] == "ok"


def test_answers_in_chinese_are_kept_and_tell_nothing(on_donau: DonauProject) -> None:
    for command in ("dsub", "djob"):
        on_donau.lab.fault(command, "chinese", times=99)
    findings = doctor(on_donau)
    assert findings["options"][:2] == ("warning", "no help that can be read, so it does not tell")
    assert findings["answers"][0] == "warning"
    assert "系统繁忙" in findings["answers"][1]
    assert "系统繁忙，请稍后再试" in facts(on_donau)["dsub_--help.txt"]
    if on_donau.lab.generation == "old":  # the new one has dkill, which still answers
        assert findings["generation"][:2] == ("warning", "cannot be told; site bscc says old")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("columns", ""),
        ("notice", ""),
        ("renamed", "cannot be read"),
        ("unknown", "says 'ZOMBIFIED' of a job, which means nothing here"),
        ("unknown-chinese", "says '运行中' of a job, which means nothing here"),
    ],
)
def test_what_of_a_list_would_not_be_understood(on_donau: DonauProject, fault: str, expected: str) -> None:
    with_a_job(on_donau)
    on_donau.lab.fault("djob", "", times=1)  # its help
    on_donau.lab.fault("djob", fault, times=99)
    findings = doctor(on_donau)
    assert (findings["answers"][0], expected in findings["answers"][1]) == (
        "warning" if expected else "ok",
        True,
    )
    text = "\n".join(facts(on_donau).values())
    for word in {"renamed": ["STATUS"], "unknown": ["ZOMBIFIED"], "unknown-chinese": ["运行中"],
                 "notice": ["提示：令牌将于三天后到期"], "columns": ["PRIO"]}[fault]:  # fmt: skip
        assert word in text
    assert "somebody" not in text


def test_a_name_that_is_shown_cut_off_is_warned_of(on_donau: DonauProject) -> None:
    """A submission is found again by the end of its job's name."""
    job = with_a_job(on_donau)
    jobs = on_donau.lab.jobs()
    jobs[job]["name"] += "+"
    on_donau.lab.set(jobs=jobs)
    findings = doctor(on_donau)
    assert f"does not show the whole name of job {job}" in findings["answers"][1]


def test_without_donau_s_commands_it_says_so_and_records_nothing(
    on_donau: DonauProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    level, finding, remedy = doctor(on_donau, code=1)["scheduler"]
    assert (level, finding) == ("error", "there is no djob here, so this is no login node of a Donau cluster")
    assert remedy == "load Donau's commands, or choose another --site"
    assert not (on_donau.root / "site-facts").exists()


def test_what_cannot_be_written_is_one_line(on_donau: DonauProject) -> None:
    (on_donau.root / "site-facts").write_text("in the way")
    findings = doctor(on_donau, code=1)
    assert findings["generation"][0] == "ok"  # said before
    assert findings["facts"][0] == "error"
    assert f"the answers cannot be recorded: {on_donau.root}/site-facts" in findings["facts"][1]


# -- generations -----------------------------------------------------------------------------------------


def answer(out: str = "", err: str = "", code: int = 0) -> Completed:
    return Completed(("x",), code, out, err)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"dsub --help": answer("--job_type TYPE\n-pn NODES\n")}, "old"),
        ({"dsub --help": answer(err="  --mpi TYPE, --label L\n")}, "new"),
        ({"djob": answer("JOB_ID JOB_STATE\n")}, "old"),
        ({"djob": answer("JOB_ID STATE\n")}, "new"),
        ({"dkill --help": answer("whatever", code=1)}, "new"),
        ({"dkill --help": answer(err="dkill: command not found", code=127)}, ""),
        ({"dsub --help": answer("--job_type"), "dkill --help": answer()}, ""),  # one sign of each
        ({"dsub --help": answer("--job_types -pnx --no--mpi")}, ""),  # other words that contain signs
        ({"dsub --help": answer("--provider google-v2 --image")}, ""),  # another program of that name
        ({}, ""),
    ],
)
def test_signs_tell_the_generation(answers: dict[str, Completed], expected: str) -> None:
    belief = generation.believed([dialect("old"), dialect("new")], answers)
    assert belief.generation == expected
    assert bool(belief.reasons) == bool(expected)


def test_what_speaks_against_it_is_said_too() -> None:
    answers = {"dsub --help": answer("--job_type -pn --mpi")}
    belief = generation.believed([dialect("old"), dialect("new")], answers)
    assert belief == ("old", "`dsub --help` has --job_type, -pn", "`dsub --help` has --mpi, as the new one")


@BOTH
def test_options_that_the_help_does_not_name(speaks: str) -> None:
    donau_dialect = dialect(speaks)
    options = generation.options_of(donau_dialect)
    text = "".join(f"  {option} X\n" for option in options["dsub"] if option != "-T")
    assert generation.missing_options(donau_dialect, {"dsub --help": answer(text)}) == {"dsub": ["-T"]}
    assert generation.missing_options(donau_dialect, {"dsub --help": answer("-a")}) is None
    assert {"-n", "-R", "-s", "-D"} <= set(options["dsub"])


# -- masking ---------------------------------------------------------------------------------------------

TABLE = """\
提示：令牌将于三天后到期
JOB_ID      JOB_NAME                        USER   ACCOUNT              STATE    NODES       SUBMIT_TIME
1645534805  ddq.a.20260101-000000-0badcafe  alice  root.bingxing2.alice RUNNING  n10(8)      2022/02/22 12:00
1645534806  secret_project                  bob    root.bingxing2.bob   运行中    gpu-01.hpc  2022/02/22 12:00
"""
DETAILS = "jobId 1645534806\nuserName bob\nstate RUNNING\nexecHost gpu-01\nmail: bob@example.org\n"


@BOTH
def test_rows_keep_what_is_no_name(speaks: str, tmp_path: Path) -> None:
    donau_dialect = dialect(speaks)
    about_all = Asked("djob", donau_dialect.all, "", Completed(("djob",), 0, TABLE, ""))
    details = next(question for question in donau_dialect.ask if question.form == "details")
    about_one = Asked("djob {job}", details, "1", Completed(("djob", "1"), 0, DETAILS, ""))
    place = record.write(
        tmp_path / "facts", [about_all, about_one], donau_dialect, ["alice"], "told by alice"
    )
    text = (place / "djob.txt").read_text()
    assert all(name not in text for name in ("alice", "bob", "secret", "n10", "gpu-01", "hpc"))
    notice, header, ours, theirs = text.split("--- stdout\n")[1].splitlines()[:4]
    assert (notice, header) == tuple(TABLE.splitlines()[:2])
    assert "ddq.a.20260101-000000-0badcafe  xxxxx  xxxx.xxxxxxxx0.xxxxx RUNNING  x00(0)" in ours
    assert "xxxxxx_xxxxxxx                  xxx    xxxx.xxxxxxxx0.xxx" in theirs
    assert all("2022/02/22 12:00" in row for row in (ours, theirs))
    assert [len(row) for row in (ours, theirs)] == [len(row) for row in TABLE.splitlines()[2:]]
    content = (place / "djob_JOB.txt").read_text().split("--- stdout\n")[1]
    assert content.startswith(
        "jobId 1645534806\nuserName xxx\nstate RUNNING\nexecHost xxx-00\nmail: xxx@xxxxxxx.xxx\n"
    )
    assert "told by xxxxx" in (place / "about.txt").read_text()
    assert [path.name for path in (tmp_path / "facts").iterdir()] == [place.name]  # nothing half done


def test_two_records_of_one_second_stand_side_by_side(tmp_path: Path) -> None:
    donau_dialect = dialect("old")
    places = {record.write(tmp_path, [], donau_dialect, [], "") for _ in range(3)}
    assert len(places) == 3
    assert all((place / "about.txt").is_file() for place in places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a job of alice", "a job of xxxxx"),
        ("root.hpc2.alice", "root.hpc2.xxxxx"),
        ("alices and malice", "xxxxxs and mxxxxx"),  # a long name is not elsewhere by chance
        ("li in list", "xx in list"),  # a short one may be
        ("mail me@example.org", "mail xx@xxxxxxx.xxx"),
        ("from 10.0.12.7:22", "from 00.0.00.0:22"),
        ("see /home/bob/x and ~/y/z, /opt/batch/agent", "see /xxxx/xxx/x and ~/x/x, /opt/batch/agent"),
        ("start 2022/02/22, y/n", "start 2022/02/22, y/n"),
        ("token=QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0", None),
        ("-------------------------------------------", "-------------------------------------------"),
        ("a" * 1_000_000, "a" * 1_000_000),  # and quickly
        ("x-" * 100_000 + "1", None),
    ],
)
def test_texts(text: str, expected: str | None) -> None:
    masked_text = masked(text, ["alice", "li", ""])
    assert masked_text == (shape(text) if expected is None else expected)
    assert len(masked_text) == len(text)


def test_a_row_of_another_language_keeps_only_what_is_known() -> None:
    assert masked_row("123 张三 运行中 queue7", [], {"运行中"}) == "123 xx 运行中 xxxxx0"
