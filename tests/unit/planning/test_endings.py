"""The line that ended a task is found in what real crashes leave, and its class is right.

tests/recorded/endings/provoke.py made most of them; facts.json has what other programs say, line by line.
"""

from __future__ import annotations

import json

import pytest

from ddqjobs.planning import endings
from ddqjobs.planning.failures import SUSPECT, classify
from ddqjobs.planning.retries import BUDGETS
from ddqjobs.spec.model import FailureClass as F
from tests.support import paths

FOLDER = paths.RECORDED / "endings"
EXPECTED: dict[str, tuple[int, str, str]] = json.loads((FOLDER / "expected.json").read_text())
FACTS: dict[str, tuple[int, str, str]] = json.loads((FOLDER / "facts.json").read_text())
UNSEEN: dict[str, tuple[int, str, str]] = json.loads((FOLDER / "unseen.json").read_text())
BLIND: dict[str, tuple[int, str, str, str]] = json.loads((FOLDER / "blind.json").read_text())
BLIND_2: dict[str, tuple[int, str, str, str]] = json.loads((FOLDER / "blind-2.json").read_text())
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\n    main()\n'


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_provoked_crash_has_its_class_and_its_line(name: str) -> None:
    code, failure, fragment = EXPECTED[name]
    failure_class, reason = classify(code, (FOLDER / f"{name}.txt").read_text())
    assert (failure_class.value, fragment in reason) == (failure, True), reason


@pytest.mark.parametrize("name", sorted(FACTS))
def test_a_line_that_is_known_has_its_class(name: str) -> None:
    code, failure, text = FACTS[name]
    assert classify(code, text)[0].value == failure


def test_of_endings_that_the_rules_were_not_completed_with_three_hangs_are_wrong() -> None:
    wrong = {n for n, (code, failure, text, _) in BLIND_2.items() if classify(code, text)[0].value != failure}
    assert (len(BLIND_2), wrong) == (
        60,
        {"allreduce-numel1-abort", "faulthandler-timeout", "xla-rendezvous-stuck"},
    )


def test_endings_that_the_rules_had_not_seen_are_right_but_for_these() -> None:
    """docs/measurements/failures.md has what they were before the rules were completed."""
    wrong = {
        name for name, (code, failure, text) in UNSEEN.items() if classify(code, text)[0].value != failure
    }
    assert wrong == {"2-mig-invalid"}
    assert all(failure in {f.value for f in F} for _, failure, _ in UNSEEN.values())


def test_endings_by_somebody_who_had_not_seen_the_rules_are_right() -> None:
    """docs/measurements/failures.md has how many were before the rules were completed."""
    wrong = {
        name for name, (code, failure, text, _) in BLIND.items() if classify(code, text)[0].value != failure
    }
    assert wrong == set()


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: invalid device ordinal",
        "RuntimeError: CUDA error: too many resources requested for launch",
        "RuntimeError: CUDA error: operation not permitted when stream is capturing",
        "RuntimeError: CUDA error: invalid resource handle",
        "RuntimeError: CUDA error: initialization error",
        "OSError: [Errno 22] Invalid argument: '/data/a:b'",
        "OSError: [Errno 36] File name too long: '/data/a.jpg'",
        "OSError: [Errno 8] Exec format error: '/opt/train'",
    ],
)
def test_what_fails_alike_on_every_node_is_not_repeated(line: str) -> None:
    assert classify(1, f"{TRACEBACK}{line}\n") == (F.CODE, f"exit 1, {line}")


@pytest.mark.parametrize("message", ["unknown error", "hardware stack error", "unspecified launch failure"])
def test_what_a_gpu_says_of_itself_is_the_fault_of_its_node(message: str) -> None:
    assert classify(1, f"{TRACEBACK}RuntimeError: CUDA error: {message}\n")[0] is F.NODE


def test_of_several_ranks_the_first_that_died_is_named() -> None:
    log = (
        f"{TRACEBACK}torch.distributed.DistBackendError: NCCL error: Connection closed by peer\n"
        "[rank3]: Traceback (most recent call last):\n[rank3]:   File \"train.py\", line 1, in <module>\n"
        "[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n"
        "[rank0]: Traceback (most recent call last):\n[rank0]:   File \"train.py\", line 1, in <module>\n"
        "[rank0]: RuntimeError: [../gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:4\n"
    )  # fmt: skip
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert classify(1, log) == (F.OUT_OF_MEMORY, f"GPU memory (exit 1, rank 3 first), {line}")


def test_of_chained_exceptions_the_last_counts_and_warnings_never() -> None:
    log = (
        f"{TRACEBACK}ModuleNotFoundError: No module named 'apex'\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        f"{TRACEBACK}AssertionError: lr must be positive\n"
        "a.py:1: UserWarning: libc10_cuda.so: cannot open shared object file\n  warn(1)\n"
    )
    assert endings.find(log).lines == ("AssertionError: lr must be positive",)
    assert classify(1, log) == (F.CODE, "exit 1, AssertionError: lr must be positive")


def test_what_the_kernel_says_goes_before_what_python_says() -> None:
    log = f"{TRACEBACK}RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed. \n"
    assert classify(1, log)[0] is F.LIMIT
    killed = "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0.\n"
    assert classify(1, log + killed)[0] is F.OUT_OF_MEMORY


def test_only_what_a_node_may_be_guilty_of_makes_it_suspect() -> None:
    assert {F.NODE, F.HANG} == SUSPECT
    assert all(BUDGETS[failure] > 0 for failure in SUSPECT | {F.NETWORK, F.LIMIT})
