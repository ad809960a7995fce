"""The command line in odd company: closed streams, terminals without colours, options that do not fit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import TINY, Place, Terminal, ddqjobs, environment, opened

COLOUR = "\x1b[3"  # red, green, ...: 31, 32, ...
LOOK = "\x1b[1m"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def shell(place: Place, line: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``ddqjobs`` is the command."""
    script = f'ddqjobs() {{ "$PYTHON" -m ddqjobs "$@"; }}; {line}'
    variables = environment(PYTHON=ddqjobs()[0])
    return subprocess.run(
        ["bash", "-c", script], cwd=place.root, env=variables, capture_output=True, text=True, timeout=90
    )


# -- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/null 2>/dev/full"])
def test_exit_codes_hold_without_streams(place: Place, closed: str) -> None:
    done = shell(place, f"ddqjobs plan tiny {closed}; echo $?; ddqjobs plan nope {closed}; echo $?")
    codes = [line for line in done.stdout.splitlines() if line.isdecimal()]
    assert codes == ["0", "2"]
    assert "Traceback" not in done.stderr


def test_what_is_printed_never_lands_in_a_file_that_took_a_closed_streams_number(place: Place) -> None:
    done = shell(place, "ddqjobs submit tiny first --wait <&- >&- 2>&-")
    assert done.returncode == 0
    assert place.states()["first"] == "done"
    for segment in (place.root / "results" / "tiny" / "ledger").iterdir():
        assert all(line.startswith("{") for line in segment.read_text().splitlines())
    assert "hello from first" in place.log("first").read_text()


@pytest.mark.parametrize("command", ["plan", "init x", "report -o r.txt", "env list"])
def test_a_working_folder_that_is_gone_is_said(place: Place, command: str) -> None:
    done = shell(place, f'mkdir gone; cd gone; rmdir "$PWD"; ddqjobs {command}')
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    gone = "the folder that this shell is in was removed: change to another, then run the command again"
    assert done.stderr == f"error: {gone}\n" or done.stderr == "error: x: No such file or directory\n"


# -- colours ------------------------------------------------------------------------------------------------


def shown(place: Place, *arguments: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the output of a command on a terminal of 100 columns."""
    monkeypatch.setattr("tests.support.cli.environment", lambda: environment(**variables))
    return Terminal(place, *arguments, columns=100).close()[1]


@pytest.mark.parametrize(
    "arguments", [("plan", "tiny"), ("status", "tiny"), ("report", "nope"), ("report", "tiny")]
)
def test_no_color_is_heard_and_a_dumb_terminal_gets_text(
    place: Place, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(place, *arguments, monkeypatch=monkeypatch)
    assert COLOUR not in shown(place, *arguments, monkeypatch=monkeypatch, NO_COLOR="1")
    assert "\x1b[" not in shown(place, *arguments, monkeypatch=monkeypatch, TERM="dumb")
    if arguments[1] == "tiny":
        assert LOOK in shown(place, *arguments, monkeypatch=monkeypatch, NO_COLOR="1")  # bold is no colour


# -- options that would have no effect --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("report tiny --json -f csv", "--json and --format csv exclude each other"),
        ("report tiny --price 2", "--price goes with --format html"),
        ("report tiny --price 2 -o r.csv", "--price goes with --format html"),
        ("report tiny --compare tiny tiny --recompute", "--compare prints text formats only, not"),
        ("report tiny --compare tiny tiny -o r.html", "--compare prints text formats only, not"),
        ("report tiny --export mlflow -o m --json", "--export writes files of its own: leave out --format"),
        (
            "env build mini-new --gpus 1 --time 2h",
            "--gpus, --time needs --on-node: without it there is no job",
        ),
        ("env verify mini-new --cpus 2", "--cpus needs --on-node: without it there is no job"),
        ("env build mini-new --from .", "--from goes with --offline"),
        ("env export mini-new --script --apptainer", "choose either --script or --apptainer"),
        ("env export mini-new --script --base ubuntu", "--base goes with --apptainer"),
        ("doctor tiny --no-job --gpus 1", "--gpus is for the job that --no-job omits"),
        ("advance tiny --phase 9", "no phase matches '9'"),
        ("advance tiny nope", "no run matches 'nope'"),
    ],
)
def test_what_would_have_no_effect_is_refused_before_anything_is_done(
    place: Place, line: str, message: str
) -> None:
    before = sorted(place.root.rglob("*"))
    ran = place.invoke(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}")
    assert ran.err.count("\n") == 1
    assert sorted(place.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("status tiny --watch --interval -1", "-1.0 is not in the range 0.2<=x<=86400"),
        ("status tiny --watch --interval inf", "inf is not in the range 0.2<=x<=86400"),
        ("status tiny --watch --interval 1e12", "1000000000000.0 is not in the range"),
        ("status tiny --watch --interval nan", "nan is not a number"),
        ("submit tiny --dry-run --max-gpu-hours nan", "nan is not a number"),
        ("report tiny -f html --price nan", "nan is not a number"),
        ("report tiny -f html --price -2", "-2 is not a number"),
        ("report tiny -f html --price EUR", "EUR is not a number, like 2.5, or one with a currency"),
    ],
)
def test_a_number_that_no_clock_or_budget_has_is_refused(place: Place, line: str, message: str) -> None:
    ran = place.invoke(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_advance_hears_filters(place: Place) -> None:
    assert place.invoke("submit", "tiny", "first", "broken.m1", "--wait").code == 1
    assert place.invoke("retry", "tiny", "broken.m1").code == 0
    other = place.invoke("advance", "tiny", "--task", "first", "--json")
    assert (other.code, other.json["submitted"]) == (0, {})
    again = place.invoke("advance", "tiny", "--task", "broken", "--json")
    assert (again.code, list(again.json["submitted"])) == (0, ["broken.m1"])


def test_advance_tells_by_its_exit_code_of_runs_that_are_refused_for_good(place: Place) -> None:
    place.text("experiments/tiny.yaml", TINY.replace("hours: 0.5", "resources: {gpus: 99}"))
    assert place.invoke("submit", "tiny", "first").code == 1
    advanced = place.invoke("advance", "tiny", "--json")
    assert (advanced.code, "asks for 99 GPUs" in advanced.json["left"]["first"]) == (1, True)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.html", "<!DOCTYPE html>"),
        ("r.json", "{"),
        ("r.md", "# "),
        ("r.csv", "run,phase,"),
        ("r.tex", "%"),
    ],
)
def test_a_report_is_written_as_its_file_is_called(place: Place, name: str, begins: str) -> None:
    out = place.root / name
    assert place.invoke("report", "tiny", "-o", str(out)).code == 0
    assert out.read_text().startswith(begins)
    assert place.invoke("report", "tiny", "-f", "table", "-o", str(out)).code == 0
    assert out.read_text().startswith("tiny: trivial runs")
