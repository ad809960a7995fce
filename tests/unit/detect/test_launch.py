"""One process per GPU, by the launcher that the installed torch has; a port that really is free."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from ddqjobs.base import process
from ddqjobs.detect import launch
from tests.support.paths import ROOT

JOB = {
    "DDQJOBS_NODES": "2",
    "DDQJOBS_NODE_RANK": "1",
    "DDQJOBS_GPUS": "8",
    "DDQJOBS_MASTER": "n1",
    "DDQJOBS_PORT": "20007",
}
WHERE = ["--nnodes=2", "--node_rank=1", "--nproc_per_node=8", "--master_addr=n1", "--master_port=20007"]
PROGRAM = ["/env/bin/python3.8", "tools/train.py", "cfg.py", "--work-dir", "a b"]


@pytest.mark.parametrize(
    ("kind", "torch", "start"),
    [
        ("torchrun", "1.8.1", ["torch.distributed.launch", "--use_env"]),
        ("torchrun", "1.9.0+cu111", ["torch.distributed.run"]),
        ("torchrun", "2.13.0", ["torch.distributed.run"]),
        ("torch.distributed.launch", "1.9.0+cu111", ["torch.distributed.launch"]),
        ("torch.distributed.launch", "1.13.1", ["torch.distributed.launch"]),
        # The launcher of torch 2 says --local-rank, which programs of that time refuse.
        ("torch.distributed.launch", "2.0.0+cu118", ["torch.distributed.run"]),
        ("torch.distributed.launch", "2.13.0", ["torch.distributed.run"]),
    ],
)
def test_the_launcher_follows_the_version_of_torch(kind: str, torch: str, start: list[str]) -> None:
    assert launch.words(kind, PROGRAM, torch, JOB) == [*start, *WHERE, *PROGRAM[1:]]


def test_without_a_word_of_the_job_it_is_one_process_here() -> None:
    argv = launch.words("torchrun", ["python", "-m", "x"], "2.1", {})
    assert argv[1:] == [
        "--nnodes=1", "--node_rank=0", "--nproc_per_node=1", "--master_addr=127.0.0.1", "--master_port=29500",
        "-m", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "torch", "job", "message"),
    [
        (["bash", "tools/train.sh"], "2.1", {}, "a launcher starts Python programs, not bash"),
        ([], "2.1", {}, "not nothing"),
        (PROGRAM, "nightly", {}, "invalid torch version 'nightly'"),
        (PROGRAM, "2.1", {"DDQJOBS_GPUS": "all"}, "DDQJOBS_GPUS: 'all' is not a number"),
    ],
)
def test_what_cannot_be_launched_is_one_line(
    command: list[str], torch: str, job: dict[str, str], message: str
) -> None:
    with pytest.raises(launch.CannotLaunch, match=message):
        launch.words("torchrun", command, torch, job)


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody would answer on it
        port = taken.getsockname()[1]
        assert launch.free_port(port) > port


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port"], ["torchrun", "bash", "x.sh"], []])
def test_as_a_command_it_says_what_is_wrong(arguments: list[str]) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "ddqjobs.detect.launch", *arguments]
    done = process.run(argv, timeout=60, env=variables)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("launch: ")
    assert len(done.stderr.splitlines()) == 1


# What is said or written last: by a thread, at the end, without flushing; and by what is taken down with the
# interpreter, as the threads of a process group are.
PROGRAM_OF_SEVERAL = """
import atexit, threading
from ddqjobs.detect.training import distributed

class TakenDown:
    def __init__(self):
        self.say = print
    def __del__(self):
        self.say("taken down", flush=True)

last = TakenDown()
ready = threading.Event()
threading.Thread(target=lambda: (ready.wait(), print("thread"))).start()
atexit.register(print, "at the end")
atexit.register(lambda: 1 / 0)
ready.set()
distributed.finish(75)
"""


@pytest.mark.parametrize(
    ("processes", "lines"), [("1", ["thread", "at the end", "taken down"]), ("2", ["thread", "at the end"])]
)
def test_of_several_none_takes_its_interpreter_down(processes: str, lines: list[str]) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": processes, "RANK": "0"}
    done = process.run([sys.executable, "-c", PROGRAM_OF_SEVERAL], timeout=60, env=variables)
    assert (done.code, done.stdout.splitlines()) == (75, lines)
    assert "ZeroDivisionError" in done.stderr
