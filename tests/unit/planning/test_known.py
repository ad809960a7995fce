"""The table of other programs' messages is complete, and of several messages the first cause decides."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from typing import Any

import pytest

from ddqjobs.planning import causes, failures, retries
from ddqjobs.planning.failures import classify
from ddqjobs.planning.known import errnos, python
from ddqjobs.planning.known.errnos import ERRNOS
from ddqjobs.spec.model import FailureClass as F
from ddqjobs.spec.model import Run, TaskKind
from ddqjobs.store.ledger import Finished
from tests.support import paths

TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 1, in main\n    main()\n'
STEP = (
    "srun: error: n1: task 1: {end}\nsrun: Terminating StepId=4711.0\n"
    "slurmstepd: error: *** STEP 4711.0 ON n1 CANCELLED AT 2026-11-29T10:00:00 ***\n"
    "srun: error: n1: task 0: Terminated\n"
)
WATCHDOG = (
    "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: Work()\n"
    "terminate called after throwing an instance of 'c10::DistBackendError'\n"
    "  what():  [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)\n"
)
PROGRESS = "2026/11/29 10:00:00 - mmengine - INFO - Epoch(train) [1][50/90] lr: 1e-4 loss: nan\n" * 5


def _corpus(name: str) -> dict[str, list[Any]]:
    corpus: dict[str, list[Any]] = json.loads((paths.RECORDED / f"endings/{name}.json").read_text())
    return corpus


def _of_rank(rank: int, text: str) -> str:
    return "".join(f"[rank{rank}]: {line}\n" for line in text.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")
def test_every_error_number_of_linux_has_a_class_and_its_own_text() -> None:
    assert set(errno.errorcode) <= set(ERRNOS)
    assert {number: row.text for number, row in ERRNOS.items()} == {
        number: os.strerror(number) for number in ERRNOS
    }


@pytest.mark.parametrize(
    ("code", "log", "failure"),
    [
        (1, TRACEBACK + "KeyError: 'x'\n" + STEP.format(end="Exited with exit code 1"), F.CODE),
        (139, STEP.format(end="Segmentation fault (core dumped)"), F.UNKNOWN),
        (1, _of_rank(1, TRACEBACK + "TypeError: x") + WATCHDOG, F.CODE),
        (134, WATCHDOG, F.HANG),
        (
            1,
            f"{TRACEBACK}json.JSONDecodeError: x\nException ignored in: <function Pool.__del__>\n{TRACEBACK}"
            "OSError: [Errno 24] Too many open files\n",
            F.DATA,
        ),
        (137, f"{TRACEBACK}requests.exceptions.ReadTimeout: wandb\n{PROGRESS}", F.UNKNOWN),
        (1, f"{TRACEBACK}PermissionError: [Errno 13] Permission denied: '/work/e.pth'\n", F.DATA),
        (1, f"{TRACEBACK}PermissionError: [Errno 13] Permission denied: '/work/e.pth'\n".replace(
            "    main()", "    torch.save(state, path)"), F.STORAGE),
        (127, "bash: line 4: /env/bin/python: No such file or directory\n", F.ENVIRONMENT),
        (1, f"NVRM: Xid (PCI:0000:3b:00): 79, pid=4\n{TRACEBACK}KeyError: 1\n", F.NODE),
        (1, f"NVRM: Xid (PCI:0000:3b:00): 31, pid=4\n{TRACEBACK}KeyError: 1\n", F.CODE),
    ],
)  # fmt: skip
def test_consequences_and_noise_do_not_decide_beside_a_first_cause(code: int, log: str, failure: F) -> None:
    assert classify(code, log)[0] is failure


def test_no_more_than_the_end_of_a_log_is_read() -> None:
    assert classify(1, "CUDA out of memory\n" + "." * failures._TAIL)[0] is F.CODE


@pytest.mark.parametrize("failure", F)
def test_no_class_is_retried_for_ever_whatever_progress_is_made(failure: F) -> None:
    run = Run(name="r", experiment="e", task="t", kind=TaskKind.TRAIN)
    ends = [Finished(run="r", ticket=str(i), failure=failure, progress=i) for i in range(40)]
    starts = [bool(after and after.allowed) for after in (retries.after(run, ends[:n]) for n in range(1, 41))]
    assert starts == sorted(starts, reverse=True)
    assert not starts[-1]


def test_a_reason_has_no_colon_of_ours() -> None:
    """The one that it may have stands between the class and the reason."""
    tables = (causes.BEFORE_NUMBERS.causes, causes.AFTER_NUMBERS.causes, python.KINDS)
    begins = {cause.begin for table in tables for cause in table} | {c.begin for *_, c in python.PLACES}
    begins |= set(errnos.BEGINNINGS.values())
    reasons = {reason for _, reason in (*failures.SIGNALS.values(), *failures.EXIT_CODES.values())}
    assert len(begins) > 20
    assert [text for text in begins | reasons if ":" in text] == []
    assert classify(1, f"{TRACEBACK}RuntimeError: CUDA out of memory\n") == (
        F.OUT_OF_MEMORY, "GPU memory (exit 1), RuntimeError: CUDA out of memory",
    )  # fmt: skip


def test_causes_that_are_left_aside_without_a_search_do_not_fit() -> None:
    texts = [text for name in ("facts", "unseen", "blind") for _, _, text, *_ in _corpus(name).values()]
    lines = {line for text in texts for line in text.splitlines()}
    assert len(lines) > 300
    for table in (causes.BEFORE_NUMBERS, causes.AFTER_NUMBERS):
        for line in lines:
            fits = (known for known in table.causes if re.search(known.pattern, line))
            assert table.first(line) == next(fits, None), line
