"""Help: panels, whole words, what it costs to start; Ctrl-C before a command begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ddqjobs.cli.commands import COMMANDS, app, load
from tests.support.cli import Place, environment, opened
from tests.support.paths import ROOT

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})
GROUPS = {name: load(name).commands for name in ("data", "env")}
WORDS = [[name] for name in COMMANDS] + [[g, name] for g, commands in GROUPS.items() for name in commands]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def test_the_first_help_has_every_command_in_its_panel() -> None:
    lines = RUNNER.invoke(app, ["--help"]).stdout.splitlines()
    panel, listed = "", dict[str, str]()
    for line in lines:
        if line.startswith("╭─"):
            panel = line.strip("╭─╮ ")
        elif line.startswith("│ ") and line[2] not in " -":
            listed[line.split()[1]] = panel
    assert listed == {name: entry.panel for name, entry in COMMANDS.items()}
    assert list(dict.fromkeys(listed.values())) == ["Run", "Look", "Repair", "Set up"]


def test_help_fits_80_columns_and_breaks_no_word() -> None:
    for subcommand in WORDS:
        ran = RUNNER.invoke(app, [*subcommand, "--help"])
        assert ran.exit_code == 0, subcommand
        assert max(map(len, ran.stdout.splitlines())) <= 80, subcommand
        command = load(subcommand[0])
        command = command.commands[subcommand[1]] if subcommand[1:] else command
        texts = [command.help, *(parameter.help for parameter in command.params)]
        vocabulary = {word.rstrip(";") for word in ran.stdout.split()}
        missing = {word.rstrip(";") for text in texts for word in text.split()} - vocabulary
        assert missing <= {"Example:", "Examples:"}, subcommand
        assert not {"<str>", "<int>", "<path>"} & vocabulary, subcommand


def test_help_imports_neither_rich_nor_the_commands() -> None:
    code = (
        "import sys; from ddqjobs.cli.commands import app; app(['--help'], standalone_mode=False); "
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    loaded = set(ran.stderr.split())
    assert "ddqjobs.cli.help" in loaded
    assert not {"rich", "msgspec", *(f"ddqjobs.cli.{name}" for name in COMMANDS)} & loaded


@pytest.mark.parametrize(
    ("module", "variables"),
    [
        ("typer", {}),
        ("ddqjobs.cli.plan", {}),
        ("ddqjobs.project", {}),
        ("ddqjobs.cli.plan", {"_DDQJOBS_COMPLETE": "complete_bash"}),
        ("ddqjobs.planning.lookup", {"_DDQJOBS_COMPLETE": "complete_bash"}),
    ],
)
def test_ctrl_c_while_starting_leaves_no_traceback(
    place: Place, module: str, variables: dict[str, str]
) -> None:
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["ddqjobs", "plan"]
from ddqjobs.cli.main import main
main()
"""
    variables = {"COMP_WORDS": "ddqjobs plan ", "COMP_CWORD": "2", **variables}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.root,
        env=environment(**variables),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 130
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


SCRIPT = ROOT / "ddqjobs/cli/ddqjobs.sh"


def installed(folder: Path, entry: str) -> Path:
    """Install the script beside an entry point of one's own, as an installer of wheels does; return it."""
    folder.mkdir()
    for name, text in (("ddqjobs", SCRIPT.read_text()), ("_ddqjobs", f"#!{sys.executable}\n{entry}")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder / "ddqjobs"


def test_the_script_holds_ctrl_c_back_until_the_program_answers_it(tmp_path: Path) -> None:
    entry = """
import os, signal, sys
os.kill(os.getpid(), signal.SIGINT)  # as if it came while Python starts: a traceback, if it were not held
from ddqjobs.cli.main import main
main()
"""
    program = installed(tmp_path / "bin", entry)
    link = tmp_path / "elsewhere"  # as uv and pipx make it
    link.symlink_to(program)
    for called in (program, link):
        ran = subprocess.run([called, "--version"], env=environment(), capture_output=True, text=True)
        assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_the_script_passes_on_words_and_exit_code(tmp_path: Path) -> None:
    program = installed(tmp_path / "a folder", "import sys; print(sys.argv[1:]); sys.exit(3)")
    ran = subprocess.run([program, "--", "a b", "*"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (3, "['--', 'a b', '*']\n")


def test_the_script_starts_the_program_where_env_cannot_hold_signals_back(tmp_path: Path) -> None:
    program = installed(tmp_path / "bin", "import sys; print(len(sys.argv))")
    old = tmp_path / "old"  # coreutils before 8.31, or busybox
    old.mkdir()
    (old / "env").write_text("#!/bin/sh\necho \"env: unrecognized option '$1'\" >&2\nexit 125\n")
    (old / "env").chmod(0o755)
    ran = subprocess.run(
        [program, "plan"], env={"PATH": f"{old}:{os.environ['PATH']}"}, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")


def test_children_of_the_command_hear_ctrl_c(tmp_path: Path) -> None:
    entry = """
import subprocess, sys
from ddqjobs.cli.interrupts import leave_at_once
leave_at_once()
print(subprocess.check_output(["grep", "SigBlk", "/proc/self/status"], text=True))
"""
    ran = subprocess.run(
        [installed(tmp_path / "bin", entry)], env=environment(), capture_output=True, text=True
    )
    assert int(ran.stdout.split()[1], 16) & 1 << (signal.SIGINT - 1) == 0
