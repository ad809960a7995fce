"""The shell's completion: which words it offers in bash, zsh and fish, and the cache that they come from."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ddqjobs.base.version import VERSION
from ddqjobs.cli import completion
from ddqjobs.cli.commands import app
from tests.support.cli import Place, environment, opened

VARIANT = """
base: tiny
name: more
variants: {fast: {}}
tasks:
  second: {variants: [fast], seeds: [1, 2]}
"""


MAIN = [
    sys.executable,
    "-c",
    "import sys; from ddqjobs.cli.main import main; sys.argv[0] = 'ddqjobs'; main()",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with opened(tmp_path / "project") as project:
        yield project


def offered(place: Place, arguments: str, shell: str = "bash") -> list[str]:
    """Return what a shell offers for the last of some words; what is between quotes for zsh."""
    line = f"ddqjobs {arguments}".replace(" -C ", f" -C {place.root} ")
    variables = {
        "_DDQJOBS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ran = CliRunner().invoke(app, [], env=variables, prog_name="ddqjobs")
    assert ran.exit_code == 0
    if shell == "zsh":
        return re.findall(r'[(\n]"([^"]*)"', ran.stdout)
    return [line.partition("\t")[0] for line in ran.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_runs_filters_and_environments_are_completed(place: Place, shell: str) -> None:
    assert offered(place, "plan -C tiny se", shell) == ["second.m1", "second.m2"]
    assert offered(place, "status -C tiny --model ", shell) == ["m1", "m2"]
    assert offered(place, "site show ncsa", shell) == ["ncsa-delta"]
    assert offered(place, "env build mini-", shell) == ["mini-legacy", "mini-new"]
    assert "--model" in offered(place, "status --mo", shell)
    assert offered(place, "status --st", shell) == ["--state"]


def test_every_filter_knows_what_there_is(place: Place) -> None:
    place.text("experiments/more.yaml", VARIANT)
    assert offered(place, "plan -C more second.m1") == ["second.m1.fast.s1", "second.m1.fast.s2"]
    assert offered(place, "plan -C more --variant ") == ["default", "fast"]
    assert offered(place, "plan -C more --phase ") == ["1"]
    assert offered(place, "submit -C more --task s") == ["second"]
    assert offered(place, "cancel -C tiny --state qu") == ["queued"]
    assert offered(place, "adopt -C --from mo") == ["more"]
    assert {"tiny", "more", "mini"} <= set(offered(place, "plan -C "))
    assert "first" not in offered(place, "plan -C ")  # of which of the two experiments?


def test_names_are_kept_until_a_file_changes(place: Place) -> None:
    place.text("experiments/more.yaml", VARIANT)
    offered(place, "plan -C more ")
    assert not (place.root / "results").exists()  # looking leaves nothing behind
    (place.root / "results").mkdir()  # of whatever: nothing was submitted
    offered(place, "plan -C more ")
    assert list((place.root / "results").iterdir()) == []
    place.invoke("submit", "tiny", "first")
    before = offered(place, "plan -C more ")
    cache = place.root / "results" / completion.CACHE
    cache.write_text(cache.read_text().replace('"wait"', '"kept"'))
    assert set(offered(place, "plan -C more ")) ^ set(before) == {"wait", "kept"}  # nothing is read again
    tiny = place.root / "experiments" / "tiny.yaml"  # which `more` inherits
    tiny.write_text(tiny.read_text().replace("wait:", "linger:"))
    assert set(offered(place, "plan -C more ")) ^ set(before) == {"wait", "linger"}
    for other in ("torn", "[]", '{"version": 1}', json.dumps({"version": VERSION, "experiments": [1]})):
        cache.write_text(other)
        assert "linger" in offered(place, "plan -C more ")
        assert "linger" in cache.read_text()
    tiny.write_text("nothing: [that is an experiment")
    assert offered(place, "plan -C more ") == []
    bomb = {f"k{n}": list(range(60)) for n in range(4)}  # 13 million runs
    tiny.write_text("base: mini\nname: tiny\ntasks: {p3-train: {grid: " + json.dumps(bomb) + "}}\n")
    assert offered(place, "plan -C tiny ") == []


def test_an_experiment_that_cannot_be_read_hides_no_values_of_others(place: Place) -> None:
    place.text("experiments/more.yaml", VARIANT)
    place.text("experiments/broken.yaml", "nothing: [that is an experiment")
    for _ in range(2):  # read, then kept
        assert offered(place, "plan -C --model ") == ["m1", "m2"]
        assert offered(place, "plan -C --variant f") == ["fast"]


def test_names_are_kept_for_the_user_before_the_first_submission(place: Place) -> None:
    cache = place.root.parent / "cache" / "ddqjobs" / "names.json"
    before = offered(place, "plan -C tiny ")
    cache.write_text(cache.read_text().replace('"wait"', '"kept"'))
    assert set(offered(place, "plan -C tiny ")) ^ set(before) == {"wait", "kept"}  # nothing is read again
    content = json.loads(cache.read_text())
    (entry,) = content["experiments"].values()
    cache.write_text(json.dumps({**content, "experiments": {f"/else/{n}: tiny": entry for n in range(60)}}))
    assert offered(place, "plan -C tiny ") == before  # another folder's experiment of that name is none
    assert len(json.loads(cache.read_text())["experiments"]) == 40
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.write_text("in the way")
    assert offered(place, "plan -C tiny ") == before


def test_the_folder_may_be_below_home(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place.root.parent))
    assert offered(place, f"plan --project ~/{place.root.name} tiny se") == ["second.m1", "second.m2"]


def test_bash_itself_completes_and_shows_words_alone(place: Place) -> None:
    program = place.text("bin/ddqjobs", "#!/bin/sh\necho Traceback >&2\nexec " + shlex.join(MAIN) + ' "$@"\n')
    program.chmod(0o755)
    script = """
