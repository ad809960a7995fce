"""process.py: real commands, real process trees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ddqjobs.base import process


def until(condition: Callable[[], object], limit: float = 30.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return process.alive(process.identify(pid))
    except ProcessLookupError:
        return False


def test_output_code_and_argv_come_back() -> None:
    done = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (done.code, done.stdout, done.stderr, done.timed_out) == (3, "out\n", "err\n", False)
    assert done.argv[0] == "sh"


@pytest.mark.parametrize("word", ["a'; echo foo", "$(id)", "`id`", "a b\nc", "é", "*", ""])
def test_words_are_not_shell(word: str) -> None:
    assert process.run(["printf", "%s", word], timeout=10).stdout == word


def test_stdin_is_closed_or_what_is_given() -> None:
    assert process.run(["cat"], timeout=10).stdout == ""
    big = "zeile\n" * 100_000
    assert process.run(["cat"], timeout=10, stdin=big).stdout == big


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert process.run(["printf", r"\377a"], timeout=10).stdout == "�a"


def test_environment_and_folder(tmp_path: Path) -> None:
    variables = {"A": "1", "PATH": os.defpath}
    done = process.run(["sh", "-c", "echo $A; pwd"], timeout=10, env=variables, cwd=tmp_path)
    assert done.stdout == f"1\n{tmp_path}\n"


def test_a_signal_is_a_negative_code() -> None:
    assert process.run(["sh", "-c", "kill -9 $$"], timeout=10).code == -signal.SIGKILL


def test_a_program_that_is_not_there() -> None:
    done = process.run(["no-such-program"], timeout=10)
    assert done.code == process.NOT_STARTED
    assert "no-such-program" in done.stderr


def test_time_out_kills_the_whole_group_and_keeps_the_output(tmp_path: Path) -> None:
    script = f"echo before; sleep 600 & echo $! > '{tmp_path}/pid'; wait"
    done = process.run(["sh", "-c", script], timeout=1)
    assert done.timed_out
    assert done.code == -signal.SIGKILL
    assert done.stdout == "before\n"
    until(lambda: not runs(int((tmp_path / "pid").read_text())))


def test_a_child_that_stays_behind_does_not_hold_us_up() -> None:
    began = time.monotonic()
    done = process.run(["sh", "-c", "sleep 20 & echo $!"], timeout=15)
    assert time.monotonic() - began < 15
    assert done.code == 0
    os.kill(int(done.stdout), signal.SIGKILL)


def test_a_process_is_known_until_it_ends() -> None:
    child = subprocess.Popen(["sleep", "600"])
    owner = process.identify(child.pid)
    assert process.alive(owner)
    assert process.alive(process.myself())
    child.kill()
    until(lambda: not process.alive(owner))  # a zombie is not alive
    child.wait()
    assert not process.alive(owner)
    with pytest.raises(ProcessLookupError):
        process.identify(child.pid)


def test_same_pid_but_another_start_boot_or_host() -> None:
    me = process.myself()
    assert not process.alive(msgspec.structs.replace(me, start=me.start + 1))
    assert not process.alive(msgspec.structs.replace(me, boot="other"))
    assert process.alive(msgspec.structs.replace(me, host="elsewhere", pid=1))  # nobody here can know


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "600"])
    try:
        until(lambda: b"600" in Path(f"/proc/{child.pid}/cmdline").read_bytes())
        assert process.alive(process.identify(child.pid))
        assert child.pid in process.children(os.getpid())
    finally:
        child.kill()
        child.wait()


def test_a_daemon_is_nobodys_child_and_has_its_own_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = process.spawn_detached(["sh", "-c", "echo hello; echo oops >&2; exec sleep 600"], log=log)
    try:
        assert pid not in process.children(os.getpid())
        assert os.getsid(pid) != os.getsid(0)
        until(lambda: sorted(log.read_text().split()) == ["hello", "oops"])
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid))


def test_a_daemon_inherits_only_the_descriptors_it_is_handed(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as inherited_file, (tmp_path / "other").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        names = "import os\nfor n in os.listdir('/proc/self/fd'):\n if os.path.exists('/proc/self/fd/' + n):"
        argv = [sys.executable, "-c", names + " print(os.readlink('/proc/self/fd/' + n))\nprint('end')"]
        process.spawn_detached(argv, log=tmp_path / "log", keep=(inherited_file.fileno(),))
        until(lambda: (tmp_path / "log").exists() and "end" in (tmp_path / "log").read_text())
    output = (tmp_path / "log").read_text()
    assert str(tmp_path / "kept") in output
    assert str(tmp_path / "other") not in output


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.spawn_detached(["no-such-program"], log=tmp_path / "log")


def test_processes_are_found_by_their_environment_and_last_argument() -> None:
    child = subprocess.Popen(["sleep", "600.125"], env={"MARK": "a=b", "PATH": os.defpath})
    try:
        until(lambda: process.with_last_argument("600.125") == [child.pid])
        assert process.with_last_argument("0.125") == []
        until(lambda: process.with_environment({"MARK": "a=b"}) == [child.pid])
        assert process.with_environment({"MARK": "a"}) == []
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("way", ["time-out", "Ctrl-C"])
def test_what_a_command_started_in_another_group_ends_with_it(tmp_path: Path, way: str) -> None:
    """As ninja starts compilers."""
    pid = tmp_path / "pid"
    argv = ["bash", "-c", f"set -m; sleep 60 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"]
    if way == "time-out":
        assert process.run(argv, timeout=0.5).timed_out
    else:

        def interrupt() -> None:
            until(pid.exists)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            process.run(argv, timeout=60)
    assert not runs(int(pid.read_text()))
