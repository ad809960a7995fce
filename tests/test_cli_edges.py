"""The command line in odd company: closed streams, terminals without colours, options that do not fit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import Place, Terminal, ddqjobs, environment, opened

COLOUR = "\x1b[3"  # red, green, ...: 31, 32, ...
LOOK = "\x1b[1m"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as made:
        yield made


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


# -- colours ------------------------------------------------------------------------------------------------


def shown(place: Place, *words: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a terminal gets to see."""
    monkeypatch.setattr("cli_support.environment", lambda: environment(**variables))
    return Terminal(place, *words, columns=100).close()[1]


@pytest.mark.parametrize(
    "words", [("plan", "tiny"), ("status", "tiny"), ("report", "nope"), ("report", "tiny")]
)
def test_no_color_is_heard_and_a_dumb_terminal_gets_text(
    place: Place, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(place, *words, monkeypatch=monkeypatch)
    assert COLOUR not in shown(place, *words, monkeypatch=monkeypatch, NO_COLOR="1")
    assert "\x1b[" not in shown(place, *words, monkeypatch=monkeypatch, TERM="dumb")
    if words[1] == "tiny":
        assert LOOK in shown(place, *words, monkeypatch=monkeypatch, NO_COLOR="1")  # bold is no colour