eval "$(_DDQJOBS_COMPLETE=source_bash ddqjobs)"
COMP_WORDS=(ddqjobs plan tiny fi) COMP_CWORD=3
_ddqjobs_completion ddqjobs fi tiny
echo "${COMPREPLY[@]}"
"""
    variables = environment(PATH=f"{program.parent}:{os.environ['PATH']}")
    ran = subprocess.run(
        ["bash", "-c", script], cwd=place.root, env=variables, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("first\n", "Traceback\n")  # of the script that it sources


def program(place: Place) -> dict[str, str]:
    """Variables of a shell that finds ``ddqjobs``."""
    script = place.text("bin/ddqjobs", "#!/bin/sh\nexec " + shlex.join(MAIN) + ' "$@"\n')
    script.chmod(0o755)
    return environment(PATH=f"{script.parent}:{os.environ['PATH']}", HOME=str(place.root), TERM="dumb")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="NOT TESTED IN FISH: apt install fish")
def test_fish_itself_completes(place: Place) -> None:
    script = """
env _DDQJOBS_COMPLETE=source_fish ddqjobs | source
complete --do-complete "ddqjobs plan tiny se"
complete --do-complete "ddqjobs status tiny --model "
"""
    variables = program(place)
    ran = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=place.root, env=variables, capture_output=True, text=True
    )
    assert (ran.stdout.split(), ran.stderr) == (["second.m1", "second.m2", "m1", "m2"], "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="NOT TESTED IN ZSH: apt install zsh")
def test_zsh_itself_completes_the_word_under_the_cursor(place: Place) -> None:
    script = """
zmodload zsh/zpty
zpty inside zsh -f -i
zpty -w inside 'autoload -Uz compinit; compinit -u -D; PS1=; unsetopt zle_bracketed_paste'
zpty -w inside 'eval "$(_DDQJOBS_COMPLETE=source_zsh ddqjobs)"; echo rea''dy'
zpty -r inside seen '*ready*'
zpty -w -n inside $'echo ddqjobs >/dev/null; ddqjobs plan tiny fi\t'
zpty -r inside seen '*first*'
print -r -- "$seen"
zpty -d inside
"""
    variables = program(place)
    ran = subprocess.run(
        ["zsh", "-f", "-c", script], cwd=place.root, env=variables, capture_output=True, text=True, timeout=60
    )
    assert "ddqjobs plan tiny first" in re.sub(r"[^ -~]", "", ran.stdout), ran


@pytest.mark.parametrize(("shell", "calls"), [("bash", 1), ("zsh", 1), ("fish", 2)])
def test_what_a_completion_prints_beside_its_words_is_dropped(place: Place, shell: str, calls: int) -> None:
    for arguments, variables in (
        ([], {"_DDQJOBS_COMPLETE": f"source_{shell}"}),
        (["--show-completion", shell], {}),
    ):
        ran = subprocess.run(
            [*MAIN, *arguments],
            cwd=place.root,
            env=environment(**variables, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
            capture_output=True,
            text=True,
        )
        assert ran.stdout.count("2>/dev/null") == calls, (arguments, ran.stdout, ran.stderr)
