"""A shell in a run's environment, on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, Terminal, opened
from tests.support.hostile import HOSTILE
from tests.support.shell import RUN, TREE


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "a project", TREE) as project:
        yield project


def test_one_command_sees_what_the_run_sees_and_counts_for_nothing(place: Place) -> None:
    place.invoke("submit", "data", "--wait")
    ran = place.call("shell", RUN, "-c", 'env; pwd; cat "$DDQJOBS_INPUT_DATA"; exit 7')
    assert ran.code == 7
    lines = ran.out.splitlines()
    assert lines[-2:] == [str(place.root), "x"]
    assert {f"MINE=a b'{RUN}", f"DDQJOBS_RUN={RUN}", "DDQJOBS_SEED=7", "OMP_NUM_THREADS=1"} <= set(lines)
    code = next(line.removeprefix("DDQJOBS_CODE=") for line in lines if line.startswith("DDQJOBS_CODE="))
    assert (Path(code) / "ddqjobs" / "detect" / "train.py").is_file()
    assert f"PYTHONPATH=mine:{code}" in ran.out
    assert not [line for line in lines if line.startswith(("DDQJOBS_CLAIM=", "DDQJOBS_RUN_DIR="))]
    assert place.attempts(RUN) == 0
    assert place.states()[RUN] == "eligible"
    assert not list((place.root / "results/tiny/shells").iterdir())


def test_nothing_of_a_hostile_shell_enters(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.invoke("submit", "data", "--wait")
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    ran = place.call("shell", RUN, "-c", "env")
    assert ran.code == 0
    names = [line.partition("=")[0] for line in ran.out.splitlines()]
    assert sorted({*HOSTILE} & {*names}) == [
        "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PET_MAX_RESTARTS",
        "PYTHONPATH",
    ]  # fmt: skip
    assert "poison" not in ran.out
    assert "OMP_NUM_THREADS=1" in ran.out


def test_the_run_s_own_command_is_at_hand_and_what_it_leaves_stays(place: Place) -> None:
    place.invoke("submit", "data", "--wait")
    ran = place.call("shell", RUN, "-c", 'eval "$DDQJOBS_COMMAND"; cat "$DDQJOBS_WORK_DIR/o"')
    assert (ran.code, ran.out) == (0, "seed 7\nx\n")
    match = re.search(r"stays: [^:]+:(/\S+)", ran.err)
    assert match is not None
    assert (Path(match[1]) / "o").read_text() == "x\n"


def test_a_run_of_several_processes_is_entered_as_one(place: Place) -> None:
    launched = TREE.replace("shell: {path: .,", "shell: {path: ., launcher: torchrun,")
    several = launched.replace("inputs: {data", "resources: {nodes: 2, gpus: 8}, inputs: {data")
    place.text("experiments/tiny.yaml", several.replace("[sh, -c, 'cp", '["{python}", -c, \'cp'))
    ran = place.call("shell", RUN, "-c", 'echo "in $DDQJOBS_RUN"; echo "$DDQJOBS_COMMAND"')
    assert (ran.code, ran.out.splitlines()[0]) == (0, f"in {RUN}")
    assert "ddqjobs.detect.launch torchrun" in ran.out


def test_an_input_that_is_missing_is_told(place: Place) -> None:
    ran = place.call("shell", RUN, "-c", "true")
    assert ran.code == 0
    assert "ddqjobs: input DATA is missing: " in ran.err


def test_on_a_terminal_it_says_what_it_gives_and_ctrl_c_is_the_shell_s(place: Place) -> None:
    terminal = Terminal(place, "shell", RUN, columns=400)
    terminal.read_until(f"({RUN})")
    terminal.type("bash -c \"echo 'be''gun'; exec sleep 100\"\r")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until(f"({RUN})", times=2)
    terminal.type('echo "[$DDQJOBS_RUN]"; exit 3\r')
    output = terminal.read_until(f"[{RUN}]")
    assert terminal.close()[0] == 3
    assert f"{RUN}, here, in no slot of the local site" in output
    assert "this shell is not an attempt; exit leaves it" in output


def test_what_it_refuses(place: Place) -> None:
    for arguments, message in (
        (("shell", "tiny", "-c", "x"), "shell enters one run at a time; name one of data, train.s7"),
        (("shell", RUN), "a shell needs a terminal; --command 'COMMAND' runs one command without it"),
        (("shell", RUN, "--json", "-c", "x"), "--json goes with --dry-run"),
        (("shell", RUN, "-c", "x", "--time", "soon"), "--time: 'soon' is not a valid duration"),
        (("shell", RUN, "-c", "x", "--gpus", "1"), "--gpus is for an allocation, and site local has none"),
        (("shell", RUN, "-c", "x", "--time", "2h"), "--time is for an allocation, and site local has none"),
        (("shell", RUN, "-c", "x", "--site", "bscc"), "nothing is known of interactive jobs in Donau"),
    ):
        ran = place.call(*arguments)
        assert (ran.code, ran.out) == (2, ""), ran
        assert message in ran.err


def test_dry_run_shows_the_allocation_and_the_script(place: Place) -> None:
    site = {
        "name": "far",
        "scheduler": "slurm",
        "slurm": {"partition": "gpu", "account": "p1", "mail": "a@b"},
    }
    place.write("templates/far/site.yaml", {**site, "modules": ["cuda/11"], "cpus_per_gpu": 6})
    ran = place.invoke("shell", RUN, "--site", "far", "--gpus", "2", "--time", "90m", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["argv"] == [
        "srun", "--nodes=1", "--ntasks=1", "--job-name=tiny.shell", "--account=p1", "--partition=gpu",
        "--cpus-per-task=12", "--gres=gpu:2", "--time=0-01:30:00", "--pty", "bash",
    ]  # fmt: skip
    assert "module load cuda/11 || {" in ran.json["script"]


def test_a_path_of_the_setup_lines_chooses_python_only_without_an_environment(place: Place) -> None:
    place.text("envs/own/env.yaml", 'name: own\npython: "3.11"\n')
    place.text("own/bin/activate", "")
    for folder in ("own/bin", "conda/bin"):
        for name in ("python", "python3"):
            place.text(f"{folder}/{name}", "#!/bin/sh\n").chmod(0o755)
    setup = [f'export PATH="{place.root}/conda/bin:$PATH" CONDA_PREFIX="{place.root}/conda"']
    site = {"name": "local", "scheduler": "local", "setup": setup}
    place.write("templates/local/site.yaml", {**site, "activate": {"own": "own/bin/activate"}})
    experiment = place.text("experiments/tiny.yaml", TREE)
    for environment, folder in (("", "conda"), ("environment: own, ", "own")):
        experiment.write_text(TREE.replace("{path: .,", "{" + environment + "path: .,"))
        typed = 'command -v "$DDQJOBS_PYTHON" python; echo "prefix ${CONDA_PREFIX-}"'
        ran = place.call("shell", "data", "-c", typed)
        python = "python3" if folder == "conda" else "python"
        bin_folder = place.root / folder / "bin"
        assert ran.out.splitlines() == [f"{bin_folder}/{python}", f"{bin_folder}/python", "prefix "], ran
