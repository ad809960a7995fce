"""The cause of an attempt's failure, told from its exit code and the end of its log."""

from __future__ import annotations

import pytest

from ddqjobs.planning.failures import EXIT_CODES, classify, signal_words
from ddqjobs.planning.retries import BUDGETS
from ddqjobs.spec.model import FailureClass as F


@pytest.mark.parametrize(
    ("code", "log", "failure", "reason"),
    [
        *((code, "x", F.CODE, f"exit {code}, x") for code in (66, 69, 70, 75, 77, 78, 160, 192, 200, 255)),
        (
            1,
            "x\nRuntimeError: CUDA out of memory. Tried\ny",
            F.OUT_OF_MEMORY,
            "GPU memory (exit 1), RuntimeError: CUDA out of memory. Tried",
        ),
        (
            1,
            "torch.cuda.OutOfMemoryError: CUDA",
            F.OUT_OF_MEMORY,
            "GPU memory (exit 1), torch.cuda.OutOfMemoryError: CUDA",
        ),
        (137, "Cannot allocate memory", F.OUT_OF_MEMORY, "host memory (exit 137), Cannot allocate memory"),
        (
            1,
            "numpy.core._exceptions.MemoryError: x",
            F.OUT_OF_MEMORY,
            "host memory (exit 1), numpy.core._exceptions.MemoryError: x",
        ),
        (1, "CUDA error: uncorrectable ECC error", F.NODE, "exit 1, CUDA error: uncorrectable ECC error"),
        (1, "OSError: [Errno 5] Input/output error", F.NODE, "exit 1, OSError: [Errno 5] Input/output error"),
        (
            1,
            "OSError: [Errno 28] No space left on device: 'e.pth'",
            F.STORAGE,
            "no room on a disk, free some (exit 1), OSError: [Errno 28] No space left on device: 'e.pth'",
        ),
        (
            1,
            "dd: Disk quota exceeded",
            F.STORAGE,
            "over quota, free some space (exit 1), dd: Disk quota exceeded",
        ),
        (
            1,
            "OSError: [Errno 116] Stale file handle",
            F.STORAGE,
            "a lost file server, mount it anew (exit 1), OSError: [Errno 116] Stale file handle",
        ),
        (
            1,
            "cp: x: Read-only file system",
            F.STORAGE,
            "a disk is read-only, mount it anew (exit 1), cp: x: Read-only file system",
        ),
        (
            1,
            "unable to write to file </torch_1_2>: No space left on device (28)",
            F.LIMIT,
            "shared memory (/dev/shm) is full, use fewer workers or enlarge it "
            "(exit 1), unable to write to file </torch_1_2>: No space left on device (28)",
        ),
        (1, "ModuleNotFoundError: none", F.ENVIRONMENT, "exit 1, ModuleNotFoundError: none"),
        (1, "x.so: undefined symbol: _Z", F.ENVIRONMENT, "exit 1, x.so: undefined symbol: _Z"),
        (2, "FileNotFoundError: a\nFileNotFoundError: b", F.DATA, "exit 2, FileNotFoundError: b"),
        (1, "FloatingPointError: loss is nan", F.DIVERGED, "exit 1, FloatingPointError: loss is nan"),
        (
            1,
            "ValueError: matrix contains invalid numeric entries",
            F.DIVERGED,
            "exit 1, ValueError: matrix contains invalid numeric entries",
        ),
        (
            1,
            "ValueError: cost matrix is infeasible",
            F.DIVERGED,
            "exit 1, ValueError: cost matrix is infeasible",
        ),
        (137, "", F.UNKNOWN, "killed (signal 9), out of memory or ended by the system"),
        (
            1,
            "  rank : 0\n  exitcode  : -9 (pid: 7)\nproduct: none: epoch_1.pth: No such file or directory",
            F.UNKNOWN,
            "killed (signal 9), out of memory or ended by the system",
        ),
        (
            1,
            "ValueError: no\nproduct: none: x.pth: No such file or directory\n",
            F.CODE,
            "exit 1, ValueError: no",
        ),
        (5, "boomproduct: none: out: nothing matches 'out.txt'\n", F.CODE, "exit 5, boom"),
        (139, "", F.UNKNOWN, "ended by signal 11"),
        (1, "Traceback\nValueError: no\n\n", F.CODE, "exit 1, ValueError: no"),
        (3, "", F.CODE, "exit 3"),
    ],
)
def test_exit_code_and_log_tell_the_class_and_the_reason(
    code: int, log: str, failure: F, reason: str
) -> None:
    assert classify(code, log) == (failure, reason)


def test_what_stands_far_above_the_end_of_the_log_is_not_the_reason() -> None:
    assert classify(1, "CUDA out of memory\n" + "epoch done\n" * 2000)[0] is F.CODE


def test_a_reason_is_one_line_of_a_length_that_can_be_read() -> None:
    _, reason = classify(1, "ImportError: " + "x" * 500)
    assert len(reason) < 180
    assert "\n" not in reason


def test_every_class_but_dependency_has_a_budget() -> None:
    assert set(BUDGETS) == set(F) - {F.DEPENDENCY}
    assert {failure for failure, _ in EXIT_CODES.values()} <= set(BUDGETS)


def test_a_signal_is_named_by_its_number() -> None:
    assert signal_words(143) == "ended by signal 15"


def test_a_task_that_may_not_write_its_results_any_more_is_no_fault_of_its_data() -> None:
    place = "/shared/lab/results/mini/runs/p3-train.m1/attempts/2/work_dir/epoch_1.pth"
    for error in (
        f"PermissionError: [Errno 13] Permission denied: '{place}'",
        f"bash: {place}: Permission denied",
    ):
        failure, reason = classify(1, f"Traceback (most recent call last):\n{error}\n")
        assert failure is F.STORAGE
        assert "no right to write there, fix its permissions" in reason
